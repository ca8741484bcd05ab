"""Adaptive solvers: SciPy's steps a row at a time, the tolerance met, and nothing that depends on a neighbour."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from tensordict import TensorDict
from torch import Tensor

from framework.certify.bed import key_of
from framework.certify.gaussian_mixture import PLANE, Mixture, MixtureDenoiser, reference_solution
from framework.certify.sets import SetBed
from framework.denoiser import Prediction
from framework.grids import UniformTime
from framework.guidance.classifier_free import ClassifierFree
from framework.ledger import Ledger
from framework.noise import SampleKey
from framework.ode import DOP853_TABLEAU, DORMAND_PRINCE, Tableau, attempt, segments
from framework.processes.process import Process
from framework.sampler import Loop, Progress, sample
from framework.samples import Trajectory
from framework.schedules import EDM, Cosine, Flow, LinearVP, Schedule
from framework.solvers.adaptive import DOP853, RK45, Adaptive, reference
from framework.spaces import Euclidean, Product
from framework.state import State
from tests.toy import point_model

SPACE = Euclidean((2,))
ADAPTIVE = {"rk45": RK45(), "dop853": DOP853()}
METHODS = {"RK45": DORMAND_PRINCE, "DOP853": DOP853_TABLEAU}


def condition(rows: int) -> TensorDict:
    return TensorDict({}, batch_size=[rows])


def key(rows: int) -> SampleKey:
    return SampleKey(0, tuple(range(rows)))


def times(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def draw(solver: Adaptive, schedule: Schedule, grid: Tensor, rows: int = 16, ledger: Ledger | None = None) -> Tensor:
    start = float(schedule.sigma(grid[0])) * SPACE.noise(key(rows), condition(rows)).double()
    denoiser = MixtureDenoiser(PLANE, schedule, ledger)
    return sample(denoiser, solver, grid, SPACE, condition(rows), key(rows), initial=start, ledger=ledger)  # type: ignore[return-value]


def pendulum(t: Tensor, y: Tensor) -> Tensor:
    """A driven pendulum: smooth, nonlinear, and depends on t."""
    return torch.stack([y[:, 1], -torch.sin(y[:, 0]) + 0.3 * torch.cos(2 * t)], 1)


@pytest.mark.parametrize("name", METHODS)
def test_a_row_takes_scipys_steps(name: str) -> None:
    """Each row of a batch is what solve_ivp makes of it alone, in as many evaluations."""
    y = torch.tensor([[0.1, 0.0], [1.0, 2.0], [3.0, -0.5]], dtype=torch.float64)
    for row, alone in zip(y, y[:, None], strict=True):
        calls: list[float] = []

        def counted(t: Tensor, y: Tensor, calls: list[float] = calls) -> Tensor:
            calls.append(float(t[0]))
            return pendulum(t, y)

        *_, last = segments(counted, 0.0, 9.0, alone, METHODS[name], 1e-7, 1e-8)

        def one(t: float, y: np.ndarray) -> np.ndarray:
            return pendulum(torch.tensor([t], dtype=torch.float64), torch.from_numpy(y)[None])[0].numpy()

        truth = solve_ivp(one, (0.0, 9.0), row.numpy(), name, rtol=1e-7, atol=1e-8)
        assert len(calls) == truth.nfev
        np.testing.assert_allclose(last.y_stop[0], truth.y[:, -1], rtol=0, atol=1e-12)
    *_, together = segments(pendulum, 0.0, 9.0, y, METHODS[name], 1e-7, 1e-8)
    assert torch.equal(together.y_stop[-1:], last.y_stop)


@pytest.mark.parametrize("tableau", METHODS.values(), ids=METHODS)
def test_order_of_the_methods(tableau: Tableau) -> None:
    """With even steps the error falls as the step to the declared power."""
    y = torch.tensor([[1.0, 2.0]], dtype=torch.float64)
    *_, truth = segments(pendulum, 0.0, 4.0, y, DOP853_TABLEAU, 1e-13, 1e-14)
    errors, counts = [], np.array([8, 12, 16]) if tableau.order == 8 else np.array([32, 64, 128])
    for n in counts:
        at, h = y, torch.full((1,), 4.0 / n, dtype=torch.float64)
        for i in range(n):
            at, _ = attempt(pendulum, i * h, h, at, pendulum(i * h, at), tableau)
        errors.append(float((at - truth.y_stop).norm()))
    slope = -np.polyfit(np.log(counts), np.log(errors), 1)[0]
    assert tableau.order - 0.3 < slope < tableau.order + 1.0, (slope, errors)


@pytest.mark.parametrize("tolerance", [1e-4, 1e-6, 1e-8])
@pytest.mark.parametrize("solver", [RK45, DOP853], ids=["rk45", "dop853"])
def test_the_tolerance_is_met(solver: type[Adaptive], tolerance: float) -> None:
    """The median sample's error is of the tolerance's size, from pure noise at u = 80 down to u = 0.002."""
    schedule, rows = EDM(80.0), 64
    start = 80.0 * SPACE.noise(key(rows), condition(rows)).double()
    truth = reference_solution(PLANE, start, 80.0, 0.002)
    got = draw(solver(tolerance, tolerance), schedule, times(1.0, 0.002 / 80), rows)
    assert float((got - truth).norm(dim=1).median()) < 3 * tolerance


@pytest.mark.parametrize("solver", ADAPTIVE.values(), ids=ADAPTIVE)
def test_batch_split_invariance(solver: Adaptive) -> None:
    """Sample i is the same alone, in another order and in any batch, guided or not."""
    schedule, rows, grid = Flow(), 9, UniformTime()(Flow(), 3)
    for guidance in (None, ClassifierFree(2.0)):

        def run(samples: tuple[int, ...], guidance: ClassifierFree | None = guidance) -> Tensor:
            base, c = MixtureDenoiser(PLANE, schedule), condition(len(samples))
            denoiser = base if guidance is None else guidance(base, c)
            return sample(denoiser, solver, grid, SPACE, c, key_of(samples))  # type: ignore[return-value]

        whole, back = run(tuple(range(rows))), tuple(reversed(range(rows)))
        torch.testing.assert_close(run(back)[list(back)], whole, rtol=0, atol=1e-10)
        parts = [run(tuple(range(i, i + 3))) for i in range(0, rows, 3)]
        torch.testing.assert_close(torch.cat(parts), whole, rtol=0, atol=1e-10)


@pytest.mark.parametrize("schedule", [Flow(), Cosine(), LinearVP()], ids=["flow", "cosine", "vp"])
def test_change_of_schedule_changes_nothing(schedule: Schedule) -> None:
    edm = EDM(80.0)
    ends = edm.log_snr(times(0.5, 0.01 / 80))
    a = draw(DOP853(), edm, times(0.5, 0.01 / 80))
    other = schedule.time(ends)
    z = SPACE.noise(key(16), condition(16)).double()
    start = float(torch.hypot(schedule.alpha(other[0]), schedule.sigma(other[0]))) / math.hypot(1, 40) * 40 * z
    b = sample(MixtureDenoiser(PLANE, schedule), DOP853(), other, SPACE, condition(16), key(16), initial=start)
    torch.testing.assert_close(b / float(schedule.alpha(other[1])), a, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("solver", ADAPTIVE.values(), ids=ADAPTIVE)
@pytest.mark.parametrize("schedule", [Flow(), Cosine(), LinearVP(), EDM(80.0)], ids=["flow", "cosine", "vp", "edm"])
def test_both_ends(solver: Adaptive, schedule: Schedule) -> None:
    """From the schedule's first time, alpha = 0 or not, to sigma = 0; the times between change nothing."""
    got = draw(solver, schedule, times(1.0, 0.0))
    finer = draw(DOP853(1e-10, 1e-10, 1e-5), schedule, times(1.0, 0.0))
    assert float((got - finer).norm(dim=1).median()) < 3 * solver.rtol + 5e-8  # the last from smallest_ratio^2
    assert torch.equal(got, draw(solver, schedule, UniformTime()(schedule, 7)))


