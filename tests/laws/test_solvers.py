"""The laws of the first five solvers, on data whose denoiser is exact."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from tensordict import TensorDict

from framework.certify.gaussian_mixture import PLANE, Mixture, MixtureDenoiser, reference_solution
from framework.denoiser import Rescheduled
from framework.grids import Explicit, Karras, UniformLogSNR, UniformTime
from framework.ledger import Ledger
from framework.noise import SampleKey
from framework.sampler import sample
from framework.schedules import EDM, Cosine, Flow, LinearVP, Schedule
from framework.solvers.ddim import DDIM, DDPM
from framework.solvers.dpmpp import DPMpp2M
from framework.solvers.edm import Euler, Heun
from framework.solvers.plan import Solver, nodes, table
from framework.spaces import Euclidean
from tests.laws.test_schedules import SCHEDULES

SOLVERS: dict[str, Solver] = {
    "ddpm": DDPM(),
    "ddim": DDIM(),
    "ddim_half": DDIM(eta=0.5),
    "euler": Euler(),
    "heun": Heun(),
    "heun_churn": Heun(churn=10.0),
    "dpmpp_2m": DPMpp2M(),
}
DETERMINISTIC = {name: solver for name, solver in SOLVERS.items() if not solver.stochastic}
SPACE = Euclidean((2,))


def condition(rows: int) -> TensorDict:
    return TensorDict({}, batch_size=[rows])


def key(rows: int, seed: int = 0) -> SampleKey:
    return SampleKey(seed, tuple(range(rows)))


def draw(
    solver: Solver, schedule: Schedule, times: torch.Tensor, rows: int = 128, initial: torch.Tensor | None = None
) -> torch.Tensor:
    denoiser = MixtureDenoiser(PLANE, schedule)
    if initial is None:
        initial = float(schedule.sigma(times[0])) * SPACE.noise(key(rows), condition(rows)).double()
    return sample(denoiser, solver, times, SPACE, condition(rows), key(rows), initial=initial)  # type: ignore[return-value]


@pytest.fixture(scope="module")
def exact() -> tuple[torch.Tensor, torch.Tensor]:
    """Starts at noise level 80 and the ODE's exact solution at 0.002."""
    start = 80.0 * SPACE.noise(key(128), condition(128)).double()
    return start, reference_solution(PLANE, start, 80.0, 0.002)


def karras_times(steps: int) -> torch.Tensor:
    """A Karras grid on EDM's schedule from 80 to 0.002, without the step to zero: all of it smooth."""
    return Karras()(EDM(80.0), steps + 1)[:-1]


@pytest.mark.parametrize("solver", DETERMINISTIC.values(), ids=DETERMINISTIC.keys())
def test_order_of_convergence(solver: Solver, exact: tuple[torch.Tensor, torch.Tensor]) -> None:
    """The slope of the median error against the number of steps, over two doublings, is the declared order."""
    start, truth = exact
    steps = np.array([80, 160, 320])
    errors = []
    for n in steps:
        got = draw(solver, EDM(80.0), karras_times(int(n)), initial=start)
        errors.append(float((got - truth).norm(dim=1).median()))
    slope = -np.polyfit(np.log(steps), np.log(errors), 1)[0]
    assert solver.order - 0.15 < slope < solver.order + 0.35, (slope, errors)


@pytest.mark.parametrize("solver", DETERMINISTIC.values(), ids=DETERMINISTIC.keys())
@pytest.mark.parametrize("schedule", [LinearVP(), Cosine(), Flow()], ids=["vp", "cosine", "flow"])
def test_change_of_schedule_changes_nothing(solver: Solver, schedule: Schedule) -> None:
    """The same noise-to-signal ratios on another schedule give the same samples, up to the state's own scale."""
    edm, steps = EDM(80.0), 12
    times = Karras(sigma_max=50.0)(edm, steps)
    other = schedule.time(edm.log_snr(times)).clamp(min=0.0)
    z = SPACE.noise(key(64), condition(64)).double()
    a = draw(solver, edm, times, 64, initial=float(edm.sigma(times[0])) * z)
    b = draw(solver, schedule, other, 64, initial=float(schedule.sigma(other[0])) * z)
    torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)


