"""A plan written as a paper writes its method means what the paper's formula means."""

from __future__ import annotations

import math
import random
from itertools import pairwise

import pytest
import torch
from tensordict import TensorDict
from torch import Tensor

from framework.certify.bed import key_of
from framework.certify.gaussian_mixture import PLANE, MixtureDenoiser
from framework.grids import UniformTime
from framework.sampler import execute
from framework.schedules import EDM, Flow, LinearVP
from framework.solvers.dpmpp import DPMpp2M
from framework.solvers.edm import Heun
from framework.solvers.plan import Plan, Stage, nodes, table
from framework.solvers.plan import first_order as first_order_stage
from framework.solvers.walk import ZERO, Form, Walk, first_order
from framework.spaces import Euclidean
from tests.laws.test_schedules import SCHEDULES

SPACE, ROWS = Euclidean((2,)), 4
CONDITION = TensorDict({}, batch_size=[ROWS])
KEY = key_of(range(ROWS))


def value(form: Form, seen: dict[tuple[str, int], float]) -> float:
    return sum(c * seen[name] for name, c in form.terms.items())


def test_forms_add_and_scale_like_what_they_stand_for() -> None:
    seen = {("state", 0): 1.7, ("state", 1): -0.3, ("clean", 0): 0.9, ("noise", 2): 2.1}
    a, b, c = (Form({name: 1.0}) for name in list(seen)[:3])
    z = Form({("noise", 2): 1.0})
    x, y, d, n = seen.values()
    cases = [
        (a + b, x + y),
        (a - b, x - y),
        (-a, -x),
        (2 * a, 2 * x),
        (a * 2, 2 * x),
        (a / 4, x / 4),
        (0.5 * (a - 3 * (c - z)) + b / 2 - a, 0.5 * (x - 3 * (d - n)) + y / 2 - x),
        (ZERO + a, x),
        (sum([a, b, c], ZERO), x + y + d),
    ]
    for form, number in cases:
        assert value(form, seen) == pytest.approx(number)
    assert a.terms == {("state", 0): 1.0}  # nothing changed what it was made of


def test_lags_count_back_from_the_latest() -> None:
    form = Form({("state", 3): 1.0, ("state", 1): 2.0, ("clean", 0): 3.0, ("noise", 1): 0.0})
    assert form.lags(state=3, clean=2, noise=5) == {"state": (1.0, 0.0, 2.0), "clean": (0.0, 0.0, 3.0), "noise": ()}
    assert form.lags(state=4, clean=0)["state"] == (0.0, 1.0, 0.0, 2.0)
    assert ZERO.lags(state=0) == {"state": ()}


def test_what_cancels_leaves_no_coefficient() -> None:
    walk = Walk(Flow(), [1.0, 0.5, 0.0])
    first = walk.x
    second = walk.to(walk.grid[1], 0.5 * walk.x + walk.clean())
    walk.to(walk.grid[2], (second + first) - first)
    assert walk.plan()[1].states == (1.0,)


