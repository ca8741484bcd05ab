"""The certificate is right: beds are exact, orders are what they are known to be, and every law can be broken."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from experiments.certify import chosen_solvers
from experiments.configuration import compose, plain
from framework.build import USER_CONFIG, build
from framework.certify import continuous, laws, product, tokens
from framework.certify.bed import ContinuousBed, DoubleKey, reference, unit_schedule
from framework.certify.certificate import KINDS, SLACK, Certificate, Effort, certify, kind_of, order_check
from framework.certify.check import Check, attempt
from framework.certify.gaussian import GAUSSIAN
from framework.certify.gaussian_mixture import PLANE, PLANE_BED, SIXTEEN
from framework.certify.labelled import NO_LABEL, TWO_LABELS, LabelledBed
from framework.certify.laws import Bench
from framework.certify.observation import OBSERVED, Observation
from framework.certify.order import history, measure, measure_law
from framework.certify.orders import BEDS, Adaptive, continuous_orders
from framework.certify.paths import BASE, HIGH, LOW, MIDWAY
from framework.certify.paths import Path as Times
from framework.certify.pool import certify_all
from framework.certify.report import HEADINGS, markdown, plain_numbers, rows
from framework.certify.sets import SETS, SetBed
from framework.certify.slope import Measurement, fit
from framework.certify.variance import GaussianData
from framework.errors import UserError
from framework.grids import Karras, LogLinear, Quadratic, Trailing, UniformTime
from framework.noise import SampleKey
from framework.schedules import EDM, VE, Cosine, Flow, LinearVP
from framework.solvers.ddim import DDPM
from framework.solvers.dpmpp import DPMpp2M, DPMpp3MExact
from framework.solvers.edm import Euler, Heun
from framework.solvers.plan import Plan, Stage, first_order, nodes

ROOT = Path(__file__).parents[2]
SETTINGS = plain(compose("certify"))
SHIPPED = chosen_solvers(SETTINGS)
SLOW_ORDER = ("remdm",)  # order 1/2 only beyond a thousand steps; the page has its order


# Beds


@pytest.mark.parametrize("bed", BEDS, ids=lambda bed: bed.name)
def test_denoisers_are_the_gradient_of_a_density(bed: ContinuousBed) -> None:
    """D = y + u^2 grad log p, so its Jacobian is symmetric; and D(y) tends to y as u tends to 0, near the data."""
    samples = tuple(range(3))
    condition, denoiser = bed.condition(samples), bed.denoiser(unit_schedule())
    y = 0.8 * bed.noise(samples)
    t = torch.full((3,), 0.6, dtype=torch.float64)

    def clean(flat: Tensor) -> Tensor:
        return denoiser(flat.reshape(y.shape), t, condition).clean.flatten()  # type: ignore[union-attr]

    jacobian = torch.autograd.functional.jacobian(clean, y.flatten())
    torch.testing.assert_close(jacobian, jacobian.T, rtol=0, atol=1e-12)


def bayes(draws: Tensor, log_weights: Tensor, y: Tensor, u: float) -> Tensor:
    """E[x_0 | y] by weights N(y; x_0, u^2) over prior draws (n, ...)."""
    squares = (y[None] - draws).flatten(1).square().sum(1)
    share = (log_weights - squares / (2 * u**2)).softmax(0)
    return (share.reshape(-1, *[1] * (draws.ndim - 1)) * draws).sum(0)


def test_the_posterior_of_an_observation_is_bayes_rule() -> None:
    draws, u = PLANE.sample(400_000, seed=2), 0.5
    seen, matrix = torch.tensor([0.2]).double(), torch.tensor([[0.8, 0.6]]).double()
    likelihood = -(draws @ matrix.T - seen).square().sum(1) / (2 * 0.3**2)
    y = torch.tensor([[0.3, 0.1], [-0.7, 0.8]], dtype=torch.float64)
    got = OBSERVED.denoiser(unit_schedule())(y, torch.full((2,), u).double(), OBSERVED.condition((0, 1))).clean
    wanted = torch.stack([bayes(draws, likelihood, row, u) for row in y])
    torch.testing.assert_close(got, wanted, rtol=0, atol=0.01)
    share = likelihood.softmax(0)
    torch.testing.assert_close(Observation().posterior.mean, share @ draws, rtol=0, atol=0.01)


def test_labels_choose_components() -> None:
    bed, u = LabelledBed(), 0.5
    draws = TWO_LABELS.sample(400_000, seed=2)
    y = torch.tensor([[0.3, 0.1], [0.3, 0.1]], dtype=torch.float64)
    condition = bed.condition((0, 2))
    condition["label"] = torch.tensor([0, NO_LABEL])
    got = bed.denoiser(unit_schedule())(y, torch.full((2,), u).double(), condition).clean
    zero = torch.zeros(len(draws), dtype=torch.float64)
    torch.testing.assert_close(got[1], bayes(draws, zero, y[1], u), rtol=0, atol=0.01)  # type: ignore[index]
    parts = TWO_LABELS.responsibilities(draws, torch.ones(len(draws)).double(), zero + 1e-3)[0].softmax(-1)
    first = bayes(draws, parts[:, :2].sum(1).log(), y[0], u)
    torch.testing.assert_close(got[0], first, rtol=0, atol=0.02)  # type: ignore[index]


def test_references_agree_with_the_closed_form() -> None:
    """The Gaussian's flow by DOP853 and by its formula."""
    condition, y = GAUSSIAN.condition(range(4)), 80 * GAUSSIAN.noise(range(4))
    solved = super(type(GAUSSIAN), GAUSSIAN).flow(y, 80.0, 0.002, condition)
    torch.testing.assert_close(GAUSSIAN.flow(y, 80.0, 0.002, condition), solved, rtol=0, atol=PLANE_BED.floor / 10)


