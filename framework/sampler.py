"""The one loop: from noise to data along a solver's plan.

    x_1 = sigma(t_0) z_0                                     the prior, drawn from the key
    D_k = denoiser(x_k, t_k)                                 where the stage asks for it
    x_{k+1} = sum_j a_j x_{k-j} + sum_j b_j D_(j) + c z_k    the plan's float64 numbers, fresh noise from the key
    x_{k+1} = project(x_{k+1})                               back onto the space

It knows no modality, no schedule's formula and no solver's name, keeps nothing between runs, and may run in several
threads at once. Gradients flow through it unless the caller says otherwise.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from framework.denoiser import Denoiser, Prediction
from framework.grids import check_times
from framework.ledger import Ledger
from framework.noise import NoiseKey
from framework.processes.gaussian import Gaussian
from framework.solvers.plan import Plan, Solver, Stage
from framework.spaces import Space
from framework.state import Condition, State, batch_size, combine, device_of


@dataclass(frozen=True)
class Progress:
    """What a hook sees after each stage: which it was, of how many, the new state and the latest prediction."""

    index: int
    stages: int
    stage: Stage
    x: State
    prediction: Prediction


Hook = Callable[[Progress], None]


def sample(
    denoiser: Denoiser,
    solver: Solver,
    times: torch.Tensor,
    space: Space,
    condition: Condition,
    key: NoiseKey,
    *,
    initial: State | None = None,
    hooks: Sequence[Hook] = (),
    ledger: Ledger | None = None,
) -> State:
    """Samples for each row of the condition.

    Args:
        denoiser: the clean mean, guided or not; the times refer to its schedule.
        solver: what turns schedule and times into a plan.
        times: float64 (n + 1,), strictly decreasing, from a grid.
        space: where noise lives and what is projected onto.
        condition: TensorDict with batch_size [B].
        key: the source of all randomness.
        initial: the state at times[0] in place of the prior's draw, of B rows; it is not changed.
        hooks: observers, called after each stage in order.
        ledger: where samples and seconds are entered (the denoiser enters evaluations).

    Returns:
        The state at times[-1], B rows.

    Raises:
        ValueError: the times cannot be walked, or `initial` has another number of rows than the condition.
    """
    times = check_times(times)
    rows = condition.batch_size[0]
    if initial is not None and batch_size(initial) != rows:
        raise ValueError(f"the initial state has {batch_size(initial)} rows and the condition {rows}")
    ledger = ledger or Ledger()
    plan = solver.plan(denoiser.schedule, times)
    with ledger.timed(device_of(condition)):
        x = initial
        if x is None:
            x = Gaussian(denoiser.schedule, space).prior(times[0], key, condition)
        x = execute(plan, denoiser, x, space, condition, key, hooks)
    ledger.samples += rows
    return x


def execute(
    plan: Plan,
    denoiser: Denoiser,
    x: State,
    space: Space,
    condition: Condition,
    key: NoiseKey,
    hooks: Sequence[Hook] = (),
) -> State:
    """Walk a plan from the state x; see `sample`."""
    rows = batch_size(x)
    states: deque[State] = deque(maxlen=max(len(stage.states) for stage in plan))
    predictions: deque[Prediction] = deque(maxlen=max(max(len(stage.cleans) for stage in plan), 1))
    for index, stage in enumerate(plan):
        states.appendleft(x)
        if stage.evaluate:
            t = torch.full((rows,), stage.time, dtype=torch.float64)
            prediction = denoiser(x, t, condition)
            predictions.appendleft(prediction.with_clean(space.project(prediction.clean, condition)))
        terms = list(zip(stage.states, states, strict=False))
        terms += [(b, p.clean) for b, p in zip(stage.cleans, predictions, strict=False)]
        if stage.noise != 0:
            terms.append((stage.noise, space.noise(key.at(index + 1), condition)))
        x = space.project(combine(terms), condition)
        if predictions:  # a stage that only adds noise at the very start has nothing to show
            for hook in hooks:
                hook(Progress(index, len(plan), stage, x, predictions[0]))
    return x
