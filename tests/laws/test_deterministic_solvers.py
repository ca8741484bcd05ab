"""The laws of the deterministic solvers: orders from an exact start, exact coefficients, identities and ends."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import mpmath
import numpy as np
import pytest
import torch
import yaml
from tensordict import TensorDict

from framework.build import Allow, build
from framework.certify.gaussian_mixture import PLANE, MixtureDenoiser, reference_solution
from framework.denoiser import Denoiser
from framework.errors import UserError
from framework.grids import Karras, UniformLogSNR, UniformTime
from framework.noise import SampleKey
from framework.sampler import Execution, sample
from framework.schedules import EDM, Cosine, Flow, LinearVP, Schedule
from framework.solvers.adams import DEIS, LMS, NOISE, LogRatio, Ratio, Time
from framework.solvers.ddim import DDIM
from framework.solvers.dpm_solver import DPMSolver2, DPMSolver3
from framework.solvers.dpmpp import DPMpp2M, DPMpp2S, DPMpp3M, DPMpp3MExact, DPMpp3S
from framework.solvers.edm import Euler, Heun
from framework.solvers.exponential import NoisePrediction, phi
from framework.solvers.ipndm import IPNDM, IPNDMv
from framework.solvers.multistep import multistep
from framework.solvers.plan import Node, Plan, Solver, nodes
from framework.solvers.runge_kutta import MIDPOINT, RALSTON, RK4, Angle, Midpoint, RungeKutta, Straight, Tableau
from framework.solvers.unipc import BH1, BH2, UniP, UniPC
from framework.solvers.walk import Walk
from framework.spaces import Euclidean
from tests.laws.test_schedules import SCHEDULES

SOLVERS: dict[str, Solver] = {
    "euler": Euler(),
    "heun": Heun(),
    "midpoint": Midpoint(),
    "midpoint_angle": Midpoint(Angle()),
    "rk4": RK4(),
    "rk4_angle": RK4(Angle()),
    "dpm_solver_2": DPMSolver2(),
    "dpm_solver_2_r": DPMSolver2(r1=0.3),
    "dpm_solver_3": DPMSolver3(),
    "dpm_solver_3_r": DPMSolver3(r1=0.5, r2=0.8),
    "dpmpp_2s": DPMpp2S(),
    "dpmpp_2s_end": DPMpp2S(r1=1.0),
    "dpmpp_3s": DPMpp3S(),
    "dpmpp_2m": DPMpp2M(),
    "dpmpp_3m": DPMpp3M(),
    "dpmpp_3m_exact": DPMpp3MExact(),
    **{f"lms_{q}": LMS(q) for q in (1, 2, 3, 4)},
    **{f"deis_tab_{q}": DEIS(q) for q in (2, 3, 4)},
    **{f"deis_log_{q}": DEIS(q, LogRatio()) for q in (2, 3, 4)},
    **{f"ipndm_{q}": IPNDM(q) for q in (1, 2, 3, 4)},
    **{f"unip_{p}": UniP(p) for p in (1, 2, 3)},
    **{f"unipc_{p}": UniPC(p) for p in (1, 2, 3)},
    "unip_2_bh1": UniP(2, BH1()),
    "unipc_1_bh1": UniPC(1, BH1()),
    "unipc_2_bh1": UniPC(2, BH1()),
    "unipc_2_noise": UniPC(2, prediction=NoisePrediction()),
    "unipc_3_noise": UniPC(3, BH1(), NoisePrediction()),
}
SPACE = Euclidean((2,))
ROWS = 64
SCHEDULE = EDM(80.0)
HIGH, LOW, REPLACED = 3.0, 0.05, 4  # the window of the measured orders, and how many states the exact start replaces
STEPS = (80, 160, 320)

every = pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS.keys())


def condition(rows: int = ROWS) -> TensorDict:
    return TensorDict({}, batch_size=[rows])


def key(rows: int = ROWS) -> SampleKey:
    return SampleKey(0, tuple(range(rows)))


def window(steps: int) -> torch.Tensor:
    return Karras(sigma_min=LOW, sigma_max=HIGH)(SCHEDULE, steps + 1)[:-1]


def walk_plan(plan: Plan, denoiser: Denoiser, x: torch.Tensor, exact: dict[float, torch.Tensor]) -> torch.Tensor:
    """The plan from x, with the states of its first steps replaced by the reference where the grid has it."""
    run = Execution(plan, denoiser, SPACE, condition(), key())
    for index, stage in enumerate(plan):
        x = run.advance(index, stage, x)  # type: ignore[assignment]
        if stage.step < REPLACED:
            x = exact.get(stage.target, x)
    return x


@pytest.fixture(scope="module")
def bed() -> tuple[torch.Tensor, torch.Tensor, dict[int, dict[float, torch.Tensor]]]:
    """Starts at noise level HIGH on trajectories from 80, their ends at LOW, and the first states of each grid."""
    start = reference_solution(PLANE, 80.0 * SPACE.noise(key(), condition()).double(), 80.0, HIGH)
    first: dict[int, dict[float, torch.Tensor]] = {}
    for n in STEPS:
        y, level, first[n] = start, HIGH, {}
        for t in window(n)[1 : REPLACED + 1].tolist():
            y = first[n][t] = reference_solution(PLANE, y, level, 80.0 * t, 1e-13)
            level = 80.0 * t
    return start, reference_solution(PLANE, start, HIGH, LOW, 1e-13), first


def measured_order(solver: Solver, bed: tuple, exact: bool) -> tuple[float, list[float]]:
    start, truth, first = bed
    errors = []
    for n in STEPS:
        plan = solver.plan(SCHEDULE, window(n))
        got = walk_plan(plan, MixtureDenoiser(PLANE, SCHEDULE), start, first[n] if exact else {})
        errors.append(float((got - truth).norm(dim=1).median()))
    return float(-np.polyfit(np.log(STEPS), np.log(errors), 1)[0]), errors


@every
def test_order_from_an_exact_start(solver: Solver, bed: tuple) -> None:
    """The slope of the median error against the number of steps is the declared order, neither less nor more."""
    slope, errors = measured_order(solver, bed, exact=True)
    assert solver.order - 0.2 < slope < solver.order + 0.3, (slope, errors)


@pytest.mark.parametrize("solver", [LMS(4), DEIS(4), DPMpp3MExact(), UniP(3)], ids=str)
def test_a_naive_start_holds_multistep_methods_at_second_order(solver: Solver, bed: tuple) -> None:
    """The first step has one prediction and an error of second order, which no later step mends."""
    slope, errors = measured_order(solver, bed, exact=False)
    assert 1.9 < slope < solver.order - 0.5, (slope, errors)


@dataclass(frozen=True)
class Problem:
    """A problem in one number: the solution y(u) of dy/du = (y - D) / u, and D(y, u)."""

    y: Callable[[float], float]
    clean: Callable[[float, float], float]


def endpoint(plan: Plan, schedule: Schedule, problem: Problem, replaced: int = REPLACED) -> float:
    """y at the end of a plan, with the states of the first steps replaced by the exact ones."""
    states: list[float] = []
    cleans: list[float] = []
    ends = nodes(schedule, [time for stage in plan for time in (stage.time, stage.target)])
    x = ends[0].alpha * problem.y(ends[0].ratio)
    for stage, at, to in zip(plan, ends[::2], ends[1::2], strict=True):
        states.insert(0, x)
        if stage.evaluate:
            cleans.insert(0, problem.clean(x / at.alpha, at.ratio))
        x = sum(a * b for a, b in zip(stage.states, states, strict=False))
        x += sum(a * b for a, b in zip(stage.cleans, cleans, strict=False))
        if stage.step < replaced:
            x = to.alpha * problem.y(to.ratio)
    return x / to.alpha


SINE = Problem(math.sin, lambda y, u: y - u * math.cos(u))  # the noise is cos u


def assert_order_on_a_sine(solver: Solver, times: Callable[[int], Sequence[float]], order: int) -> None:
    errors = []
    for n in (160, 320, 640):
        grid = torch.tensor(times(n), dtype=torch.float64)
        end = endpoint(solver.plan(SCHEDULE, grid), SCHEDULE, SINE)
        errors.append(abs(end - math.sin(80.0 * float(grid[-1]))))
    slopes = [math.log2(a / b) for a, b in pairwise(errors)]
    assert all(abs(slope - order) < 0.35 for slope in slopes), (slopes, errors)


def test_adams_bashforth_on_equal_steps_has_the_order_of_its_points() -> None:
    """iPNDM is of second order for its fixed coefficients alone: on equal steps in u it is of fourth."""
    assert_order_on_a_sine(IPNDM(4), lambda n: np.linspace(0.04, 0.01, n + 1).tolist(), 4)
    assert_order_on_a_sine(IPNDM(4), lambda n: window(n).tolist(), 2)


def test_the_bracket_in_diff_samplers_ipndm_v_costs_its_order() -> None:
    """Its code weighs the second difference with (1 - r X) / 2 for (1 - r) X / 2, r = h / (3 (h + h1)): of the order
    four that variable steps have with four points, three is left.
    """

    def shipped(t: Node, s: Node, seen: Sequence[Node]) -> Sequence[float]:
        weights = list(Ratio().weights(SCHEDULE, t, s, seen))
        if len(seen) > 2:
            h, h1, h2 = (a.ratio - b.ratio for a, b in pairwise([s, *seen[:3]]))
            r, product = h / (3 * (h + h1)), h * (h + h1) / (h1 * (h1 + h2))
            amiss = (1 - r * product) / 2 - (1 - r) * product / 2
            for j, difference in enumerate((1.0, -(1 + h1 / h2), h1 / h2)):
                weights[j] += s.alpha * h * amiss * difference
        return weights

    class Shipped(LMS):
        def plan(self, schedule: Schedule, times: torch.Tensor) -> Plan:
            return multistep(Walk(schedule, times), NOISE, 4, 0, shipped)

    assert_order_on_a_sine(Shipped(), lambda n: window(n).tolist(), 3)
    assert_order_on_a_sine(IPNDMv(4), lambda n: window(n).tolist(), 4)


def noise_power_of_u(k: int) -> Problem:
    return Problem(lambda u: u ** (k + 1) / (k + 1), lambda y, u: y - u * u**k)


def noise_power_of_log_u(k: int) -> Problem:
    """z = (log u)^k, by the recurrence int log^k u du = u log^k u - k int log^(k-1) u du."""

    def y(u: float, k: int = k) -> float:
        return u * math.log(u) ** k - (k * y(u, k - 1) if k else 0.0)

    return Problem(y, lambda y, u: y - u * math.log(u) ** k)


def data_power_of_lambda(k: int) -> Problem:
    """D = lambda^k: y / u = int e^lambda D d lambda = e^lambda (lambda^k - k lambda^(k-1) + ...)."""

    def y(u: float) -> float:
        return sum((-1) ** j * math.perm(k, j) * (-math.log(u)) ** (k - j) for j in range(k + 1))

    return Problem(y, lambda y, u: (-math.log(u)) ** k)


@pytest.mark.parametrize("steps", [20, 1000])
@pytest.mark.parametrize("schedule", [EDM(80.0), LinearVP(), Flow()], ids=["edm", "vp", "flow"])
@pytest.mark.parametrize(
    ("solver", "family", "degree"),
    [
        (LMS(4), noise_power_of_u, 3),
        (LMS(2), noise_power_of_u, 1),
        (DEIS(4, LogRatio()), noise_power_of_log_u, 3),
        (DPMpp3MExact(), data_power_of_lambda, 2),
        (UniP(3), data_power_of_lambda, 2),
        (UniPC(3), data_power_of_lambda, 3),
        (UniPC(2), data_power_of_lambda, 2),
        (UniPC(3, prediction=NoisePrediction()), noise_power_of_log_u, 3),
    ],
    ids=lambda value: str(value) if not callable(value) else value.__name__,
)
def test_polynomials_are_integrated_exactly(
    solver: Solver, family: Callable[[int], Problem], degree: int, schedule: Schedule, steps: int
) -> None:
    """With few steps and with many, to rounding; one degree more is not."""
    times = Karras(sigma_min=LOW, sigma_max=HIGH)(schedule, steps + 1)[:-1]
    plan = solver.plan(schedule, times)
    if isinstance(solver, UniPC):
        plan = plan[:-1]  # the last state is predicted only; the one before it was corrected
    (end,) = nodes(schedule, [plan[-1].target])
    for k in range(degree + 1):
        problem = family(k)
        assert endpoint(plan, schedule, problem) == pytest.approx(problem.y(end.ratio), rel=1e-10, abs=1e-10)
    if steps == 20:
        problem = family(degree + 1)
        assert abs(endpoint(plan, schedule, problem) - problem.y(end.ratio)) > 1e-7


def linear_vp_time(u: mpmath.mpf) -> mpmath.mpf:
    total = mpmath.log1p(u * u)  # -2 log alpha = 0.1 t + 19.9 t^2 / 2
    return 2 * total / (mpmath.mpf(0.1) + mpmath.sqrt(mpmath.mpf(0.1) ** 2 + 2 * (20 - mpmath.mpf(0.1)) * total))


TIMES: dict[str, tuple[Schedule, Callable[[mpmath.mpf], mpmath.mpf]]] = {
    "edm": (EDM(80.0), lambda u: u / 80),
    "flow": (Flow(), lambda u: u / (1 + u)),
    "cosine": (Cosine(), lambda u: 2 / mpmath.pi * mpmath.atan(u)),
    "vp": (LinearVP(), linear_vp_time),
}


@pytest.mark.parametrize(("schedule", "time"), TIMES.values(), ids=TIMES.keys())
@pytest.mark.parametrize("end", [0.003, 0.0])
def test_deis_weights_are_exact_in_time(
    schedule: Schedule, time: Callable[[mpmath.mpf], mpmath.mpf], end: float
) -> None:
    """Against adaptive quadrature of thirty digits, on short steps and on long ones, to the data too."""
    grid = nodes(schedule, [0.93, 0.9, 0.7, 0.699, 0.02, end])
    for i in (3, 4):
        t, s, seen = grid[i], grid[i + 1], grid[i - 3 : i + 1][::-1]
        got = Time().weights(schedule, t, s, seen)
        with mpmath.workdps(30):
            points = [time(mpmath.mpf(node.ratio)) for node in seen]
            middle = [t.ratio / 4**k for k in range(1, 12) if t.ratio / 4**k > s.ratio]
            for j in range(4):

                def basis(u: mpmath.mpf, j: int = j, points: Sequence[mpmath.mpf] = points) -> mpmath.mpf:
                    parts = [(time(u) - p) / (points[j] - p) for m, p in enumerate(points) if m != j]
                    return mpmath.fprod(parts)

                want = s.alpha * mpmath.quad(basis, [t.ratio, *middle, s.ratio])
                assert abs(got[j] - want) < 1e-10 * max(map(abs, got)), (i, j)


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("size", [0.0, 1e-12, 1e-6, 1e-3, 0.1, 1.0, 1.999, 2.001, 5.0, 30.0])
def test_phi_functions_are_exact_to_rounding(size: float, sign: int) -> None:
    """phi_k(z) = 1F1(1; k + 1; z) / k!, where the recurrence cancels and where it does not."""
    with mpmath.workdps(40):
        for k in range(1, 6):
            want = mpmath.hyp1f1(1, k + 1, sign * size) / mpmath.factorial(k)
            assert phi(k, sign * size) == pytest.approx(float(want), rel=2e-14)


@pytest.mark.parametrize("solver", [DPMpp3MExact(), UniPC(3), DEIS(4, LogRatio()), DPMSolver3()], ids=str)
def test_a_thousand_steps_cancel_nothing(solver: Solver) -> None:
    """On equal steps in log-SNR with alpha = 1 the weights are the same in every step: what differs is rounding."""
    times = UniformLogSNR(LOW, HIGH)(EDM(80.0), 1001)[:-1]
    inner = [stage for stage in solver.plan(EDM(80.0), times) if 10 <= stage.step < 990]
    period = len([stage for stage in inner if stage.step == 10])
    for offset in range(period):
        rows = np.array([stage.cleans for stage in inner[offset::period]])
        assert np.ptp(rows, axis=0).max() < 1e-10


def linear_system(t: Node, s: Node, seen: Sequence[Node], bh2: bool, corrector: bool) -> list[float]:
    """UniPC's weights of the clean means as its paper has them: R rho = b, with its cases of one unknown.

    The latest first; in the corrector the one at s comes before them.
    """
    h = s.log_ratio - t.log_ratio
    step = math.expm1(-h) if bh2 else -h
    ratios = [(node.log_ratio - t.log_ratio) / h for node in seen[1:]]
    if corrector:
        ratios.append(1.0)
    p = len(ratios)
    b, value = [], math.expm1(-h) / -h - 1
    for k in range(1, p + 1):
        b.append(value * math.factorial(k) / step)
        value = value / -h - 1 / math.factorial(k + 1)
    matrix = np.array([[r ** (k - 1) for r in ratios] for k in range(1, p + 1)])
    rho = [0.5] if p == 1 else np.linalg.solve(matrix, b).tolist() if p else []
    slopes = [-s.alpha * step * x / r for x, r in zip(rho, ratios, strict=True)]
    weights = [-s.alpha * math.expm1(-h) - sum(slopes), *slopes]
    return [weights[-1], *weights[:-1]] if corrector else weights


@pytest.mark.parametrize("bh", [BH1(), BH2()], ids=["bh1", "bh2"])
@pytest.mark.parametrize("p", [1, 2, 3])
def test_unipc_solves_its_papers_linear_system(p: int, bh: BH1 | BH2) -> None:
    schedule = LinearVP()
    times = Karras(sigma_min=LOW, sigma_max=HIGH)(schedule, 9)[:-1]
    grid = nodes(schedule, times)
    plan = UniPC(p, bh).plan(schedule, times)
    for i in range(p, 8):
        correct, predict = (stage for stage in plan if stage.step == i)
        before = grid[i - p : i][::-1]
        want = linear_system(grid[i - 1], grid[i], before, isinstance(bh, BH2), corrector=True)
        np.testing.assert_allclose(correct.cleans, want, rtol=1e-8, atol=1e-10)
        seen = grid[i - p + 1 : i + 1][::-1]
        want = linear_system(grid[i], grid[i + 1], seen, isinstance(bh, BH2), corrector=False)
        np.testing.assert_allclose(predict.cleans, want, rtol=1e-8, atol=1e-10)
        assert correct.evaluate and not predict.evaluate


def same(a: Plan, b: Plan) -> None:
    assert len(a) == len(b)
    for p, q in zip(a, b, strict=True):
        for left, right in ((p.states, q.states), (p.cleans, q.cleans)):
            size = max(len(left), len(right))
            padded = [np.pad(values, (0, size - len(values))) for values in (left, right)]
            np.testing.assert_allclose(*padded, rtol=1e-9, atol=1e-9)


IDENTITIES: dict[str, tuple[Solver, Solver]] = {
    "UniP-2 with bh2 is 2M": (UniP(2), DPMpp2M()),
    "UniP-3 is 3M exact": (UniP(3), DPMpp3MExact()),
    "UniP-1 is DDIM": (UniP(1), DDIM()),
    "LMS-1 is DDIM": (LMS(1), DDIM()),
    "tAB0 is DDIM": (DEIS(1), DDIM()),
    "iPNDM-1 is DDIM": (IPNDM(1), DDIM()),
    "iPNDM-v is LMS": (IPNDMv(4), LMS(4)),
    "rho-AB-DEIS is LMS": (DEIS(3, Ratio()), LMS(3)),
}


@pytest.mark.parametrize("schedule", [EDM(80.0), LinearVP(), Flow()], ids=["edm", "vp", "flow"])
@pytest.mark.parametrize("pair", IDENTITIES.values(), ids=IDENTITIES.keys())
def test_identities(pair: tuple[Solver, Solver], schedule: Schedule) -> None:
    times = UniformTime()(schedule, 12)
    same(pair[0].plan(schedule, times), pair[1].plan(schedule, times))


def test_unip_3_in_the_noise_prediction_is_log_rho_deis() -> None:
    """After the second step, where UniP-2 takes its slope at half weight and DEIS integrates it."""
    times = UniformTime()(LinearVP(), 12)
    a, b = UniP(3, prediction=NoisePrediction()), DEIS(3, LogRatio())
    same(a.plan(LinearVP(), times)[2:], b.plan(LinearVP(), times)[2:])


def test_deis_in_time_is_lms_where_time_is_u() -> None:
    times = Karras()(EDM(80.0), 12)
    same(DEIS(4).plan(EDM(80.0), times), LMS(4).plan(EDM(80.0), times))


PATHS: dict[str, tuple[Schedule, RungeKutta]] = {
    "flow": (Flow(), Midpoint(Straight())),
    "cosine": (Cosine(), Midpoint(Angle())),
}


@pytest.mark.parametrize(("schedule", "solver"), PATHS.values(), ids=PATHS.keys())
def test_a_coordinate_that_is_the_schedules_time_gives_the_plain_method(schedule: Schedule, solver: RungeKutta) -> None:
    """x' = alpha'(t) D + sigma'(t) z from t = 1 to t = 0 by the midpoint rule, written out."""
    denoiser = MixtureDenoiser(PLANE, schedule)

    def velocity(x: torch.Tensor, t: float) -> torch.Tensor:
        at = torch.tensor(t, dtype=torch.float64)
        alpha, sigma = schedule.alpha(at), schedule.sigma(at)
        clean = denoiser(x, at.expand(len(x)), condition()).clean
        return schedule.d_alpha(at) * clean + schedule.d_sigma(at) * (x - alpha * clean) / sigma

    times = UniformTime()(schedule, 7)
    x = start = SPACE.noise(key(), condition()).double()
    for t, s in zip(times.tolist(), times.tolist()[1:], strict=False):
        middle = x + (s - t) / 2 * velocity(x, t)
        x = x + (s - t) * velocity(middle, (s + t) / 2)
    got = sample(denoiser, solver, times, SPACE, condition(), key(), initial=start)
    torch.testing.assert_close(got, x, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("solver", [RK4(), RK4(Angle()), Midpoint(), LMS(4), DEIS(4)], ids=str)
def test_the_order_holds_in_steps_to_the_data_itself(solver: Solver) -> None:
    """On uniform times from 0.5 to 0 the last step is as long as the others and must not lower the order."""
    schedule, errors = Flow(), []
    (begin,) = nodes(schedule, [0.5])
    far = reference_solution(PLANE, 80.0 * SPACE.noise(key(), condition()).double(), 80.0, begin.ratio)
    truth = reference_solution(PLANE, far, begin.ratio, 1e-8, 1e-13)
    steps = (40, 80, 160)
    for n in steps:
        times = torch.linspace(0.5, 0.0, n + 1, dtype=torch.float64)
        exact, y, level = {}, far, begin.ratio
        for node in nodes(schedule, times[1 : REPLACED + 1]):
            y, level = reference_solution(PLANE, y, level, node.ratio, 1e-13), node.ratio
            exact[node.time] = node.alpha * y
        got = walk_plan(solver.plan(schedule, times), MixtureDenoiser(PLANE, schedule), begin.alpha * far, exact)
        errors.append(float((got - truth).norm(dim=1).median()))
    slope = -np.polyfit(np.log(steps), np.log(errors), 1)[0]
    assert slope > solver.order - 0.35, (slope, errors)


BENT = ("midpoint_angle", "rk4_angle")  # in the angle the path of a point mass is an arc; see the next test
STRAIGHT = {name: solver for name, solver in SOLVERS.items() if name not in BENT}


@pytest.mark.parametrize("solver", STRAIGHT.values(), ids=STRAIGHT.keys())
@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES.keys())
def test_plans_keep_a_point_mass(solver: Solver, schedule: Schedule) -> None:
    """If the data is one point D and there is no noise, every stage takes alpha_t D to alpha_s D exactly."""
    for steps in (1, 9):
        alphas: list[float] = []
        plan = solver.plan(schedule, UniformTime()(schedule, steps))
        ends = nodes(schedule, [time for stage in plan for time in (stage.time, stage.target)])
        for stage, at, to in zip(plan, ends[::2], ends[1::2], strict=True):
            alphas.insert(0, at.alpha)
            total = sum(a * alpha for a, alpha in zip(stage.states, alphas, strict=False)) + sum(stage.cleans)
            assert total == pytest.approx(to.alpha, abs=1e-10), stage


