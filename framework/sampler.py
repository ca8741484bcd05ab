"""The one loop: from noise to data along a solver's plan.

    x_0 = prior at t_0                                       drawn from the key
    D_k = denoiser(x_k, t_k)                                 where the stage asks for it
    z_k                                                      fresh noise from the key, where the stage asks for it
    x_{k+1} = sum_j a_j x_{k-j} + sum_j b_j D_(j) + sum_j c_j z_(j)     the plan's float64 numbers
    x_{k+1} = project(x_{k+1})                               back onto the space

It knows no modality, no schedule's formula and no solver's name, keeps nothing between runs, and may run in several
threads at once. Gradients flow through it unless the caller says otherwise. A solver that is no plan (an adaptive one,
one of categorical or product states) is a `Loop`, which brings its own few lines and is started here like any other.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch

from framework.denoiser import Denoiser, Prediction
from framework.grids import check_times
from framework.ledger import Ledger
from framework.noise import NoiseKey
from framework.processes.gaussian import Gaussian
from framework.processes.process import Process
from framework.solvers.plan import Plan, Solver, Stage
from framework.spaces import Space
from framework.state import Coefficient, Condition, State, batch_size, combine, device_of


@dataclass(frozen=True)
class Progress:
    """What a hook sees after each stage: which it was, of how many, the new state and the latest prediction."""

    index: int
    stages: int
    stage: Stage
    x: State
    prediction: Prediction


Hook = Callable[[Progress], None]


@runtime_checkable
class Loop(Protocol):
    """A solver that walks the times by itself; it has a Solver's declarations and `run` in place of `plan`."""

    @property
    def order(self) -> float: ...

    @property
    def evaluations_per_step(self) -> int: ...

    @property
    def stochastic(self) -> bool: ...

    def run(
        self,
        denoiser: Denoiser,
        process: Process,
        times: torch.Tensor,
        x: State,
        condition: Condition,
        key: NoiseKey,
        hooks: Sequence[Hook],
    ) -> State:
        """From the state x at times[0] to the one at times[-1]."""
        ...


def sample(
    denoiser: Denoiser,
    solver: Solver | Loop,
    times: torch.Tensor,
    space: Space,
    condition: Condition,
    key: NoiseKey,
    *,
    process: Process | None = None,
    initial: State | None = None,
    hooks: Sequence[Hook] = (),
    ledger: Ledger | None = None,
) -> State:
    """Samples for each row of the condition.

    Args:
        denoiser: the clean mean, guided or not; the times refer to its schedule.
        solver: what turns schedule and times into a plan, or walks the times by itself.
        times: float64 (n + 1,), strictly decreasing, from a grid.
        space: where noise lives and what is projected onto.
        condition: TensorDict with batch_size [B].
        key: the source of all randomness.
        process: what is undone; None is the Gaussian process of the denoiser's schedule in `space`.
        initial: the state at times[0] in place of the prior's draw, of B rows; it is not changed.
        hooks: observers, called after each stage in order.
        ledger: where samples and seconds are entered (the denoiser enters evaluations).

    Returns:
        The state at times[-1], B rows; of a solver that keeps one of several particles, as many as it keeps.

    Raises:
        ValueError: the times cannot be walked, or `initial` has another number of rows than the condition.
    """
    times = check_times(times)
    rows = condition.batch_size[0]
    if initial is not None and batch_size(initial) != rows:
        raise ValueError(f"the initial state has {batch_size(initial)} rows and the condition {rows}")
    ledger = ledger or Ledger()
    process = process or Gaussian(denoiser.schedule, space)
    with ledger.timed(device_of(condition)):
        x = process.prior(times[0], key, condition) if initial is None else initial
        if isinstance(solver, Loop):
            x = solver.run(denoiser, process, times, x, condition, key, hooks)
        else:
            plan = solver.plan(denoiser.schedule, times)
            x = execute(plan, denoiser, x, space, condition, key, hooks)
    ledger.samples += batch_size(x)
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
    run = Execution(plan, denoiser, space, condition, key)
    for index, stage in enumerate(plan):
        x = run.advance(index, stage, x)
        if run.predictions:  # a stage that only adds noise at the very start has nothing to show
            for hook in hooks:
                hook(Progress(index, len(plan), stage, x, run.predictions[0]))
    return x


class Execution:
    """A plan under way: as many of the latest states, predictions and noises as its stages look back on."""

    def __init__(self, plan: Plan, denoiser: Denoiser, space: Space, condition: Condition, key: NoiseKey) -> None:
        self.denoiser, self.space, self.condition, self.key = denoiser, space, condition, key
        self.times = torch.tensor([stage.time for stage in plan], dtype=torch.float64)
        self.states: deque[State] = deque(maxlen=max(len(stage.states) for stage in plan))
        self.predictions: deque[Prediction] = deque(maxlen=max(1, *(len(stage.cleans) for stage in plan), 1))
        self.noises: deque[State] = deque(maxlen=max(1, *(len(stage.noises) for stage in plan), 1))

    def advance(self, index: int, stage: Stage, x: State) -> State:
        """The next state from the current one; `index` is the stage's place in the plan."""
        self.states.appendleft(x)
        if stage.evaluate:
            t = self.times[index].expand(batch_size(x))
            prediction = self.denoiser(x, t, self.condition)
            clean = self.space.project(prediction.clean, self.condition)
            self.predictions.appendleft(prediction if clean is prediction.clean else prediction.with_clean(clean))
        if stage.draw:
            self.noises.appendleft(self.space.noise(self.key.along(index + 1, stage.path), self.condition))
        terms: list[tuple[Coefficient, State]] = list(zip(stage.states, self.states, strict=False))
        terms += [(b, p.clean) for b, p in zip(stage.cleans, self.predictions, strict=False)]
        if stage.noises:
            terms += zip(stage.noises, self.noises, strict=False)
        return self.space.project(combine(terms), self.condition)
