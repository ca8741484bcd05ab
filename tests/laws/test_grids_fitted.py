"""Grids that are fitted to a denoiser: what is claimed to be least is least, and a fit is worth its while."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tensordict import TensorDict
from torch import Tensor

from framework.build import MODEL_FOLDER, build
from framework.certify.gaussian_mixture import PLANE, SIXTEEN, Mixture, MixtureDenoiser, reference_solution
from framework.denoiser import Denoiser, Prediction
from framework.grids import Grid, Karras, UniformFlow, UniformLogSNR, UniformTime, check_times
from framework.grids.differentiable import Student
from framework.grids.fitted import Fitted, FittedGrid, fit
from framework.grids.gits import GITS, cheapest_path, cost_matrix
from framework.grids.identity import describe
from framework.grids.ld3 import LD3, Segments
from framework.grids.teacher import InBatches, distance, endpoint_error, walk_path
from framework.noise import SampleKey
from framework.sampler import sample
from framework.schedules import EDM, Flow, LinearVP, Schedule
from framework.solvers.ddim import DDPM
from framework.solvers.dpmpp import DPMpp2M
from framework.solvers.edm import Euler, Heun
from framework.solvers.plan import Solver
from framework.spaces import Euclidean, Product, Space, ZeroCentreOfMass
from framework.state import Condition, State, combine, map_state
from tests.laws.test_schedules import SCHEDULES

QUICK = LD3(samples=48, iterations=40, starts=(UniformFlow(), UniformLogSNR(), GITS(samples=48)), fine_steps=80)
FITTED: dict[str, Fitted] = {"gits": GITS(samples=48), "ld3": QUICK}
FEW = GITS(samples=8, fine_steps=16)
ROUGH: dict[str, Fitted] = {"gits": FEW, "ld3": LD3(samples=8, iterations=2, starts=(Karras(), FEW), fine_steps=16)}


def rows(count: int) -> TensorDict:
    return TensorDict({}, batch_size=[count])


def key(count: int, first: int = 0) -> SampleKey:
    return SampleKey(0, tuple(range(first, first + count)))


def fitted(grid: Fitted, denoiser: Denoiser, solver: Solver, steps: int, dimensions: int = 2) -> Tensor:
    return grid.fit(denoiser, solver, steps, Euclidean((dimensions,)), rows(grid.samples), key(grid.samples))


# The cheapest path


@pytest.mark.parametrize("gamma", [0.8, 1.0, 1.3])
@pytest.mark.parametrize("steps", range(1, 8))
def test_the_path_is_the_cheapest_of_all(steps: int, gamma: float) -> None:
    """Against every choice of times from a grid of seven steps."""
    costs = np.random.default_rng(steps).uniform(size=(8, 8))
    costs[np.tril_indices(8)] = np.inf

    def total(path: tuple[int, ...]) -> float:
        return sum(gamma**k * costs[i, j] for k, (i, j) in enumerate(itertools.pairwise(path)))

    every = [(0, *inner, 7) for inner in itertools.combinations(range(1, 7), steps - 1)]
    assert tuple(cheapest_path(costs, steps, gamma)) == min(every, key=total)


@pytest.mark.parametrize("schedule", [EDM(), Flow(), LinearVP()], ids=["edm", "flow", "linear_vp"])
def test_a_cost_is_the_distance_of_one_euler_step(schedule: Schedule) -> None:
    """From the teacher's state at one time to its state at another, with the solver itself."""
    space, condition = Euclidean((2,)), rows(16)
    denoiser = MixtureDenoiser(PLANE, schedule)
    times = Karras()(schedule, 12)
    path = walk_path(denoiser, Heun(), times, space, condition, key(16))
    costs, scale = cost_matrix(path, space, condition), path.scale(space, condition)
    for i, j in ((0, 1), (0, 12), (3, 7), (10, 11), (11, 12)):
        here, there = path.nodes[i], path.nodes[j]
        x = combine([(here.alpha, path.cleans[i]), (here.sigma, path.noises[i])])
        landed = sample(denoiser, Euler(), times[[i, j]], space, condition, key(16), initial=x)
        y = combine([(1 / there.alpha, landed)])
        expected = float(distance(y, path.state(j), space, condition).mean()) * scale / math.hypot(scale, there.ratio)
        assert costs[i, j] == pytest.approx(expected, rel=1e-4, abs=1e-7)