@pytest.mark.parametrize("schedule", [LinearVP(), Flow(), EDM(80.0)], ids=["vp", "flow", "edm"])
@pytest.mark.parametrize("solver", [Midpoint(Angle()), RK4(Angle())], ids=["midpoint", "rk4"])
def test_in_the_angle_standard_normal_data_are_followed_exactly(solver: RungeKutta, schedule: Schedule) -> None:
    """For them D = alpha x / (alpha^2 + sigma^2) and x / sqrt(alpha^2 + sigma^2) stays what it was."""
    x: list[float] = []
    cleans: list[float] = []
    for stage in solver.plan(schedule, UniformTime()(schedule, 5)):
        at, to = nodes(schedule, [stage.time, stage.target])
        x.insert(0, math.hypot(at.alpha, at.sigma))
        cleans.insert(0, at.alpha / math.hypot(at.alpha, at.sigma))
        got = sum(a * b for a, b in zip(stage.states, x, strict=False))
        got += sum(a * b for a, b in zip(stage.cleans, cleans, strict=False))
        assert got == pytest.approx(math.hypot(to.alpha, to.sigma), abs=1e-9)


def draw(solver: Solver, schedule: Schedule, times: torch.Tensor) -> torch.Tensor:
    initial = float(schedule.sigma(times[0])) * SPACE.noise(key(), condition()).double()
    denoiser = MixtureDenoiser(PLANE, schedule)
    return sample(denoiser, solver, times, SPACE, condition(), key(), initial=initial)  # type: ignore[return-value]


