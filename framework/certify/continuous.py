r"""The laws of solvers of the Gaussian process, on beds whose denoisers are exact.

point_mass          a plan takes alpha_t D to alpha_s D where the data is one point D, on every schedule
evaluations         the denoiser is asked as often as declared
padding             sets of points padded wider are the same; padding is exactly 0, the centre of mass 0
change_of_schedule  the same noise-to-signal ratios on another schedule give the same samples
ends                from alpha = 0 and to sigma = 0 on every schedule, and the error falls with the steps there
one_step            one step from end to end is finite; most solvers' is the clean mean at the start
guidance            classifier-free guidance of scale 1 is the conditional sample
terminal_law        the mixture's means, deviations and weights come out, within standard errors and a bias
observation         likewise the posterior of a linear observation
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from functools import cache

import torch
from torch import Tensor

from framework.certify.bed import ContinuousBed, draw, reference
from framework.certify.check import Check, within
from framework.certify.gaussian_mixture import PLANE, PLANE_BED
from framework.certify.labelled import LabelledBed
from framework.certify.laws import finite
from framework.certify.observation import OBSERVED
from framework.certify.order import GAUSSIANS
from framework.certify.sets import SetBed
from framework.certify.variance import terminal_law
from framework.grids import Karras, UniformTime
from framework.guidance.classifier_free import ClassifierFree
from framework.ledger import Ledger
from framework.sampler import Loop
from framework.schedules import EDM, Cosine, Flow, LinearVP, Schedule
from framework.solvers.plan import Solver, nodes

Schedules = Mapping[str, Schedule]

SAMPLES, LAW_STEPS = 2048, 100
# What a first-order method may leave after LAW_STEPS steps; of the log density in nats, where each mode's width counts.
BIAS = {"mean": 0.05, "std": 0.05, "weights": 0.05, "correlation": 0.05, "log_density": 0.15}
DEVIATIONS = 4.0  # standard errors


def point_mass(solver: Solver, schedules: Schedules) -> Check:
    worst = 0.0
    for schedule in schedules.values():
        for grid in (UniformTime(), Karras()):
            alphas: list[float] = []
            for stage in solver.plan(schedule, grid(schedule, 9)):
                at, to = nodes(schedule, [stage.time, stage.target])
                alphas.insert(0, at.alpha)
                made = sum(a * alpha for a, alpha in zip(stage.states, alphas, strict=False)) + sum(stage.cleans)
                worst = max(worst, abs(made - to.alpha))
    return within("point_mass", worst, 1e-9, "largest error of a stage's coefficients")


def evaluations(solver: Solver | Loop) -> Check:
    """Its value is the number of evaluations of a step; not a number where steps are the solver's own."""
    schedule, steps, rows = LinearVP(), 24, 5
    times, ledger = Karras()(schedule, steps), Ledger()
    draw(PLANE_BED, solver, schedule, times, range(rows), ledger=ledger)
    counted = ledger.forward / rows
    if isinstance(solver, Loop):
        return _evaluations_of_loop(solver, schedule, ledger, rows)
    plan = solver.plan(schedule, times)
    asked = Counter(stage.step for stage in plan if stage.evaluate)
    usual = Counter(asked.values()).most_common(1)[0][0]
    right = usual == max(asked.values()) == solver.evaluations_per_step and counted == sum(asked.values())
    draws = any(stage.draw for stage in plan)
    said = f"{usual} a step, {counted:g} in {steps} steps, declared {solver.evaluations_per_step} a step"
    if draws != solver.stochastic:
        said += f"; declared stochastic={solver.stochastic}, and noise is {'drawn' if draws else 'not drawn'}"
    return Check("evaluations", right and draws == solver.stochastic, said, float(usual))


def _evaluations_of_loop(solver: Loop, schedule: Schedule, ledger: Ledger, rows: int) -> Check:
    """A loop that chooses its own steps asks as often on a finer grid; any other as often as declared a step."""
    finer = Ledger()
    draw(PLANE_BED, solver, schedule, Karras()(schedule, 48), range(rows), ledger=finer)
    a, b = ledger.forward / rows, finer.forward / rows
    if getattr(solver, "adaptive", False):
        same = abs(a - b) <= solver.evaluations_per_step
        return Check("evaluations", same, f"{a:g} in all, whatever the grid's steps", math.nan)
    each = (b - a) / 24
    return Check("evaluations", each == solver.evaluations_per_step, f"{each:g} a step", each)


def padding(solver: Solver | Loop) -> Check:
    schedule, samples = LinearVP(), tuple(range(8))
    times, narrow, wide = UniformTime()(schedule, 8), SetBed(8), SetBed(13)
    a, b = (draw(bed, solver, schedule, times, samples) for bed in (narrow, wide))
    mask = wide.condition(samples)["mask"]
    if float(b[~mask].abs().max()) != 0 or float(a[~mask[:, :8]].abs().max()) != 0:
        return Check("padding", False, "padding is not exactly 0")
    centre = float(b.sum(1).abs().max())
    worst = max(centre, float((b[:, :8] - a).abs().max()))
    return within("padding", worst, 1e-9, "padding exactly 0; centre of mass and difference to a wider padding")