def test_wider_padding_and_other_batches_leave_a_sample_alone() -> None:
    a, b = SetBed(8), SetBed(11)
    torch.testing.assert_close(a.noise(range(4)), b.noise(range(4))[:, :8], rtol=0, atol=1e-14)
    torch.testing.assert_close(SETS.noise((3,)), SETS.noise(range(4))[3:], rtol=0, atol=0)
    assert SIXTEEN.dimensions == 16 and abs(sum(SIXTEEN.weights) - 1) < 1e-12


def test_double_keys_draw_the_same_numbers() -> None:
    key, like = SampleKey(0, (3, 5)), torch.zeros(())
    draws = DoubleKey(key).at(2).component("a").normal((4,), like)
    assert draws.dtype == torch.float64
    assert torch.equal(draws.float(), key.at(2).component("a").normal((4,), like))


# Orders


def test_a_power_law_has_its_power() -> None:
    steps, spread = (20, 40, 80, 160), np.linspace(0.5, 2.0, 33)
    order = fit(steps, np.array([spread * 7.0 * n**-3.0 for n in steps]), 1e-10)
    assert order.value == pytest.approx(3, abs=1e-9) and order.low == pytest.approx(3, abs=1e-9)
    drifting = fit(steps, np.array([spread * (n**-2.0 + 40 * n**-3.0) for n in steps]), 1e-10)
    assert drifting.value == pytest.approx(2.26, abs=0.01)
    assert drifting.low == pytest.approx(2, abs=0.15)  # to where it drifts


def test_errors_at_the_floor_say_nothing() -> None:
    steps = (20, 40, 80, 160)
    errors = np.array([[max(1e-3 * (20 / n) ** 8, 1e-13)] * 9 for n in steps])
    assert fit(steps, errors, 1e-10).value == pytest.approx(8, abs=1e-9)
    assert fit(steps, np.full((4, 9), 1e-14), 1e-10).value == math.inf
    assert fit(steps, np.full((4, 9), np.nan), 1e-10).value == -math.inf


def test_a_memory_needs_an_exact_start() -> None:
    """The third-order multistep formula is of order 3, and from its own second-order start of order 2."""
    exact, naive = (
        measure(DPMpp3MExact(), PLANE_BED, EDM(), MIDWAY.times((80, 160, 320)), reference(PLANE_BED, 80.0, 32), start)
        for start in (True, False)
    )
    assert exact.value == pytest.approx(3, abs=0.15)
    assert naive.value == pytest.approx(2, abs=0.3)


def test_history_counts_steps_and_not_stages() -> None:
    times = BASE.grid(BASE.schedule, 12)
    assert [history(s.plan(EDM(), times)) for s in (Euler(), Heun(), DPMpp2M(), DPMpp3MExact())] == [0, 0, 1, 2]