@pytest.mark.parametrize(("solver", "order"), [(RK4(), 3), (RK4(Angle()), 3), (Midpoint(), 2)], ids=str)
def test_one_step_to_the_data_has_the_local_error_of_its_order(solver: Solver, order: int) -> None:
    """h^(order + 1): RK4 becomes Ralston's third-order method, whose one step leaves fourth order to the whole."""
    exponential, errors = Problem(math.expm1, lambda y, u: y - u * math.exp(u)), []
    for h in (0.04, 0.02, 0.01):
        plan = solver.plan(Flow(), torch.tensor([h, 0.0], dtype=torch.float64))
        errors.append(abs(endpoint(plan, Flow(), exponential, replaced=0)))
    slopes = [math.log2(a / b) for a, b in pairwise(errors)]
    assert all(order + 0.6 < slope < order + 1.4 for slope in slopes), (slopes, errors)


@pytest.mark.parametrize("tableau", [MIDPOINT, RALSTON, RK4().tableau], ids=["midpoint", "ralston", "classical"])
def test_tableaus_meet_the_conditions_of_their_order(tableau: Tableau) -> None:
    """Hairer, Norsett & Wanner 1993, Table II.2.1."""
    n = len(tableau.b)
    a = np.array([[*row, *(0.0,) * (n - len(row))] for row in tableau.a])
    b, c = np.array(tableau.b), a.sum(1)
    conditions = {
        1: [(b.sum(), 1)],
        2: [(b @ c, 1 / 2)],
        3: [(b @ c**2, 1 / 3), (b @ a @ c, 1 / 6)],
        4: [(b @ c**3, 1 / 4), ((b * c) @ a @ c, 1 / 8), (b @ a @ c**2, 1 / 12), (b @ a @ a @ c, 1 / 24)],
    }
    for order in range(1, tableau.order + 1):
        for got, want in conditions[order]:
            assert got == pytest.approx(want, abs=1e-15)
    assert any(abs(got - want) > 1e-3 for got, want in conditions.get(tableau.order + 1, [(1, 0)]))