def test_the_reverse_sde_forgets_twice_as_fast() -> None:
    """On Gaussian data of deviation c the ODE leaves c / sqrt(c^2 + u^2) of a difference in y at ratio u, the SDE its
    square.
    """
    schedule, space, condition, c = Flow(), Double((1,)), rows(1), 0.7
    denoiser, times = Linear(schedule, c), UniformTime()(schedule, 2000)[500:]
    node = float(schedule.sigma(times[0]) / schedule.alpha(times[0]))
    carried = c / math.hypot(c, node)
    for solver, power in ((Euler(), 1), (DDPM(), 2)):
        here = torch.tensor([[1.0], [1.1]], dtype=torch.float64) * float(schedule.alpha(times[0]))
        ends = [sample(denoiser, solver, times, space, condition, key(1), initial=x[None]) for x in here]
        assert float(ends[1] - ends[0]) / 0.1 == pytest.approx(carried**power, rel=0.01)  # type: ignore[operator]


@dataclass(frozen=True)
class Linear:
    """The exact denoiser of N(0, std^2)."""

    schedule: Schedule
    std: float

    def __call__(self, x_t: Tensor, t: Tensor, condition: Condition) -> Prediction:
        alpha, sigma = self.schedule.alpha_sigma(t)
        gain = alpha * self.std**2 / (alpha**2 * self.std**2 + sigma**2)
        return Prediction(combine([(gain, x_t)]), x_t, alpha, sigma)


def test_gamma_is_the_best_of_those_that_are_tried() -> None:
    schedule, solver, space, count = EDM(), DPMpp2M(), Euclidean((2,)), 32
    denoiser = MixtureDenoiser(PLANE, schedule)
    path = walk_path(denoiser, DPMpp2M(), Karras()(schedule, 60), space, rows(count), key(count))

    def error(*gammas: float) -> float:
        times = fitted(GITS(samples=count, gammas=gammas), denoiser, solver, 5)
        return endpoint_error(denoiser, solver, times, path, space, rows(count), key(count))

    each = [error(gamma) for gamma in (1.0, 1.2, 1.6)]
    assert error(1.0, 1.2, 1.6) == min(each) < max(each)


# The learned times


@pytest.mark.parametrize("solver", [Euler(), DPMpp2M(), Heun()], ids=["euler", "dpmpp_2m", "heun"])
@pytest.mark.parametrize("schedule", [EDM(), Flow(), LinearVP()], ids=["edm", "flow", "linear_vp"])
def test_the_gradient_is_that_of_the_whole_loss(solver: Solver, schedule: Schedule) -> None:
    """Differences of the loss, by complete runs of the sampler, in each of the parameters; Flow starts at alpha = 0."""
    space, condition, start = Double((2,)), rows(16), UniformTime()(schedule, 5)
    denoiser = MixtureDenoiser(PLANE, schedule)
    if not schedule.zero_terminal_snr:
        start = Karras()(schedule, 5)
    path = walk_path(denoiser, DPMpp2M(), Karras()(schedule, 40), space, condition, key(16))
    student = Student(denoiser, solver, space, condition, key(16), path)
    grid = Segments.of(schedule, start)

    def loss(theta: Tensor) -> float:
        end = sample(denoiser, solver, grid.times(grid.log_ratios(theta)), space, condition, key(16))
        return float(distance(end, path.end, space, condition).mean())

    theta = grid.theta.clone().requires_grad_()
    levels = grid.log_ratios(theta)
    value, slope = student.loss_and_gradient(grid.times, levels.detach())
    levels.backward(slope)
    assert value == pytest.approx(loss(grid.theta), rel=1e-12)
    shifts = 1e-5 * torch.eye(5, dtype=torch.float64)
    expected = torch.tensor([(loss(grid.theta + shift) - loss(grid.theta - shift)) / 2e-5 for shift in shifts])
    assert theta.grad is not None and float(expected.abs().max()) > 1e-3
    torch.testing.assert_close(theta.grad.float(), expected, rtol=1e-5, atol=1e-7)