@pytest.mark.parametrize("seed", range(8))
def test_any_walk_computes_what_it_says(seed: int) -> None:
    """Random methods of random memory: the loop's result is the same formula on the tensors that it stands for."""
    chance, schedule = random.Random(seed), LinearVP()
    walk = Walk(schedule, UniformTime()(schedule, 5))
    denoiser = MixtureDenoiser(PLANE, schedule)
    x: Tensor = SPACE.noise(KEY, CONDITION)
    start, index = x, 0
    symbols, tensors = [walk.x], [x]
    for _, s in walk.steps():
        for node in [walk.between(0.5 * (walk.at.log_ratio + s.log_ratio))] * chance.randint(0, 2) + [s]:
            node = s if not math.isfinite(s.log_ratio) else node
            if chance.random() < 0.8:
                symbols.append(walk.clean())
                t = torch.full((ROWS,), walk.at.time, dtype=torch.float64)
                tensors.append(denoiser(x, t, CONDITION).clean)  # type: ignore[arg-type]
                assert walk.clean() == symbols[-1]  # asked again, it is the same
            if chance.random() < 0.6:
                symbols.append(walk.noise())
                path = (walk.at.snr, node.snr) if walk.at.snr < node.snr else None
                tensors.append(SPACE.noise(KEY.along(index + 1, path), CONDITION))
                assert walk.noise() == symbols[-1]
            used = [(chance.gauss(0, 0.5), i) for i in range(len(symbols)) if chance.random() < 0.5]
            symbol = walk.to(node, sum((c * symbols[i] for c, i in used), ZERO))
            x = sum((c * tensors[i] for c, i in used), torch.zeros_like(x))
            assert symbol == walk.x and walk.at == node
            symbols.append(symbol)
            tensors.append(x)
            index += 1
    got = execute(walk.plan(), denoiser, start, SPACE, CONDITION, KEY)
    torch.testing.assert_close(got, x, rtol=1e-9, atol=1e-9)


def test_a_noise_may_be_used_again() -> None:
    """Drawn in one stage and kept for the next: the second stage draws nothing and finds the first's."""
    walk = Walk(Flow(), [1.0, 0.5, 0.25])
    z = walk.noise()
    walk.to(walk.grid[1], walk.x + z)
    walk.to(walk.grid[2], walk.x - z)
    first, second = walk.plan()
    assert first.draw and not second.draw and second.noises == (-1.0,) and not first.evaluate
    x = SPACE.noise(KEY, CONDITION)
    got = execute(walk.plan(), MixtureDenoiser(PLANE, Flow()), x, SPACE, CONDITION, KEY)
    torch.testing.assert_close(got, x, rtol=0, atol=1e-12)


def test_noise_lies_on_the_brownian_path_only_downhill() -> None:
    """Towards data it is an increment between two signal-to-noise ratios; noise that is added back has no path."""
    walk = Walk(EDM(80.0), [0.5, 0.25, 0.1])
    high, middle, low = walk.grid
    for s in (middle, high, low):
        walk.to(s, walk.x + walk.noise())
    walk.to(low, walk.x + walk.noise(since=middle))
    paths = [stage.path for stage in walk.plan()]
    assert paths == [(high.snr, middle.snr), None, (high.snr, low.snr), (middle.snr, low.snr)]


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES.keys())
def test_between_finds_the_node(schedule: object) -> None:
    walk = Walk(schedule, UniformTime()(schedule, 4))  # type: ignore[arg-type]
    for log_ratio in (-1.5, 0.0, 2.0, 5.0):
        node = walk.between(log_ratio)
        assert node.log_ratio == pytest.approx(log_ratio, abs=1e-9) and 0 < node.time < 1
    assert walk.between(math.inf).sigma == 0 and walk.between(-math.inf).time == 1


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES.keys())
def test_first_order_is_the_stage_of_that_name(schedule: object) -> None:
    times = UniformTime()(schedule, 6)  # type: ignore[arg-type]
    walk = Walk(schedule, times)  # type: ignore[arg-type]
    for t, s in walk.steps():
        walk.to(s, first_order(t, s, walk.x, walk.clean()))
    by_hand = tuple(first_order_stage(i, t, s) for i, (t, s) in enumerate(pairwise(nodes(schedule, times))))  # type: ignore[arg-type]
    same(walk.plan(), by_hand)


def same(plan: Plan, other: Plan) -> None:
    """Stage by stage: what is done where, and the numbers up to rounding and zeros without effect."""
    assert len(plan) == len(other)
    for a, b in zip(plan, other, strict=True):
        assert (a.step, a.time, a.target, a.evaluate, a.draw) == (b.step, b.time, b.target, b.evaluate, b.draw)
        for mine, theirs in zip((a.states, a.cleans, a.noises), (b.states, b.cleans, b.noises), strict=True):
            width = max(len(mine), len(theirs))
            padded = (row + (0.0,) * (width - len(row)) for row in (mine, theirs))
            assert next(padded) == pytest.approx(next(padded), rel=1e-12, abs=1e-12)