@every
@pytest.mark.parametrize("schedule", [Flow(), Cosine(), LinearVP(), EDM(80.0)], ids=["flow", "cosine", "vp", "edm"])
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_both_ends_and_few_steps(solver: Solver, schedule: Schedule, steps: int) -> None:
    """From alpha = 0 where the schedule has it, to sigma = 0, the samples stay on the scale of the data; one step of
    one evaluation is the data's mean.
    """
    got = draw(solver, schedule, UniformTime()(schedule, steps))
    assert bool(torch.isfinite(got).all()) and float(got.norm(dim=1).median()) < 6
    if steps == 1 and schedule.zero_terminal_snr and not isinstance(solver, RungeKutta):
        mean = torch.tensor(PLANE.weights, dtype=torch.float64) @ torch.tensor(PLANE.means, dtype=torch.float64)
        torch.testing.assert_close(got, mean.expand(ROWS, 2), rtol=1e-9, atol=1e-9)


@every
@pytest.mark.parametrize("schedule", [LinearVP(), Cosine(), Flow()], ids=["vp", "cosine", "flow"])
def test_change_of_schedule_changes_nothing(solver: Solver, schedule: Schedule) -> None:
    """The same noise levels on another schedule give the same samples, unless the solver says that it looks at time."""
    times = Karras(sigma_max=50.0)(SCHEDULE, 12)
    other = schedule.time(SCHEDULE.log_snr(times)).clamp(min=0.0)
    z = SPACE.noise(key(), condition()).double()
    pairs = [(SCHEDULE, times), (schedule, other)]
    a, b = (
        sample(
            MixtureDenoiser(PLANE, path),
            solver,
            grid,
            SPACE,
            condition(),
            key(),
            initial=float(path.sigma(grid[0])) * z,
        )
        for path, grid in pairs
    )
    if getattr(solver, "schedule_free", True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)
    else:
        assert float((a - b).norm(dim=1).median()) > 1e-3  # type: ignore[operator]