class Double(Euclidean):
    """All of R^shape, drawn in double precision."""

    def noise(self, key: SampleKey, condition: Condition) -> Tensor:  # type: ignore[override]
        return super().noise(key, condition).double()


@pytest.mark.parametrize("theta", [torch.zeros(6), torch.tensor([50.0, -50, 0, 3, -200, 9]), 1e3 * torch.eye(6)[5]])
@pytest.mark.parametrize("first", [1.0, 4.38, math.inf])
def test_learned_times_decrease_whatever_is_learned(theta: Tensor, first: float) -> None:
    grid = Segments(Flow(), first, theta.double())
    times = grid.times(grid.log_ratios(grid.theta))
    check_times(times)
    assert len(times) == 7 and float(times[-1]) == 0.0


def test_learning_starts_from_the_grid_that_it_is_given() -> None:
    for grid in (Karras(), UniformLogSNR(), UniformTime()):
        times = grid(Flow(), 8)
        segments = Segments.of(Flow(), times)
        torch.testing.assert_close(segments.times(segments.log_ratios(segments.theta)), times, rtol=1e-3, atol=3e-3)


def test_learning_never_ends_behind_where_it_began() -> None:
    """Not even at a learning rate that throws the times about: the best that was met on held-out noise is kept."""
    schedule, solver, space, count = EDM(), DPMpp2M(), Euclidean((2,)), 16
    denoiser = MixtureDenoiser(PLANE, schedule)
    held_out = key(count).component("held-out")
    path = walk_path(denoiser, DPMpp2M(), Karras()(schedule, 80), space, rows(count), held_out)

    def error(times: Tensor) -> float:
        return endpoint_error(denoiser, solver, times, path, space, rows(count), held_out)

    for rate in (0.1, 3.0, 300.0):
        wild = replace(QUICK, samples=count, learning_rate=rate, iterations=5, starts=(UniformFlow(), Karras()))
        assert error(fitted(wild, denoiser, solver, 5)) <= error(UniformFlow()(schedule, 5))


# What they are worth


@pytest.mark.parametrize(
    ("solver", "steps", "margin"), [(Euler(), 5, 1.1), (DPMpp2M(), 8, 0.8)], ids=["euler-5", "dpmpp_2m-8"]
)
@pytest.mark.parametrize("mixture", [PLANE, SIXTEEN], ids=["plane", "sixteen"])
def test_fitted_grids_beat_those_in_closed_form(mixture: Mixture, solver: Solver, steps: int, margin: float) -> None:
    """The mean error to the exact solution, on noise that nothing was fitted to, is less than on every usual grid.

    Learning gains more than that where there is something to gain, with a method of second order.
    """
    schedule, count, dimensions = EDM(), 256, mixture.dimensions
    space, denoiser = Euclidean((dimensions,)), MixtureDenoiser(mixture, schedule)
    fresh = key(count, first=1000)
    start = 80.0 * space.noise(fresh, rows(count)).double()
    truth = reference_solution(mixture, start, 80.0, 1e-3, tolerance=1e-7)

    def error(times: Tensor) -> float:
        end = sample(denoiser, solver, times, space, rows(count), fresh, initial=start)
        return float((end - truth).norm(dim=1).mean())  # type: ignore[operator]

    usual: list[Grid] = [UniformTime(), UniformLogSNR(), Karras()]
    best = min(error(grid(schedule, steps)) for grid in usual)
    gits, ld3 = (error(fitted(grid, denoiser, solver, steps, dimensions)) for grid in FITTED.values())
    assert gits < 0.9 * best
    assert ld3 < 0.9 * best
    assert ld3 < margin * gits