def test_the_last_step_costs_what_is_said() -> None:
    """Ending at w in place of 0 errs by w^2 / (2 s) for deviation s, to first order; for a point, by nothing."""
    s, w, z = 0.5, 1e-3, torch.tensor([[1.3]], dtype=torch.float64)
    for deviation, expected in ((s, s * 1.3 * w**2 / (2 * s**2)), (1e-9, 0.0)):
        denoiser = MixtureDenoiser(Mixture((1.0,), ((0.0,),), ((deviation,),)), Flow())
        solver, line = DOP853(1e-10, 1e-10, w), Euclidean((1,))
        got = sample(denoiser, solver, times(1.0, 0.0), line, condition(1), key(1), initial=z)
        assert float(deviation * z - got) == pytest.approx(expected, rel=0.01, abs=2e-9)


def test_a_start_below_the_smallest_ratio_is_the_clean_mean() -> None:
    x = PLANE.sample(5, 0)
    denoiser, ledger = MixtureDenoiser(PLANE, Flow(), Ledger()), Ledger()
    denoiser.ledger = ledger
    got = sample(denoiser, RK45(), times(1e-6, 0.0), SPACE, condition(5), key(5), initial=x, ledger=ledger)
    torch.testing.assert_close(got, denoiser(x, times(*[1e-6] * 5), condition(5)).clean, rtol=1e-9, atol=1e-9)
    assert ledger.calls == 2  # one of them is this test's


