"""The laws of the stochastic solvers: the exact order of their law, identities between them, and their ends."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import mpmath
import numpy as np
import pytest
import torch
import yaml
from tensordict import TensorDict

from framework.build import Allow, build
from framework.certify.gaussian_mixture import PLANE, Mixture, MixtureDenoiser
from framework.certify.variance import GaussianData, Law, convergence, prior, terminal_law
from framework.errors import UserError
from framework.grids import Karras, UniformLogSNR, UniformTime
from framework.ledger import Ledger
from framework.noise import BatchKey, NoiseKey, SampleKey
from framework.sampler import sample
from framework.schedules import EDM, Cosine, Flow, LinearVP, Schedule
from framework.solvers.ancestral import DPMpp2SAncestral, EulerAncestral
from framework.solvers.ddim import DDIM, DDPM
from framework.solvers.dpmpp import DPMpp2M, DPMpp2S, DPMpp3M, DPMpp3MExact
from framework.solvers.dpmpp_sde import DPMppSDE
from framework.solvers.edm import Euler, Heun
from framework.solvers.er_sde import ERSDE, log_phi, taylor_weights
from framework.solvers.plan import Plan, Solver, nodes
from framework.solvers.restart import Interval, Restart
from framework.solvers.sa_solver import SASolver, weights
from framework.solvers.sde_dpmpp import SDEDPMpp1, SDEDPMpp2M, SDEDPMpp2MHeun, SDEDPMpp3M
from framework.solvers.unipc import UniP, UniPC
from framework.spaces import Euclidean
from tests.laws.test_schedules import SCHEDULES

SOLVERS: dict[str, Solver] = {
    "euler_ancestral": EulerAncestral(),
    "euler_ancestral_half": EulerAncestral(eta=0.5),
    "euler_ancestral_more": EulerAncestral(eta=1.4),  # nothing of the old noise is kept in long steps
    "dpmpp_2s_ancestral": DPMpp2SAncestral(),
    "dpmpp_2s_ancestral_half": DPMpp2SAncestral(eta=0.5),
    "sde_dpmpp_1": SDEDPMpp1(),
    "sde_dpmpp_1_more": SDEDPMpp1(eta=2.0),
    "sde_dpmpp_2m": SDEDPMpp2M(),
    "sde_dpmpp_2m_half": SDEDPMpp2M(eta=0.5),
    "sde_dpmpp_2m_heun": SDEDPMpp2MHeun(),
    "sde_dpmpp_3m": SDEDPMpp3M(),
    "dpmpp_sde": DPMppSDE(),
    "dpmpp_sde_half": DPMppSDE(eta=0.5),
    "sa_solver": SASolver(),
    "sa_solver_within": SASolver(tau_min=0.05, tau_max=1.0),
    "sa_solver_2_3": SASolver(2, 3, tau=0.6),
    "sa_solver_1_2": SASolver(1, 2),
    "sa_solver_4_0": SASolver(4, 0),
    "er_sde_1": ERSDE(0),
    "er_sde_2": ERSDE(1),
    "er_sde_3": ERSDE(2),
    "restart": Restart(),
    "restart_2m": Restart(DPMpp2M()),
    "restart_euler": Restart(Euler(), (Interval(0.06, 0.3, 3), Interval(1.0, 4.0))),
    "restart_sde": Restart(SDEDPMpp2M(), (Interval(0.1, 1.0),)),
}
SPACE = Euclidean((2,))
DATA = GaussianData(mean=1.0, std=0.5)
SEVERAL = (GaussianData(0.5, 0.2), DATA, GaussianData(-0.3, 1.2))
ENDS = {"flow": Flow(), "cosine": Cosine(), "vp": LinearVP(), "edm": EDM(80.0)}

every = pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS.keys())
on_every_schedule = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES.keys())


def condition(rows: int) -> TensorDict:
    return TensorDict({}, batch_size=[rows])


def key(rows: int, seed: int = 0) -> SampleKey:
    return SampleKey(seed, tuple(range(rows)))


def window(steps: int) -> torch.Tensor:
    """A Karras grid on EDM(20) from 20 to 0.02, without the step to zero: all of it smooth."""
    return Karras(sigma_min=0.02, sigma_max=20.0)(EDM(20.0), steps + 1)[:-1]


def draw(
    solver: Solver, schedule: Schedule, times: torch.Tensor, rows: int = 64, noise_key: NoiseKey | None = None
) -> torch.Tensor:
    denoiser, noise_key = MixtureDenoiser(PLANE, schedule), noise_key or key(rows)
    initial = float(schedule.sigma(times[0])) * SPACE.noise(noise_key, condition(rows)).double()
    return sample(denoiser, solver, times, SPACE, condition(rows), noise_key, initial=initial)  # type: ignore[return-value]


def same_plan(a: Plan, b: Plan, tolerance: float = 1e-12) -> None:
    """Both plans ask, draw and combine alike."""
    assert len(a) == len(b)
    for one, other in zip(a, b, strict=True):
        assert (one.evaluate, one.draw) == (other.evaluate, other.draw)
        for name in ("states", "cleans", "noises"):
            mine, theirs = getattr(one, name), getattr(other, name)
            width = max(len(mine), len(theirs), 1)
            padded = [np.pad(np.array(v, dtype=float), (0, width - len(v))) for v in (mine, theirs)]
            np.testing.assert_allclose(*padded, rtol=tolerance, atol=tolerance)


# The exact law.


@every
def test_order_of_the_law(solver: Solver) -> None:
    """The terminal law's distance to the exact one, on Gaussian data and without Monte Carlo, falls as declared."""
    measured = convergence(solver, EDM(20.0), window, SEVERAL, steps=(160, 320, 640))
    assert measured.order > solver.order - 0.1, measured
    assert measured.order < solver.order + 0.6 or solver.order == 2, measured  # where errors cancel it may be more
    assert max(measured.means) < 1e-12  # the mean is a fixed point