# Where they can be used


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES.keys())
@pytest.mark.parametrize("grid", ROUGH.values(), ids=ROUGH.keys())
def test_they_can_be_fitted_and_walked_on_every_schedule(grid: Fitted, schedule: Schedule) -> None:
    for steps in (1, 2, 5):
        times = fitted(grid, MixtureDenoiser(PLANE, schedule), DPMpp2M(), steps)
        check_times(times)
        assert len(times) == steps + 1 and float(times[-1]) == 0.0
        made = FittedGrid.of(schedule, times, {})
        torch.testing.assert_close(made(schedule, steps), times, rtol=1e-9, atol=1e-12)
        for other in SCHEDULES.values():
            assert len(check_times(made(other, steps))) == steps + 1


def test_a_fit_serves_other_schedules_by_its_noise_levels() -> None:
    """And so the solver ends where it does on its own schedule."""
    own, other, solver = EDM(), LinearVP(), DPMpp2M()
    grid = FittedGrid.of(own, fitted(GITS(samples=16), MixtureDenoiser(PLANE, own), solver, 6), {})
    torch.testing.assert_close(other.log_snr(grid(other, 6)[:-1]), own.log_snr(grid(own, 6)[:-1]))
    with pytest.raises(ValueError, match="fitted for 6 steps, not 7"):
        grid(own, 7)


def test_a_schedule_with_less_noise_is_entered_where_it_begins() -> None:
    grid = FittedGrid((-9.0, -8.0, -7.0, 0.0, 5.0, math.inf))
    times = check_times(grid(EDM(sigma_max=math.exp(3.75)), 5))
    assert float(times[0]) == 1.0
    log_snr = EDM(sigma_max=math.exp(3.75)).log_snr(times[1:-1])
    assert bool((log_snr > -7.5).all()) and float(log_snr[-1]) > 4


class GaussianDenoiser:
    """Data whose every component is normal with deviation `std` within the space."""

    def __init__(self, schedule: Schedule, std: float = 0.5) -> None:
        self.schedule, self.std = schedule, std

    def __call__(self, x_t: State, t: Tensor, condition: Condition) -> Prediction:
        alpha, sigma = self.schedule.alpha(t), self.schedule.sigma(t)
        gain = alpha * self.std**2 / (alpha**2 * self.std**2 + sigma**2)
        bent = map_state(lambda x: torch.tanh(3 * x) / 3, combine([(gain, x_t)]))  # else one shape fits all sizes
        return Prediction(bent, x_t, alpha, sigma)


def molecules(count: int, padded: int) -> tuple[Space, TensorDict]:
    sizes = 3 + torch.arange(count) % 3
    mask = torch.arange(padded) < sizes[:, None]
    space = Product({"positions": ZeroCentreOfMass(3), "charge": Euclidean((2,))})
    return space, TensorDict({"mask": mask}, batch_size=[count])


@pytest.mark.parametrize("grid", ROUGH.values(), ids=ROUGH.keys())
def test_states_of_several_components_and_padded_sets(grid: Fitted) -> None:
    """Nothing of padding weighs, and nothing leaves the space on the way."""
    found = []
    for padded in (5, 9):
        space, condition = molecules(8, padded)
        denoiser = GaussianDenoiser(Flow())
        times = grid.fit(denoiser, DPMpp2M(), 4, space, condition, key(8))
        end = sample(denoiser, DPMpp2M(), check_times(times), space, condition, key(8))
        assert float(end["positions"].sum(1).abs().max()) < 1e-5  # type: ignore[index, union-attr]
        assert not bool(end["positions"][~condition["mask"]].any())  # type: ignore[index]
        found.append(times)
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-6)


def test_distances_are_per_degree_of_freedom() -> None:
    space, condition = molecules(3, 7)
    ones = space.project(map_state(torch.ones_like, space.noise(key(3), condition)), condition)
    shifted = combine([(1.0, ones), (2.0, space.noise(key(3), condition))])
    squares = distance(shifted, ones, space, condition).square() * space.degrees_of_freedom(condition)
    z = space.noise(key(3), condition)
    expected = 4 * (z["positions"].square().sum((1, 2)) + z["charge"].square().sum(1))  # type: ignore[index]
    torch.testing.assert_close(squares.float(), expected)