def change_of_schedule(solver: Solver | Loop) -> Check:
    if not getattr(solver, "schedule_free", True):
        return Check("change_of_schedule", None, "declared to depend on the schedule's own time")
    edm, samples, worst = EDM(), tuple(range(32)), 0.0
    times = Karras(sigma_max=50.0)(edm, 12)
    z = PLANE_BED.noise(samples)
    first = draw(PLANE_BED, solver, edm, times, samples, initial=float(edm.sigma(times[0])) * z)
    for other in (LinearVP(), Cosine(), Flow()):
        theirs = other.time(edm.log_snr(times)).clamp(min=0.0)
        initial = float(other.sigma(theirs[0])) * z
        got = draw(PLANE_BED, solver, other, theirs, samples, initial=initial)
        worst = max(worst, float((got - first).abs().max()))
    return within("change_of_schedule", worst, 1e-6, "largest difference of samples on three other schedules")


FAR = 1e7  # the noise-to-signal ratio at which a reference starts in place of alpha = 0
NEAR = 1e-4  # and the one at which its clean mean stands for the end at sigma = 0
SMALL = 1e-3  # an error that need not fall any more: it may pass through zero on the way


def ends(solver: Solver | Loop, schedules: Schedules) -> Check:
    """Finite at few steps, and with an error that falls from 40 steps to 160, from t = 1 to t = 0 itself.

    A solver that chooses its own steps is walked once, and its error has to be small.
    """
    adaptive = getattr(solver, "adaptive", False)
    errors, broken = {}, []
    for name, schedule in schedules.items():
        grid = UniformTime() if schedule.zero_terminal_snr else Karras()
        for steps in (1,) if adaptive else (1, 2, 3, 5, 10):
            if not finite(draw(PLANE_BED, solver, schedule, grid(schedule, steps), range(8))):
                broken.append(f"{name}: not finite at {steps} steps")
        coarse = math.nan if adaptive else _error(solver, schedule, grid(schedule, 40))
        errors[name] = fine = _error(solver, schedule, grid(schedule, 160))
        if not (fine < 0.75 * coarse or fine < SMALL):
            broken.append(f"{name}: error {coarse:.1e} at 40 steps and {fine:.1e} at 160")
    worst = max(errors.values())
    said = f"error at 160 steps from end to end at most {worst:.1e} on {len(schedules)} schedules"
    return Check("ends", not broken, "; ".join(broken) or said, worst, None, errors)


def _error(solver: Solver | Loop, schedule: Schedule, times: Tensor) -> float:
    """Of the law where the solver draws noise and has a plan, else of the samples."""
    if solver.stochastic and not isinstance(solver, Loop):
        return _error_of_law(solver, schedule, times)
    return _error_of_end(solver, schedule, times)


def _error_of_end(solver: Solver | Loop, schedule: Schedule, times: Tensor) -> float:
    """The median distance of 32 samples to the ODE's own."""
    first = nodes(schedule, times[:1])[0]
    true = reference(PLANE_BED, FAR if first.alpha == 0 else first.ratio, 32)
    size = first.sigma / true.high if first.alpha == 0 else first.alpha
    got = draw(PLANE_BED, solver, schedule, times, true.samples, initial=size * true.start)
    ones = torch.ones(len(true.start), dtype=torch.float64)
    wanted = PLANE.clean_mean(true.at(NEAR), ones, NEAR * ones)
    return float((got - wanted).norm(dim=1).median())


def _error_of_law(solver: Solver, schedule: Schedule, times: Tensor) -> float:
    """The 2-Wasserstein distance of the law on Gaussian data to the exact one."""
    plan, (last,) = solver.plan(schedule, times), nodes(schedule, times[-1:])
    return max(terminal_law(plan, schedule, data).distance(data.marginal(last)) for data in GAUSSIANS)


def one_step(solver: Solver | Loop) -> Check:
    """What one step from pure noise to the data makes."""
    schedule, samples = Flow(), range(8)
    got = draw(PLANE_BED, solver, schedule, UniformTime()(schedule, 1), samples)
    mean = torch.tensor(PLANE.weights, dtype=torch.float64) @ torch.tensor(PLANE.means, dtype=torch.float64)
    if not finite(got):
        return Check("one_step", False, "one step is not finite")
    away = float((got - mean).abs().max())
    return Check(
        "one_step", True, "the mean of the data" if away < 1e-9 else "finite; it goes by more than the mean", away
    )