def test_stochastic_orders_need_no_sample() -> None:
    order = measure_law(DDPM(), LinearVP(), Times("vp", "karras", LinearVP(), Karras()).times((40, 80, 160, 320)))
    assert order.value == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("grid", [UniformTime(), Quadratic(), Trailing(), Karras(), LogLinear((50.0, 2.0, 0.1, 0.01))])
@pytest.mark.parametrize("schedule", [EDM(), Flow(), Cosine(), VE()], ids=lambda s: type(s).__name__)
def test_every_path_stays_away_from_the_ends(schedule: Any, grid: Any) -> None:
    ends = []
    for times in Times("", "", schedule, grid).times((40, 80, 160)):
        first, last = nodes(schedule, times[[0, -1]])
        assert bool((times.diff() < 0).all()) and last.sigma > 0 and first.alpha > 0
        ends.append((round(first.ratio, 6), last.ratio))
    assert len({first for first, _ in ends}) == 1  # the same start, however many steps
    assert ends[-1][1] > 0.5 * ends[0][1]
    if isinstance(grid, UniformTime):
        assert ends[0] == pytest.approx((HIGH, LOW), rel=1e-6)


# What a broken solver is told


@dataclass(frozen=True)
class Broken(Euler):
    """Euler, to be broken in one way at a time."""

    def plan(self, schedule: Any, times: Tensor) -> Plan:
        return tuple(first_order(i, t, s) for i, (t, s) in enumerate(pairwise(nodes(schedule, times))))


class Boastful(Broken):
    order: ClassVar[int] = 2


class Undercounting(Heun):
    evaluations_per_step = 1  # type: ignore[assignment]


class Biased(Broken):
    """Its coefficients do not follow a point mass."""

    def plan(self, schedule: Any, times: Tensor) -> Plan:
        return tuple(replace(stage, cleans=(stage.cleans[0] * 1.001,)) for stage in super().plan(schedule, times))


class TooNoisy(DDPM):
    """Its noise is too large by a third."""

    def plan(self, schedule: Any, times: Tensor) -> Plan:
        return tuple(replace(s, noises=tuple(4 / 3 * c for c in s.noises)) for s in super().plan(schedule, times))


class InLogTime(Broken):
    """A midpoint in t: it is not the same on another schedule."""

    order, evaluations_per_step = 2, 2  # type: ignore[assignment]

    def plan(self, schedule: Any, times: Tensor) -> Plan:
        stages: list[Stage] = []
        for i, (t, s) in enumerate(pairwise(nodes(schedule, times))):
            (m,) = nodes(schedule, [(t.time + s.time) / 2])
            whole = first_order(i, t, s)
            if t.alpha == 0 or s.sigma == 0:
                stages.append(whole)
                continue
            stages.append(first_order(i, t, m))
            stages.append(Stage(i, m.time, s.time, (0.0, whole.states[0]), whole.cleans))
        return tuple(stages)


class Logarithmic(Broken):
    """It takes a logarithm at alpha = 0."""

    def plan(self, schedule: Any, times: Tensor) -> Plan:
        stages = super().plan(schedule, times)
        (first,) = nodes(schedule, times[:1])
        return (replace(stages[0], cleans=(stages[0].cleans[0] + 0 * first.log_ratio,)), *stages[1:])


class Remembering(Broken):
    """It keeps something between runs."""

    runs: ClassVar[list[int]] = []

    def plan(self, schedule: Any, times: Tensor) -> Plan:
        self.runs.append(1)
        stages = super().plan(schedule, times)
        return (replace(stages[0], states=(stages[0].states[0] * (1 + 1e-6 * len(self.runs)),)), *stages[1:])


@dataclass(frozen=True)
class LoopOfMine:
    """Euler as a loop that is careless in a way of its own."""

    careless: str = ""
    order: ClassVar[int] = 1
    evaluations_per_step: ClassVar[int] = 1
    stochastic: ClassVar[bool] = False

    def run(
        self, denoiser: Any, process: Any, times: Tensor, x: Any, condition: Any, key: Any, hooks: Sequence[Any]
    ) -> Any:
        for index, (t, s) in enumerate(pairwise(nodes(process.schedule, times))):
            clean = denoiser(x, torch.full((len(x),), t.time, dtype=torch.float64), condition).clean
            stage = first_order(index, t, s)
            if self.careless == "in place":
                x *= stage.states[0]
                x += stage.cleans[0] * clean
                continue
            x = stage.states[0] * x + stage.cleans[0] * clean
            if self.careless == "batch":
                x = x - 1e-3 * x.mean(0)
            if self.careless == "padding":
                x = x + 1e-3
            if self.careless == "own noise":
                x = x + 1e-3 * torch.randn_like(x)
            if self.careless == "single":
                x = x.float()
        return x