def test_batches_change_nothing() -> None:
    space, condition = molecules(10, 6)
    whole, z = GaussianDenoiser(Flow()), space.noise(key(10), condition)
    t = torch.linspace(0.1, 0.9, 10, dtype=torch.float64)
    for one, other in zip(
        whole(z, t, condition).clean.values(),  # type: ignore[union-attr]
        InBatches(whole, 3)(z, t, condition).clean.values(),  # type: ignore[union-attr]
        strict=True,
    ):
        torch.testing.assert_close(one, other)


def test_what_cannot_be_fitted_is_refused() -> None:
    denoiser = MixtureDenoiser(PLANE, Flow())
    with pytest.raises(ValueError, match="GITS serves every solver"):
        fitted(QUICK, denoiser, DDPM(), 4)
    with pytest.raises(ValueError, match="a grid of 60 steps; 61 need"):
        fitted(GITS(samples=4), denoiser, DDPM(), 61)
    with pytest.raises(ValueError, match="whole number of steps"):
        fitted(GITS(samples=4), denoiser, DDPM(), 0)
    with pytest.raises(ValueError, match="a power and gammas above 0"):
        GITS(gammas=(1.0, 0.0))
    with pytest.raises(ValueError, match="rise strictly and end at infinity"):
        FittedGrid((1.0, 0.0, math.inf))
    assert len(fitted(GITS(samples=4), denoiser, DDPM(), 4)) == 5


# What is kept


def test_a_fit_survives_its_file(tmp_path: Path) -> None:
    space = Euclidean((2,))
    made = fit(GITS(samples=64), MixtureDenoiser(PLANE, Flow()), DPMpp2M(), 6, space, rows(64), key(64))
    assert made.record["error"]["FittedGrid"] < min(made.record["error"][name] for name in ("UniformLogSNR", "Karras"))
    made.save(tmp_path / "grid.json")
    assert FittedGrid.load(tmp_path / "grid.json") == made
    pure = FittedGrid((-math.inf, 0.5, math.inf), {"seconds": 1.0})
    pure.save(tmp_path / "pure.json")
    assert json.loads((tmp_path / "pure.json").read_text())["log_snr"] == [None, 0.5, None]
    assert FittedGrid.load(tmp_path / "pure.json") == pure
    for text in ("", "[]", "{}", '{"format": 1, "log_snr": [0, null, 1]}', '{"format": 2, "log_snr": [0, null]}'):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(ValueError):
            FittedGrid.load(tmp_path / "bad.json")


def test_an_identity_is_told_by_contents() -> None:
    one, other = torch.nn.Linear(2, 3), torch.nn.Linear(2, 3)
    other.load_state_dict(one.state_dict())
    assert describe([one, Karras()]) == describe((other, Karras(rho=7.0)))
    assert describe(Karras()) != describe(Karras(rho=6.0)) != describe(UniformLogSNR())
    before = describe([PLANE, MixtureDenoiser(PLANE, Flow())])
    PLANE.sample(3, seed=0)  # fills caches, which are no part of it
    assert describe([PLANE, MixtureDenoiser(PLANE, Flow())]) == before
    with torch.no_grad():
        other.bias[0] += 1e-6
    assert describe(one) != describe(other)
    assert describe(torch.tensor(1.0, dtype=torch.bfloat16)) != describe(torch.tensor(1.0))


def test_a_model_folder_may_ask_for_them() -> None:
    """They read and write nothing themselves."""
    made = build(
        {"_target_": "framework.grids.ld3.LD3", "starts": [{"_target_": "framework.grids.Karras"}]}, MODEL_FOLDER
    )
    assert made == LD3(starts=[Karras()])
    assert isinstance(build({"_target_": "framework.grids.gits.GITS"}, MODEL_FOLDER), Fitted)
    assert not isinstance(Karras(), Fitted)