@pytest.mark.parametrize("solver", ADAPTIVE.values(), ids=ADAPTIVE)
def test_sets_keep_their_space_and_padding_never_weighs(solver: Adaptive) -> None:
    """Centre of mass and padding stay zero, and wider padding changes nothing: not a step, not a digit."""
    schedule, grid, rows = Cosine(), times(1.0, 0.0), tuple(range(4))
    results, calls = [], []
    for bed in (SetBed(padded=6), SetBed(padded=11)):
        c, ledger = bed.condition(rows), Ledger()
        got = sample(bed.denoiser(schedule, ledger), solver, grid, bed.space, c, key_of(rows))
        assert bool((got[~c["mask"]] == 0).all()) and float(got.sum(1).abs().max()) < 1e-12  # type: ignore[operator,union-attr]
        results.append(got[:, :6])
        calls.append(ledger.calls)
    torch.testing.assert_close(*results, rtol=0, atol=1e-10)
    assert calls[0] == calls[1]


class Both:
    """A point and a set, each denoised by itself."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self.parts = {"point": MixtureDenoiser(PLANE, schedule), "set": SetBed().denoiser(schedule)}

    def __call__(self, x_t: TensorDict, t: Tensor, condition: TensorDict) -> Prediction:
        clean = {name: part(x_t[name], t, condition).clean for name, part in self.parts.items()}
        alpha, sigma = self.schedule.alpha(t), self.schedule.sigma(t)
        return Prediction(TensorDict(clean, batch_size=x_t.batch_size), x_t, alpha, sigma)


def test_named_components() -> None:
    """A TensorDict is integrated as one state; its parts agree with those integrated alone, to the tolerance."""
    rows, bed = tuple(range(3)), SetBed()
    c, space = bed.condition(rows), Product({"point": SPACE, "set": bed.space})
    start = space.noise(key_of(rows), c)
    grid, solver = times(1.0, 0.3, 0.0), DOP853(1e-7, 1e-7)
    got = sample(Both(Flow()), solver, grid, space, c, key_of(rows), initial=start)
    point = sample(MixtureDenoiser(PLANE, Flow()), solver, grid, SPACE, c, key_of(rows), initial=start["point"])
    sets = sample(bed.denoiser(Flow()), solver, grid, bed.space, c, key_of(rows), initial=start["set"])
    torch.testing.assert_close(got["point"], point, rtol=0, atol=1e-5)
    torch.testing.assert_close(got["set"], sets, rtol=0, atol=1e-5)


def test_hooks_look_at_the_grid_and_change_nothing() -> None:
    schedule, rows = Flow(), 16
    grid = UniformTime()(schedule, 6)
    seen: list[Progress] = []
    start = SPACE.noise(key(rows), condition(rows)).double()
    arguments = (MixtureDenoiser(PLANE, schedule), DOP853(1e-9, 1e-9), grid, SPACE, condition(rows), key(rows))
    with_hook = sample(*arguments, initial=start, hooks=[seen.append])
    assert torch.equal(with_hook, sample(*arguments, initial=start))  # type: ignore[arg-type]
    assert [p.index for p in seen] == list(range(6)) and all(p.stages == 6 for p in seen)
    truth = reference(MixtureDenoiser(PLANE, schedule), start, grid, SPACE, condition(rows))
    assert torch.equal(seen[-1].x, with_hook)  # type: ignore[arg-type]
    for p, x, t in zip(seen, truth[1:], grid[1:], strict=True):
        assert p.stage.target == float(t)
        torch.testing.assert_close(p.x, x, rtol=0, atol=5e-3)
        clean = arguments[0](x, t.expand(rows), condition(rows)).clean if t > 0 else x
        assert float((p.prediction.clean - clean).abs().median()) < 5e-3


def test_reference_agrees_with_scipy_at_every_time() -> None:
    schedule, rows = EDM(80.0), 16
    start = 80.0 * SPACE.noise(key(rows), condition(rows)).double()
    ratios = (80.0, 5.0, 0.4, 0.01)
    grid = times(*(u / 80 for u in ratios))
    states = reference(MixtureDenoiser(PLANE, schedule), start, grid, SPACE, condition(rows))
    for u, x in zip(ratios[1:], states[1:], strict=True):
        torch.testing.assert_close(x, reference_solution(PLANE, start, 80.0, u), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("solver", ADAPTIVE.values(), ids=ADAPTIVE)
def test_declared_evaluations(solver: Adaptive) -> None:
    """Two evaluations choose the first step; every attempt costs what is declared; the ledger sees them all."""
    ledger = Ledger()
    draw(solver, LinearVP(), UniformTime()(LinearVP(), 4), ledger=ledger)
    assert isinstance(solver, Loop) and solver.adaptive and not solver.stochastic
    assert (ledger.calls - 2) % solver.evaluations_per_step == 0 and ledger.calls > 2 + solver.evaluations_per_step
    assert ledger.evaluations_per_sample == ledger.calls


def test_states_keep_their_type_and_gradients_flow() -> None:
    start = SPACE.noise(key(4), condition(4)).requires_grad_()
    denoiser = MixtureDenoiser(PLANE, Flow())

    class Single:
        schedule = Flow()

        def __call__(self, x_t: Tensor, t: Tensor, c: TensorDict) -> Prediction:
            assert x_t.dtype == torch.float32
            return denoiser(x_t, t, c).with_clean(denoiser(x_t.double(), t, c).clean.float())

    got = sample(Single(), RK45(1e-4, 1e-4), times(1.0, 0.1), SPACE, condition(4), key(4), initial=start)
    assert got.dtype == torch.float32
    (slope,) = torch.autograd.grad(got[:, 0].sum(), start)
    nudge = 1e-3 * torch.tensor([[1.0, 0.0]])
    ends = [
        sample(denoiser, DOP853(), times(1.0, 0.1), SPACE, condition(4), key(4), initial=(start + d).detach().double())
        for d in (nudge, -nudge)
    ]
    torch.testing.assert_close(slope[:, 0].double(), (ends[0] - ends[1])[:, 0] / 2e-3, rtol=1e-2, atol=1e-3)


def test_a_model_samples_with_it() -> None:
    trajectory = Trajectory()
    drawn = point_model().sample([0, 1], 4, solver=RK45(1e-3, 1e-3), steps=3, hooks=[trajectory])  # type: ignore[arg-type]
    assert len(trajectory.states) == 3 and torch.equal(trajectory.states[-1], drawn.samples)
    assert drawn.ledger.evaluations_per_sample > 10


class Unmixing(Process):
    def prior(self, t: Tensor, key: object, condition: TensorDict) -> State:
        return torch.zeros(condition.batch_size[0], 2)


def test_bad_input_is_named() -> None:
    for arguments in ((0.0, 1e-3), (1e-3, -1.0), (1e-3, 1e-3, 0.0)):
        with pytest.raises(ValueError, match="must be positive"):
            RK45(*arguments)
    denoiser = MixtureDenoiser(PLANE, Flow())
    with pytest.raises(ValueError, match="Gaussian process, not of"):
        sample(denoiser, RK45(), times(1.0, 0.5), SPACE, condition(2), key(2), process=Unmixing())  # type: ignore[abstract]

    class Broken(MixtureDenoiser):
        def __call__(self, x_t: Tensor, t: Tensor, condition: TensorDict) -> Prediction:
            found = super().__call__(x_t, t, condition)
            return found.with_clean(torch.where(t[:, None] < 0.7, torch.nan, found.clean))  # type: ignore[arg-type]

    with pytest.raises(ValueError, match=r"no step is short enough .* not finite there"):
        sample(Broken(PLANE, Flow()), RK45(), times(1.0, 0.5), SPACE, condition(2), key(2))