@every
@pytest.mark.parametrize("schedule", [LinearVP(), Flow()], ids=["vp", "flow"])
def test_declared_evaluations(solver: Solver, schedule: Schedule) -> None:
    """Every step away from the ends asks as often as declared, and no step more often."""
    n = 8
    plan = solver.plan(schedule, UniformTime()(schedule, n))
    asked = [sum(stage.evaluate for stage in plan if stage.step == step) for step in range(n)]
    assert asked[1:-1] == [solver.evaluations_per_step] * (n - 2)
    assert min(asked) >= 1 and max(asked) == solver.evaluations_per_step
    assert not solver.stochastic and not any(stage.draw for stage in plan)


LOWERED = [DPMpp2M, DPMpp3M, DPMpp3MExact, LMS, DEIS, IPNDM, UniP, UniPC]


@pytest.mark.parametrize("method", LOWERED)
def test_lower_order_final_counts_down_to_the_first_order(method: Callable[..., Solver]) -> None:
    """With k = 3 the last steps use at most 3, 2 and 1 predictions, and the others what they used."""
    schedule = LinearVP()
    times = Karras(sigma_min=LOW, sigma_max=HIGH)(schedule, 9)[:-1]
    plain, lowered = (method(lower_order_final=k).plan(schedule, times) for k in (0, 3))
    full, used = (
        [len(stage.cleans) for stage in plan if stage.target != stage.time][-3:]  # a corrector stays where it is
        for plan in (plain, lowered)
    )
    assert used == [min(full[0], 3), 2, 1]
    same(plain[: len(plain) * 5 // 8], lowered[: len(plain) * 5 // 8])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DPMSolver2(r1=0.0), r"growing shares of it in \(0, 1\]"),
        (lambda: DPMSolver3(r1=0.7, r2=0.5), "growing shares"),
        (lambda: DPMpp3S(r2=1.2), "growing shares"),
        (lambda: LMS(5), "LMS's order is 1, 2, 3 or 4, got 5"),
        (lambda: IPNDMv(0), "IPNDMv's order is 1, 2, 3 or 4, got 0"),
        (lambda: DEIS(0), "DEIS's order"),
        (lambda: IPNDM(7), "iPNDM's points is 1, 2, 3 or 4, got 7"),
        (lambda: UniPC(4), "UniPC's p is 1, 2 or 3, got 4"),
        (lambda: RungeKutta(Tableau(2, ((), (0.5,)), (1.0,))), "2 stages and 1 weights"),
    ],
)
def test_bad_arguments_are_named(make: Callable[[], object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make()


CONFIGURED: dict[str, Solver] = {
    "dpm_solver_2": DPMSolver2(),
    "dpm_solver_3": DPMSolver3(),
    "dpmpp_2m": DPMpp2M(),
    "dpmpp_2s": DPMpp2S(),
    "dpmpp_3m": DPMpp3M(),
    "dpmpp_3m_exact": DPMpp3MExact(),
    "dpmpp_3s": DPMpp3S(),
    "deis": DEIS(),
    "ipndm": IPNDM(),
    "ipndm_v": IPNDMv(),
    "lms": LMS(),
    "midpoint": Midpoint(),
    "rk4": RK4(),
    "unip": UniP(),
    "unipc": UniPC(),
}


@pytest.mark.parametrize(("name", "solver"), CONFIGURED.items(), ids=CONFIGURED.keys())
def test_configurations_are_the_defaults(name: str, solver: Solver) -> None:
    """conf/solver names the class with the same arguments as its own defaults."""
    folder = Path(__file__).parents[2] / "conf" / "solver"
    assert build(yaml.safe_load((folder / f"{name}.yaml").read_text()), Allow(("framework",))) == solver