@pytest.mark.parametrize("predictor", [1, 2, 3])
@pytest.mark.parametrize("corrector", [0, 1, 2, 3])
def test_order_of_sa_solver_with_and_without_noise(predictor: int, corrector: int) -> None:
    for tau in (0.0, 0.3, 1.0):
        solver = SASolver(predictor, corrector, tau)
        # The first steps' own error, of second order, comes through where nothing else is left of a high order's.
        steps = (160, 320, 640) if solver.order < 3 else (40, 80, 160)
        measured = convergence(solver, EDM(20.0), window, SEVERAL, steps)
        assert measured.order > solver.order - 0.4, (solver, measured)


def test_independent_draws_would_cost_an_order() -> None:
    """DPM++ SDE's second draw contains the first; with draws of their own the law is of first order."""

    class Independent(DPMppSDE):
        def plan(self, schedule: Schedule, times: torch.Tensor) -> Plan:
            def own(noises: tuple[float, ...]) -> tuple[float, ...]:
                return (math.hypot(*noises),) if len(noises) == 2 else noises

            return tuple(replace(stage, noises=own(stage.noises)) for stage in super().plan(schedule, times))

    order = convergence(Independent(), EDM(20.0), window, SEVERAL, steps=(160, 320)).order
    assert 0.8 < order < 1.1


def test_the_law_is_what_samples_have() -> None:
    """Mean and deviation of 100000 samples agree with the recursion within their errors, far from the exact law."""
    rows, schedule, solver = 100_000, LinearVP(), SDEDPMpp2MHeun()
    times = UniformLogSNR(0.01, 60.0)(schedule, 8)
    law = terminal_law(solver.plan(schedule, times), schedule, DATA, prior(nodes(schedule, times[:1])[0]))
    assert law.distance(Law(DATA.mean, DATA.std)) > 0.05  # eight steps are few: the law is wrong, and known to be
    denoiser = MixtureDenoiser(Mixture((1.0,), ((DATA.mean,),), ((DATA.std,),)), schedule)
    got = sample(denoiser, solver, times, Euclidean((1,)), condition(rows), BatchKey(0, 0, 0, rows))
    assert float(got.mean()) == pytest.approx(law.mean, abs=4 * law.std / math.sqrt(rows))  # type: ignore[union-attr]
    assert float(got.std()) == pytest.approx(law.std, rel=4 / math.sqrt(2 * rows))  # type: ignore[union-attr]