def laws_of(solver: Any) -> dict[str, Callable[[], Check]]:
    """Every law of a continuous solver, on two schedules."""
    bench = Bench(solver, PLANE_BED, Flow())
    common = {law.__name__: partial(law, bench) for law in laws.COMMON}
    return common | continuous.laws(solver, {"flow": Flow(), "edm": EDM()})


def test_a_sound_loop_breaks_no_law() -> None:
    found = [attempt(name, law) for name, law in laws_of(LoopOfMine()).items()]
    assert [check for check in found if not check.passed] == []


@pytest.mark.parametrize(
    ("solver", "law"),
    [
        (Undercounting(), "evaluations"),
        (Biased(), "point_mass"),
        (TooNoisy(), "terminal_law"),
        (TooNoisy(), "ends"),
        (InLogTime(), "change_of_schedule"),
        (Logarithmic(), "few_steps"),
        (Logarithmic(), "ends"),
        (Remembering(), "seed"),
        (Remembering(), "threads"),
        (LoopOfMine("in place"), "input_kept"),
        (LoopOfMine("single"), "input_kept"),
        (LoopOfMine("batch"), "batch_split"),
        (LoopOfMine("padding"), "padding"),
        (LoopOfMine("own noise"), "seed"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_each_law_can_be_broken(solver: Any, law: str) -> None:
    assert attempt(law, laws_of(solver)[law]).passed is False


def test_a_solver_that_breaks_down_is_told_and_not_thrown() -> None:
    """One of many that are certified together must not take the others with it."""

    class Faulty(Broken):
        def plan(self, schedule: Any, times: Tensor) -> Plan:
            raise ZeroDivisionError("no such step")

    certificate = certify(Faulty(), Effort(points=4, schedules={"flow": Flow()}, laws=("seed",)))
    assert not certificate.passed and certificate.measured is None
    assert certificate.checks["order"].detail == "ZeroDivisionError: no such step"


def test_duplicate_times_must_be_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("framework.sampler.check_times", lambda times: times)
    bench = Bench(Euler(), PLANE_BED, Flow())
    assert attempt("duplicate_times", lambda: laws.duplicate_times(bench)).passed is False


def test_an_order_that_is_only_claimed_is_refused() -> None:
    certificate = certify(Boastful(), Effort(beds=(GAUSSIAN,), points=8, steps=(40, 80, 160), laws=("seed",)))
    assert not certificate.passed
    assert certificate.checks["order"].passed is False and certificate.checks["seed"].passed is True
    assert certificate.measured is not None and certificate.measured.value == pytest.approx(1, abs=0.1)


def test_what_is_no_solver_is_named() -> None:
    with pytest.raises(UserError, match="no order, evaluations_per_step, stochastic"):
        kind_of(object())
    with pytest.raises(UserError, match="is no solver"):
        kind_of(Euler)
    nothing = type("Nothing", (), {"order": 1, "evaluations_per_step": 1, "stochastic": False})
    with pytest.raises(UserError, match="neither `plan` nor `run`"):
        kind_of(nothing())


# What is shipped


FAST_LAWS = (
    "batch_split", "duplicate_times", "few_steps", "point_mass", "evaluations", "padding", "change_of_schedule"
)  # fmt: skip


def shipped(name: str) -> Any:
    return build(SHIPPED[name], USER_CONFIG)


def fast_order(solver: Any, kind: str) -> list[Measurement]:
    """One bed, few points and the finer grids only."""
    if kind != "continuous":
        return list(tokens.orders(solver, (16, 32, 64)) if kind == "categorical" else product.orders(solver))
    if isinstance(solver, Adaptive):
        return list(continuous_orders(solver, (PLANE_BED,), (), (), 8))
    grids = BASE.times((160, 320, 640))
    if solver.stochastic:
        order = measure_law(solver, BASE.schedule, grids, (GaussianData(0.5, 0.4),))
    else:
        order = measure(solver, PLANE_BED, BASE.schedule, grids, reference(PLANE_BED, 80.0, 16))
    return [Measurement(PLANE_BED.name, BASE.schedule_name, BASE.grid_name, "exact", order)]


@pytest.mark.parametrize("name", [name for name in SHIPPED if name not in SETTINGS["variants"]])
def test_every_shipped_solver_measures_what_it_declares(name: str) -> None:
    """The fast part of `diffract certify`; the page below has the whole of it."""
    solver = shipped(name)
    kind = kind_of(solver)
    if name not in SLOW_ORDER:
        check = order_check(solver.order, fast_order(solver, kind))
        assert check.passed is not False, check
    bench, schedules = Bench(solver, KINDS[kind], Flow()), {"flow": Flow(), "linear_vp": LinearVP()}
    asked: dict[str, Callable[[], Check]] = {law.__name__: partial(law, bench) for law in laws.COMMON}
    asked |= {"continuous": continuous, "categorical": tokens, "product": product}[kind].laws(solver, schedules)
    found = [attempt(law, asked[law]) for law in FAST_LAWS if law in asked]
    assert [check for check in found if check.passed is False] == []


@pytest.fixture(scope="module")
def page() -> dict[str, dict[str, str]]:
    """The table of docs/certified.md: column by heading, for each solver."""
    lines = [line for line in (ROOT / "docs" / "certified.md").read_text().splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert tuple(cells[0]) == HEADINGS
    return {row[0].strip("`"): dict(zip(HEADINGS, row, strict=True)) for row in cells[1:]}


def test_the_page_has_every_solver(page: dict[str, dict[str, str]]) -> None:
    """Written anew by: diffract certify solver=all table=docs/certified.md"""
    assert set(page) == set(SHIPPED)


def test_the_page_has_what_the_solvers_declare_and_no_less_measured(page: dict[str, dict[str, str]]) -> None:
    for name, row in page.items():
        declared = float(shipped(name).order)
        assert row["certified"] == "yes", row
        if math.isinf(declared):
            assert (row["declares"], row["measured"]) == ("exact", "exact"), row
            continue
        assert float(row["declares"]) == declared, row
        numbers = re.fullmatch(r"([\d.]+) \[([\d.]+), ([\d.]+)\]", row["measured"])
        evaluations = row["evaluations a step"]
        assert numbers is not None, row
        measured, low = float(numbers[1]), float(numbers[2])
        assert measured >= declared - SLACK - 0.005, row
        if evaluations != "its own steps":  # tolerances give few and coarse counts: a wide interval
            assert low >= declared - 2 * SLACK - 0.005, row
        assert evaluations in (f"{shipped(name).evaluations_per_step}", "its own steps"), row


# The certificate as files


@pytest.fixture(scope="module")
def certificates() -> dict[str, Certificate]:
    effort = Effort(steps=(20, 40, 80, 160), points=8, beds=(GAUSSIAN,), schedules={"flow": Flow()}, laws=("seed",))
    solvers = {"euler": Euler(), "first_hitting": shipped("first_hitting"), "bad": Boastful(), "dpmpp_2m": DPMpp2M()}
    return dict(certify_all(solvers, effort))


def test_json_is_strict_and_says_what_was_measured(certificates: dict[str, Certificate]) -> None:
    numbers = json.loads(json.dumps(plain_numbers(certificates), allow_nan=False))
    assert list(numbers) == ["bad", "dpmpp_2m", "euler", "first_hitting"]
    euler = numbers["euler"]
    assert euler["declared_order"] == 1 and euler["order_low"] <= euler["measured_order"] <= euler["order_high"]
    assert euler["passed"] and euler["checks"]["seed"]["passed"] and not numbers["bad"]["passed"]
    assert numbers["first_hitting"]["exact"] and numbers["first_hitting"]["measured_order"] is None
    starts = {order["start"] for order in numbers["dpmpp_2m"]["orders"]}
    assert starts == {"exact", "naive"} and numbers["dpmpp_2m"]["measured_order_naive_start"] > 1.8


def test_the_page_names_what_failed(certificates: dict[str, Certificate]) -> None:
    text = markdown(certificates)
    assert "| `bad` | 2 | " in text and "NO: order" in text
    assert len({len(row) for row in rows(certificates)} | {len(HEADINGS)}) == 1