def test_a_model_of_one_schedule_samples_on_another() -> None:
    flow = Flow()
    times = UniformTime()(flow, 10)
    direct = draw(DPMpp2M(), flow, times, 64)
    wrapped = Rescheduled(MixtureDenoiser(PLANE, LinearVP(0.1, 40.0)), flow)
    initial = SPACE.noise(key(64), condition(64)).double()
    got = sample(wrapped, DPMpp2M(), times, SPACE, condition(64), key(64), initial=initial)
    torch.testing.assert_close(got, direct, rtol=1e-3, atol=1e-3)  # VP's own end is at alpha = 4e-5, not 0


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES.keys())
def test_ddim_with_eta_one_is_ddpm(schedule: Schedule) -> None:
    times = UniformTime()(schedule, 20)
    for a, b in zip(DDIM(eta=1.0).plan(schedule, times), DDPM().plan(schedule, times), strict=True):
        np.testing.assert_allclose((*a.states, *a.cleans, *a.noises), (*b.states, *b.cleans, *b.noises), atol=1e-12)


@pytest.mark.parametrize("schedule", [EDM(80.0), LinearVP(), Flow()], ids=["edm", "vp", "flow"])
def test_euler_is_deterministic_ddim(schedule: Schedule) -> None:
    times = UniformTime()(schedule, 15)
    for a, b in zip(Euler().plan(schedule, times), DDIM().plan(schedule, times), strict=True):
        np.testing.assert_allclose((*a.states, *a.cleans), (*b.states, *b.cleans), atol=1e-12)


@pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS.keys())
@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES.keys())
def test_plans_keep_a_point_mass(solver: Solver, schedule: Schedule) -> None:
    """If the data is one point D and there is no noise, every stage takes alpha_t D to alpha_s D exactly."""
    plan = solver.plan(schedule, UniformTime()(schedule, 9))
    alphas: list[float] = []
    for stage in plan:
        at, to = nodes(schedule, [stage.time, stage.target])
        alphas.insert(0, at.alpha)
        total = sum(a * alpha for a, alpha in zip(stage.states, alphas, strict=False)) + sum(stage.cleans)
        assert total == pytest.approx(to.alpha, abs=1e-10), stage


@pytest.mark.parametrize("solver", [DDPM(), DDIM(eta=0.5), DDIM(eta=1.0), Heun(churn=10.0)], ids=str)
def test_stochastic_stages_keep_the_variance_of_a_point_mass(solver: Solver) -> None:
    """If the data is one point, D is exact: single-state stages take variance sigma_t^2 to sigma_s^2."""
    schedule = LinearVP()
    for stage in solver.plan(schedule, UniformTime()(schedule, 9)):
        if len(stage.states) > 1:
            continue
        at, to = nodes(schedule, [stage.time, stage.target])
        assert (stage.states[0] * at.sigma) ** 2 + sum(c**2 for c in stage.noises) == pytest.approx(
            to.sigma**2, abs=1e-10
        )


@pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS.keys())
def test_batch_split_invariance(solver: Solver) -> None:
    """Sample i is the same alone, in another order and in any batch."""
    schedule, rows = LinearVP(), 12
    times, denoiser = UniformTime()(schedule, 8), MixtureDenoiser(PLANE, schedule)
    whole = sample(denoiser, solver, times, SPACE, condition(rows), key(rows))
    order = tuple(reversed(range(rows)))
    back = sample(denoiser, solver, times, SPACE, condition(rows), SampleKey(0, order))
    torch.testing.assert_close(back[list(order)], whole, rtol=0, atol=1e-12)
    parts = [sample(denoiser, solver, times, SPACE, condition(3), key(rows).rows(i, i + 3)) for i in range(0, rows, 3)]
    torch.testing.assert_close(torch.cat(parts), whole, rtol=0, atol=1e-12)  # type: ignore[arg-type]


@pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS.keys())
def test_seeds_and_threads(solver: Solver) -> None:
    schedule = Flow()
    times, denoiser = UniformTime()(schedule, 6), MixtureDenoiser(PLANE, schedule)

    def run(seed: int) -> torch.Tensor:
        return sample(denoiser, solver, times, SPACE, condition(4), key(4, seed))  # type: ignore[return-value]

    alone = [run(seed) for seed in range(8)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(run, range(8)))
    for a, b in zip(alone, together, strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(alone[0], alone[1])


@pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS.keys())
@pytest.mark.parametrize("schedule", [Flow(), Cosine(), LinearVP(), EDM(80.0)], ids=["flow", "cosine", "vp", "edm"])
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_both_ends_and_few_steps(solver: Solver, schedule: Schedule, steps: int) -> None:
    """From alpha = 0 where the schedule has it, to sigma = 0, the numbers stay finite; one step is the mean."""
    got = draw(solver, schedule, UniformTime()(schedule, steps), 64)
    assert bool(torch.isfinite(got).all())
    if steps == 1 and schedule.zero_terminal_snr:
        mean = torch.tensor(PLANE.weights, dtype=torch.float64) @ torch.tensor(PLANE.means, dtype=torch.float64)
        torch.testing.assert_close(got, mean.expand(64, 2), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS.keys())
def test_declared_evaluations(solver: Solver) -> None:
    schedule, n = LinearVP(), 10
    plan = solver.plan(schedule, UniformTime()(schedule, n))
    asked = sum(stage.evaluate for stage in plan)
    assert asked == n * solver.evaluations_per_step - (solver.evaluations_per_step - 1)
    assert (any(stage.draw for stage in plan)) == solver.stochastic
    ledger = Ledger()
    denoiser = MixtureDenoiser(PLANE, schedule, ledger)
    sample(denoiser, solver, UniformTime()(schedule, n), SPACE, condition(5), key(5), ledger=ledger)
    assert ledger.evaluations_per_sample == asked and ledger.calls == asked


@pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS.keys())
def test_many_steps_reach_the_data(solver: Solver) -> None:
    """Means and deviations of 2048 samples are the mixture's, up to standard errors and the bias of n steps."""
    schedule, rows = LinearVP(), 2048
    got = draw(solver, schedule, UniformLogSNR(0.003, 60.0)(schedule, 100), rows)
    truth = PLANE.sample(200_000, seed=1)
    for statistic in (torch.mean, torch.std):
        torch.testing.assert_close(statistic(got, dim=0), statistic(truth, dim=0), rtol=0.04, atol=0.07)


def test_gaussian_data_follows_its_closed_form() -> None:
    """For one Gaussian of deviation s the ODE's map is x sqrt((s^2 a'^2 + b'^2) / (s^2 a^2 + b^2))."""
    schedule, s = Cosine(), 0.6
    times = Explicit(torch.linspace(0.95, 0.05, 401).tolist())(schedule, 400)
    alpha, sigma = schedule.alpha(times), schedule.sigma(times)
    x = torch.tensor([[1.3]], dtype=torch.float64)
    scale = math.sqrt((s**2 * alpha[-1] ** 2 + sigma[-1] ** 2) / (s**2 * alpha[0] ** 2 + sigma[0] ** 2))
    denoiser = MixtureDenoiser(Mixture((1.0,), ((0.0,),), ((s,),)), schedule)
    got = sample(denoiser, DPMpp2M(), times, Euclidean((1,)), condition(1), key(1), initial=x)
    torch.testing.assert_close(got, x * scale, rtol=5e-5, atol=0)


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match=r"eta lies in \[0, 1\]"):
        DDIM(eta=1.5)
    denoiser = MixtureDenoiser(PLANE, Flow())
    with pytest.raises(ValueError, match="3 rows and the condition 2"):
        sample(denoiser, DDIM(), UniformTime()(Flow(), 2), SPACE, condition(2), key(2), initial=torch.zeros(3, 2))


def test_plans_can_be_printed() -> None:
    plan = Heun(churn=3.0).plan(Flow(), UniformTime()(Flow(), 3))
    text = table(plan)
    assert "no evaluation" in text and len(text.splitlines()) == 1 + len(plan)