def test_what_the_prior_leaves_behind() -> None:
    """From N(0, sigma^2) the ODE keeps the prior's error at the rate of its closed form; the SDE forgets most of it."""
    schedule, times = EDM(20.0), window(640)
    u, w = 20.0, 0.02
    rate = math.sqrt((DATA.std**2 + w**2) / (DATA.std**2 + u**2))
    start = prior(nodes(schedule, times[:1])[0])
    ode = terminal_law(Heun().plan(schedule, times), schedule, DATA, start)
    assert ode.mean == pytest.approx(DATA.mean * (1 - rate), abs=1e-4)
    assert ode.std == pytest.approx(u * rate, abs=1e-4)
    sde = terminal_law(SDEDPMpp2M().plan(schedule, times), schedule, DATA, start)
    assert abs(sde.mean - DATA.mean) < 0.1 * abs(ode.mean - DATA.mean)


@every
@on_every_schedule
def test_a_point_mass_keeps_its_place_and_its_noise(solver: Solver, schedule: Schedule) -> None:
    """If the data is one point, every amount of noise is exact: x_t has mean alpha m and deviation sigma."""
    point = GaussianData(mean=1.3, std=0.0)
    for times in (UniformTime()(schedule, 9), UniformTime()(schedule, 9)[:-2]):
        law = terminal_law(solver.plan(schedule, times), schedule, point)
        exact = point.marginal(nodes(schedule, times[-1:])[0])
        assert law.mean == pytest.approx(exact.mean, abs=1e-10)
        assert law.std == pytest.approx(exact.std, abs=1e-10)


def test_noise_of_another_scale_changes_the_law() -> None:
    schedule, times, point = LinearVP(), UniformTime()(LinearVP(), 9)[:-1], GaussianData(1.0, 0.0)
    exact = point.marginal(nodes(schedule, times[-1:])[0])
    for louder in (EulerAncestral(1.0, 1.1), DPMpp2SAncestral(1.0, 1.1), SDEDPMpp2M(1.0, 1.1), DPMppSDE(1.0, 1.1)):
        assert terminal_law(louder.plan(schedule, times), schedule, point).std > 1.02 * exact.std