def guidance(solver: Solver | Loop) -> Check:
    schedule, samples = LinearVP(), range(12)
    times = UniformTime()(schedule, 8)
    off, one = (
        draw(bed, solver, schedule, times, samples) for bed in (LabelledBed(), LabelledBed(ClassifierFree(1.0)))
    )
    worst = float((off - one).abs().max())
    return within("guidance", worst, 0.0, "difference between scale 1 and the conditional sample")


def terminal_law_of(solver: Solver | Loop) -> Check:
    """SAMPLES samples of the plane mixture: means, deviations, weights as mean responsibilities, mean log density."""
    x, ones = _many(PLANE_BED, solver), torch.ones(SAMPLES, dtype=torch.float64)
    weights, means, stds = (torch.tensor(v, dtype=torch.float64) for v in (PLANE.weights, PLANE.means, PLANE.stds))
    mean = weights @ means
    covariance = torch.diag(weights @ (stds**2 + means**2) - mean**2)
    shares = PLANE.responsibilities(x, ones, 1e-3 * ones)[0].softmax(-1)
    rows = {
        "mean": (x.mean(0) - mean, x.std(0)),
        "std": (x.std(0) - covariance.diagonal().sqrt(), _spread_of_std(x)),
        "weights": (shares.mean(0) - weights, shares.std(0)),
    }
    density = PLANE.log_density(x, ones, 0 * ones)
    rows["log_density"] = ((density.mean() - _mean_log_density()).reshape(1), density.std().reshape(1))
    return _law_check("terminal_law", rows)


@cache
def _mean_log_density() -> float:
    """E[log p] of the plane mixture in nats, by 400 000 exact draws: within 0.002."""
    x = PLANE.sample(400_000, seed=1)
    ones = torch.ones(len(x), dtype=torch.float64)
    return float(PLANE.log_density(x, ones, 0 * ones).mean())


def observation(solver: Solver | Loop) -> Check:
    """SAMPLES samples of the mixture given y = A x + e, from the exact conditional denoiser."""
    x, posterior = _many(OBSERVED, solver), OBSERVED.observation.posterior
    rows = {
        "mean": (x.mean(0) - posterior.mean, x.std(0)),
        "std": (x.std(0) - posterior.covariance.diagonal().sqrt(), _spread_of_std(x)),
        "correlation": (_correlation(x) - _of_covariance(posterior.covariance), torch.ones(1, dtype=torch.float64)),
    }
    return _law_check("observation", rows)


def _many(bed: ContinuousBed, solver: Solver | Loop) -> Tensor:
    schedule = EDM()
    return draw(bed, solver, schedule, Karras()(schedule, LAW_STEPS), range(SAMPLES), seed=3)


def _spread_of_std(x: Tensor) -> Tensor:
    """The deviation of one sample's part in the sample deviation: sqrt(m4 - s^4) / (2 s)."""
    deviation = x - x.mean(0)
    variance = deviation.square().mean(0)
    return (deviation.pow(4).mean(0) - variance**2).sqrt() / (2 * variance.sqrt())


def _correlation(x: Tensor) -> Tensor:
    return _of_covariance(torch.cov(x.T))


def _of_covariance(covariance: Tensor) -> Tensor:
    """The correlation of the first two coordinates (1,)."""
    return (covariance[0, 1] / (covariance[0, 0] * covariance[1, 1]).sqrt()).reshape(1)


def _law_check(name: str, rows: Mapping[str, tuple[Tensor, Tensor]]) -> Check:
    """Each difference (d,) against BIAS and the standard errors that its samples' deviations (d,) leave."""
    numbers, worst = {}, 0.0
    for what, (difference, spread) in rows.items():
        error, standard = difference.abs(), spread / math.sqrt(SAMPLES)
        share = error / (BIAS[what] + DEVIATIONS * standard)
        place = int(share.argmax())
        numbers[what], numbers[f"{what}_standard_error"] = float(difference[place]), float(standard[place])
        worst = max(worst, float(share.max()))
    said = ", ".join(f"{what} {numbers[what]:+.3f} ± {numbers[f'{what}_standard_error']:.3f}" for what in rows)
    return Check(name, worst <= 1, f"off by {said} ({SAMPLES} samples, {LAW_STEPS} steps)", worst, 1.0, numbers)


def laws(solver: Solver | Loop, schedules: Schedules) -> dict[str, Callable[[], Check]]:
    """The laws of the module's docstring by name."""
    plan = {} if isinstance(solver, Loop) else {"point_mass": lambda: point_mass(solver, schedules)}
    return {
        **plan,
        "evaluations": lambda: evaluations(solver),
        "padding": lambda: padding(solver),
        "change_of_schedule": lambda: change_of_schedule(solver),
        "ends": lambda: ends(solver, schedules),
        "one_step": lambda: one_step(solver),
        "guidance": lambda: guidance(solver),
        "terminal_law": lambda: terminal_law_of(solver),
        "observation": lambda: observation(solver),
    }