def walk_2m(schedule: Flow, times: Tensor) -> Plan:
    """DPM-Solver++(2M) as Lu et al. write it."""
    walk, seen = Walk(schedule, times), []
    for t, s in walk.steps():
        seen.append((t, walk.clean()))
        (_, D), h = seen[-1], s.log_ratio - t.log_ratio
        if len(seen) > 1 and math.isfinite(h) and math.isfinite(seen[-2][0].log_ratio):
            r = (t.log_ratio - seen[-2][0].log_ratio) / h
            D = (1 + 1 / (2 * r)) * D - seen[-2][1] / (2 * r)
        walk.to(s, first_order(t, s, walk.x, D))
    return walk.plan()


def walk_heun(schedule: Flow, times: Tensor) -> Plan:
    """Heun as Karras et al. write it: y = x / alpha, d = (y - D) / u."""
    walk = Walk(schedule, times)
    for t, s in walk.steps():
        x, D = walk.x, walk.clean()
        walk.to(s, first_order(t, s, x, D))
        if s.sigma > 0 and t.alpha > 0:
            d, e = (x / t.alpha - D) / t.ratio, (walk.x / s.alpha - walk.clean()) / s.ratio
            walk.to(s, s.alpha * (x / t.alpha + (s.ratio - t.ratio) * (d + e) / 2))
    return walk.plan()


@pytest.mark.parametrize("steps", [1, 2, 7])
def test_a_walk_is_the_plan_written_by_hand(steps: int) -> None:
    times = UniformTime()(Flow(), steps)
    same(walk_2m(Flow(), times), DPMpp2M().plan(Flow(), times))


@pytest.mark.parametrize("steps", [1, 2, 7])
def test_heun_is_the_paper_s_with_fewer_terms(steps: int) -> None:
    times, start = UniformTime()(Flow(), steps), torch.tensor([[1.0, -0.5]], dtype=torch.float64).expand(ROWS, 2)
    denoiser = MixtureDenoiser(PLANE, Flow())
    paper, ours = (
        execute(plan, denoiser, start, SPACE, CONDITION, KEY)
        for plan in (walk_heun(Flow(), times), Heun().plan(Flow(), times))
    )
    assert ours.dtype == torch.float64 and torch.allclose(ours, paper, rtol=1e-12, atol=1e-12)


def test_a_step_is_said_of_every_stage_and_plans_can_be_printed() -> None:
    plan = walk_heun(Flow(), UniformTime()(Flow(), 3))
    assert [stage.step for stage in plan] == [0, 1, 1, 2]  # from alpha = 0 and to sigma = 0 one stage is all
    lines = table(plan).splitlines()
    assert len(lines) == 1 + len(plan) and lines[1].split()[:3] == ["0", "1.00000", "0.66667"]


def test_an_empty_form_is_the_zero_state() -> None:
    walk = Walk(Flow(), [1.0, 0.5])
    walk.to(walk.grid[1], ZERO)
    assert walk.plan() == (Stage(0, 1.0, 0.5, (0.0,), evaluate=False),)
    got = execute(walk.plan(), MixtureDenoiser(PLANE, Flow()), torch.ones(ROWS, 2), SPACE, CONDITION, KEY)
    assert bool((got == 0).all())


def test_a_step_that_is_left_early_and_an_unused_evaluation_are_named() -> None:
    times = torch.tensor([1.0, 0.5, 0.0], dtype=torch.float64)
    walk = Walk(Flow(), times)
    with pytest.raises(ValueError, match=r"step 0 goes to t = 0\.5, but was left at t = 1"):
        list(walk.steps())
    walk.clean()
    with pytest.raises(ValueError, match="no state was made with it"):
        walk.plan()