@every
def test_the_law_on_the_plane(solver: Solver) -> None:
    """Means, deviations and mean log density of samples are the mixture's, up to sampling and the bias of the order."""
    rows, schedule = 10_000, EDM(80.0)
    got = draw(solver, schedule, UniformLogSNR(0.01)(schedule, 80), rows, BatchKey(0, 0, 0, rows))
    truth, bias = PLANE.sample(200_000, seed=1), {1: 0.05, 2: 0.02}[solver.order]
    torch.testing.assert_close(got.mean(0), truth.mean(0), rtol=0, atol=0.03 + bias)
    torch.testing.assert_close(got.std(0), truth.std(0), rtol=bias, atol=0)
    ones, zeros = torch.ones(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    densities = (float(PLANE.log_density(x, ones, zeros).clamp(min=-50).mean()) for x in (got, truth))
    assert abs(next(densities) - next(densities)) < 0.03 + 4 * bias


# Identities.


@on_every_schedule
def test_one_first_order_step_under_four_names(schedule: Schedule) -> None:
    """At eta = 1: DDPM, Euler-ancestral, SDE-DPM-Solver++(1) and SA-Solver's predictor of order one."""
    times = UniformTime()(schedule, 15)
    ddpm = DDPM().plan(schedule, times)
    for solver in (EulerAncestral(), SDEDPMpp1(), SASolver(1, 0)):
        same_plan(solver.plan(schedule, times), ddpm, 1e-9)


@on_every_schedule
@pytest.mark.parametrize("eta", [0.0, 0.3, 0.9])
def test_euler_ancestral_is_ddim(schedule: Schedule, eta: float) -> None:
    times = UniformTime()(schedule, 15)
    same_plan(EulerAncestral(eta).plan(schedule, times), DDIM(eta).plan(schedule, times), 1e-9)


@on_every_schedule
def test_without_noise_they_are_the_deterministic_solvers(schedule: Schedule) -> None:
    times = UniformTime()(schedule, 15)
    pairs: list[tuple[Solver, Solver]] = [
        (EulerAncestral(0.0), Euler()),
        (DPMpp2SAncestral(0.0), DPMpp2S()),
        (DPMppSDE(0.0), DPMpp2S()),
        (SDEDPMpp1(0.0), DDIM()),
        (SDEDPMpp2M(0.0), DPMpp2M()),
        (SASolver(1, 0, 0.0), DDIM()),
    ]
    for stochastic, deterministic in pairs:
        assert not stochastic.stochastic
        same_plan(stochastic.plan(schedule, times), deterministic.plan(schedule, times), 1e-9)


def test_without_noise_the_third_orders_agree_once_they_have_three_means() -> None:
    """The peers begin with other steps of lower order."""
    schedule = LinearVP()
    times = UniformTime()(schedule, 12)
    for stochastic, deterministic in [
        (SDEDPMpp3M(0.0), DPMpp3M()),
        (SASolver(3, 0, 0.0), DPMpp3MExact()),
        (SASolver(3, 0, 0.0), UniP(3)),
    ]:
        same_plan(stochastic.plan(schedule, times)[2:], deterministic.plan(schedule, times)[2:], 1e-9)


def test_without_noise_and_with_a_corrector_it_is_unipc() -> None:
    """SA-Solver corrects and predicts in one stage what UniPC does in two."""
    schedule, steps = LinearVP(), 12
    times = UniformTime()(schedule, steps)
    ours, theirs = SASolver(3, 4, 0.0).plan(schedule, times), UniPC(3).plan(schedule, times)
    for i in range(3, steps):
        predicted, corrected, then = theirs[2 * i - 2], theirs[2 * i - 1], theirs[2 * i]
        (kept,) = then.states
        moved = np.array(corrected.cleans) - np.array([0.0, *predicted.cleans])
        expected = kept * moved + np.pad(then.cleans, (0, 4 - len(then.cleans)))
        np.testing.assert_allclose(ours[i].states, then.states, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(np.pad(ours[i].cleans, (0, 4 - len(ours[i].cleans))), expected, rtol=1e-9, atol=1e-9)


@on_every_schedule
@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
def test_the_exact_line_is_sa_solver_of_order_two(schedule: Schedule, eta: float) -> None:
    times = UniformTime()(schedule, 15)
    same_plan(SDEDPMpp2MHeun(eta).plan(schedule, times), SASolver(2, 0, math.sqrt(eta)).plan(schedule, times), 1e-8)


def test_restart_without_restarts_is_the_solver() -> None:
    schedule = LinearVP()
    times = UniformTime()(schedule, 12)
    for intervals in ((), (Interval(0.1, 1.0, times=0),), (Interval(1e-9, 1e-8),)):
        solver = Restart(DPMpp2M(), intervals)
        same_plan(solver.plan(schedule, times), DPMpp2M().plan(schedule, times))
    assert not Restart(DPMpp2M(), ()).stochastic and not Restart(DPMpp2M(), (Interval(0.1, 1.0, 0),)).stochastic


# Coefficients.


@pytest.mark.parametrize("z", [1e-4, 0.03, 0.9, 2.5, 40.0])
def test_weights_integrate_polynomials_exactly(z: float) -> None:
    """The weights of nodes p_j give the integral of z e^{-z (1 - p)} p^k over [0, 1] for every k below their number."""
    positions = [1.0, 0.0, -0.7, -2.1]
    found = weights(z, positions)
    with mpmath.workdps(30):
        for k in range(4):
            exact = float(mpmath.quad(lambda p, k=k: z * mpmath.exp(-z * (1 - p)) * p**k, [0, 0.5, 0.9, 1]))
            assert sum(w * p**k for w, p in zip(found, positions, strict=True)) == pytest.approx(exact, rel=1e-11)


@pytest.mark.parametrize(("u", "w"), [(80.0, 60.0), (1.0, 0.9), (3.0, 0.1), (80.0, 0.002), (1e5, 50.0)])
def test_er_sde_integrates_its_noise_scale(u: float, w: float) -> None:
    def ratio(q: float) -> mpmath.mpf:
        return w * (mpmath.exp(mpmath.mpf(w) ** 0.3) + 10) / (q * (mpmath.exp(mpmath.mpf(q) ** 0.3) + 10))

    points = np.geomspace(w, u, 12).tolist()
    with mpmath.workdps(30):
        first = float(w - u + mpmath.quad(ratio, points))
        second = float((mpmath.mpf(w) - u) ** 2 / 2 + mpmath.quad(lambda q: (q - u) * ratio(q), points))
        logarithm = float(mpmath.log(u * (mpmath.exp(mpmath.mpf(u) ** 0.3) + 10)))
    assert taylor_weights(u, w) == pytest.approx((first, second), rel=1e-10, abs=1e-12 * u**2)
    assert float(log_phi(u)) == pytest.approx(logarithm, rel=1e-14)


def test_tau_acts_in_its_interval_only() -> None:
    schedule = EDM(20.0)
    for stage in SASolver(tau_min=0.05, tau_max=1.0).plan(schedule, window(40)):
        assert stage.draw == (0.05 <= 20.0 * stage.time <= 1.0)


# Restarts.


def test_restarts_do_as_they_say() -> None:
    """Up from the grid's time nearest to `low` to `high`, and down again, `times` times; nothing looks back across."""
    schedule, times = EDM(80.0), Karras()(EDM(80.0), 18)
    plan = Restart(DPMpp2M(), (Interval(0.06, 0.3, 4, steps=3),)).plan(schedule, times)
    ups = [i for i, stage in enumerate(plan) if not stage.evaluate]
    assert len(ups) == 4 and sum(stage.evaluate for stage in plan) == 18 + 4 * 3
    low = min(times[:-1].tolist(), key=lambda t: abs(math.log(80.0 * t / 0.06)))
    for i in ups:
        up, first = plan[i], plan[i + 1]
        assert up.time == low and 80.0 * up.target == pytest.approx(0.3)
        assert up.noises[0] ** 2 == pytest.approx(0.3**2 - (80.0 * low) ** 2)
        assert len(first.states) == len(first.cleans) == 1 and plan[i + 3].target == low
    assert [stage.step for stage in plan if stage.evaluate] == list(range(18 + 12))
    assert all(a.target == b.time for a, b in pairwise(plan))


def test_restarts_draw_noise_of_their_own() -> None:
    """A way down that is walked again must not meet the same increments of a Brownian path."""
    schedule, times = EDM(80.0), Karras()(EDM(80.0), 18)
    plan = Restart(SDEDPMpp2M(), (Interval(0.06, 0.5, 2),)).plan(schedule, times)
    paths = sorted(stage.path for stage in plan if stage.path is not None)
    assert len(paths) == 17  # the first way down, but for the step to zero
    assert all(a[1] <= b[0] for a, b in pairwise(paths))


def test_restarts_contract_errors() -> None:
    """A start of the wrong law is forgiven: the more, the more often noise is added."""
    schedule, times = EDM(20.0), window(40)
    exact = DATA.marginal(nodes(schedule, times[-1:])[0])
    start = Law(0.0, 15.0)
    errors = [
        terminal_law(Restart(Heun(), (Interval(0.1, 3.0, k),)).plan(schedule, times), schedule, DATA, start)
        .distance(exact)
        for k in (0, 1, 3)
    ]  # fmt: skip
    assert errors[0] > 2 * errors[1] > 4 * errors[2], errors


# What every solver keeps.


@every
@pytest.mark.parametrize("schedule", [LinearVP(), Cosine(), Flow()], ids=["vp", "cosine", "flow"])
def test_change_of_schedule_changes_nothing(solver: Solver, schedule: Schedule) -> None:
    """The same noise-to-signal ratios on another schedule give the same samples from the same noise."""
    edm = EDM(80.0)
    times = Karras(sigma_max=50.0)(edm, 12)
    other = schedule.time(edm.log_snr(times)).clamp(min=0.0)
    results = []
    for one, grid in ((edm, times), (schedule, other)):
        (at,) = nodes(one, grid[:1])
        initial = at.alpha * 50.0 * SPACE.noise(key(32), condition(32)).double()
        denoiser = MixtureDenoiser(PLANE, one)
        results.append(sample(denoiser, solver, grid, SPACE, condition(32), key(32), initial=initial))
    torch.testing.assert_close(results[0], results[1], rtol=1e-6, atol=1e-6)


@every
@pytest.mark.parametrize("schedule", ENDS.values(), ids=ENDS.keys())
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_both_ends_and_few_steps(solver: Solver, schedule: Schedule, steps: int) -> None:
    """From alpha = 0 where the schedule has it, to sigma = 0, numbers stay finite; one step from there is the mean."""
    got = draw(solver, schedule, UniformTime()(schedule, steps))
    assert bool(torch.isfinite(got).all())
    if steps == 1 and schedule.zero_terminal_snr:
        mean = torch.tensor(PLANE.weights, dtype=torch.float64) @ torch.tensor(PLANE.means, dtype=torch.float64)
        torch.testing.assert_close(got, mean.expand(64, 2), rtol=1e-9, atol=1e-9)


@every
def test_declared_evaluations_and_draws(solver: Solver) -> None:
    schedule, n = LinearVP(), 16
    times = Karras()(schedule, n)
    plan = solver.plan(schedule, times)
    asked, steps = sum(stage.evaluate for stage in plan), plan[-1].step + 1
    assert asked == steps * solver.evaluations_per_step - (solver.evaluations_per_step - 1)
    assert steps == n or isinstance(solver, Restart)
    assert any(stage.draw for stage in plan) == solver.stochastic
    ledger = Ledger()
    denoiser = MixtureDenoiser(PLANE, schedule, ledger)
    sample(denoiser, solver, times, SPACE, condition(5), key(5), ledger=ledger)
    assert ledger.evaluations_per_sample == asked


@every
def test_one_seed_one_sample_in_any_batch(solver: Solver) -> None:
    schedule, rows = LinearVP(), 6
    times, denoiser = UniformTime()(schedule, 8), MixtureDenoiser(PLANE, schedule)

    def run(noise_key: SampleKey) -> torch.Tensor:
        return sample(denoiser, solver, times, SPACE, condition(len(noise_key.samples)), noise_key)  # type: ignore[return-value]

    whole = run(key(rows))
    assert torch.equal(run(key(rows)), whole) and not torch.equal(run(key(rows, seed=1)), whole)
    torch.testing.assert_close(run(SampleKey(0, (5, 2))), whole[[5, 2]], rtol=0, atol=1e-9)


@every
def test_no_noise_without_amount(solver: Solver) -> None:
    """A stage that draws gives what it draws a weight somewhere, and the path runs from noise to data."""
    for schedule in ENDS.values():
        plan = solver.plan(schedule, UniformTime()(schedule, 7))
        for i, stage in enumerate(plan):
            if stage.draw:
                used = stage.noises[0] if stage.noises else 0.0
                assert used > 0 or any(len(later.noises) > 1 for later in plan[i + 1 : i + 2])
            if stage.path is not None:
                assert 0 <= stage.path[0] < stage.path[1] < math.inf


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: EulerAncestral(eta=-0.1), "EulerAncestral needs eta >= 0"),
        (lambda: SDEDPMpp2M(noise_scale=-1.0), "SDEDPMpp2M needs noise_scale >= 0"),
        (lambda: DPMppSDE(eta=math.nan), "DPMppSDE needs eta >= 0, got nan"),
        (lambda: SASolver(5, 0), "order 1 to 4"),
        (lambda: SASolver(tau=-1.0), "tau >= 0"),
        (lambda: ERSDE(3), "0, 1 or 2 derivatives, got 3"),
        (lambda: Interval(0.3, 0.1), "0 < low < high"),
        (lambda: Interval(0.1, 0.3, times=-1), "times >= 0"),
        (lambda: Interval(0.1, 0.3, steps=0), "steps >= 1"),
    ],
)
def test_bad_arguments_are_named(make: Callable[[], object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make()


CONFIGURED: dict[str, Solver] = {
    "euler_ancestral": EulerAncestral(),
    "dpmpp_2s_ancestral": DPMpp2SAncestral(),
    "dpmpp_sde": DPMppSDE(),
    "sde_dpmpp_1": SDEDPMpp1(),
    "sde_dpmpp_2m": SDEDPMpp2M(),
    "sde_dpmpp_2m_heun": SDEDPMpp2MHeun(),
    "sde_dpmpp_3m": SDEDPMpp3M(),
    "sa_solver": SASolver(),
    "er_sde": ERSDE(),
    "restart": Restart(),
}


@pytest.mark.parametrize(("name", "solver"), CONFIGURED.items(), ids=CONFIGURED.keys())
def test_configurations_are_the_defaults(name: str, solver: Solver) -> None:
    """conf/solver names the class with the same arguments as its own defaults."""
    folder = Path(__file__).parents[2] / "conf" / "solver"
    made = build(yaml.safe_load((folder / f"{name}.yaml").read_text()), Allow(("framework",)))
    schedule, times = EDM(80.0), Karras()(EDM(80.0), 18)
    assert type(made) is type(solver)
    same_plan(made.plan(schedule, times), solver.plan(schedule, times))
