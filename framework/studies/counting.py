"""How many network evaluations a method costs, exactly, and the most steps that a budget allows.

A plan says at which times it asks the denoiser, and guidance what each asking costs there: two evaluations within the
interval of classifier-free guidance, one outside; an energy's gradient a backward pass, which counts as many
evaluations as it has floating-point operations of one. So the count needs no network, and is what the ledger will say.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from framework.errors import UserError
from framework.grids import Grid, UniformLogSNR, UniformTime, check_times
from framework.grids.fitted import Fitted
from framework.guidance.classifier_free import Guidance, Priced
from framework.model import Model
from framework.noise import SampleKey
from framework.processes.categorical import Categorical
from framework.processes.gaussian import Gaussian
from framework.processes.process import Process
from framework.processes.product import Product
from framework.sampler import Loop
from framework.schedules import Schedule
from framework.solvers.adaptive import Adaptive
from framework.solvers.categorical.kernels import KernelSolver
from framework.solvers.plan import Solver
from framework.solvers.splitting import PlanExecution, Splitting, fitting

SEVERAL = 4  # steps on which a solver shows whether it can be one of several: the last step of one is often another
Weight = Callable[[Schedule, Tensor], Tensor]
"""Network evaluations that one asking of the guided denoiser costs, at times (n,)."""


def own_solver(model: Model, solver: Solver | Loop) -> Solver | Loop:
    """The solver for a model's process: on a product, for its kind of component beside the model's own for the other.

    Raises:
        UserError: it cannot undo such a process.
    """
    process, own, name = model.process, model.defaults.solver, type(solver).__name__
    if isinstance(process, Gaussian):
        if isinstance(solver, KernelSolver | Splitting):
            raise UserError(f"{name} moves tokens, and these states have none")
        return solver
    if isinstance(process, Product):
        if isinstance(solver, Adaptive):
            raise UserError(f"{name} solves the ODE of one Gaussian process, and these states have several")
        chosen = fitting(solver, process)
        if isinstance(own, Splitting) and isinstance(solver, KernelSolver):
            chosen = Splitting(own.continuous, solver, own.components)
        elif isinstance(own, Splitting) and not isinstance(solver, Loop):
            chosen = Splitting(solver, own.categorical, own.components)
        asked_at(chosen, process, model.schedule, UniformTime()(model.schedule, SEVERAL))
        return chosen
    if not isinstance(solver, Loop):
        raise UserError(f"{name} moves continuous states, and these are tokens")
    return solver


def weight(guidance: Guidance | None, backward: float) -> Weight:
    """What an asking costs under a guidance, where a backward pass costs `backward` evaluations.

    Raises:
        UserError: a guidance that does not say what it costs.
    """
    if guidance is None:
        return lambda schedule, t: torch.ones_like(t)
    if isinstance(guidance, Priced):
        return lambda schedule, t: guidance.cost(schedule, t, backward)
    raise UserError(
        f"{type(guidance).__name__} does not say what it costs; give it a method cost(schedule, t, backward) that "
        "returns the network evaluations of one call at each of the times t"
    )


def evaluations(model: Model, solver: Solver | Loop, grid: Grid | Fitted, steps: int, cost: Weight) -> float:
    """Network evaluations of one sample; for a grid that is yet to be fitted, those on even steps of log-SNR.

    `solver` is that of `own_solver`.

    Raises:
        UserError: the grid has no such number of steps, or the solver cannot walk it, or counts no steps.
    """
    schedule = model.schedule
    shape: Grid = UniformLogSNR() if isinstance(grid, Fitted) else grid
    times = check_times(shape(schedule, steps))
    asked = asked_at(solver, model.process, schedule, times)
    return float(cost(schedule, torch.tensor(asked, dtype=torch.float64)).sum())


def asked_at(solver: Solver | Loop, process: Process, schedule: Schedule, times: Tensor) -> Sequence[float]:
    """The times at which a solver asks the denoiser, in order.

    Raises:
        UserError: it cannot undo this process, or it chooses its own steps.
    """
    if isinstance(solver, Splitting) and isinstance(process, Product):
        key = SampleKey(0, (0,))
        for name, part in process.processes.items():  # each says what is wrong, if it cannot
            if isinstance(part, Gaussian):
                chosen = solver.components.get(name, solver.continuous)
                PlanExecution(name, chosen, part, times, None, key)  # type: ignore[arg-type]
            kernel = solver.components.get(name, solver.categorical)
            if isinstance(part, Categorical) and isinstance(kernel, KernelSolver):
                kernel.start(part, torch.zeros(1, 1, dtype=torch.long))
        return times[:-1].tolist()  # type: ignore[no-any-return]
    if isinstance(solver, KernelSolver):
        return times[:-1].tolist()  # type: ignore[no-any-return]
    if isinstance(solver, Loop):
        raise UserError(f"{type(solver).__name__} chooses its own steps, so that it cannot be held to a budget")
    return [stage.time for stage in solver.plan(schedule, times) if stage.evaluate]


def most_steps(budget: float, count: Callable[[int], float]) -> tuple[int, float]:
    """The largest number of steps whose evaluations do not exceed the budget, and these.

    Args:
        budget: network evaluations.
        count: of a number of steps.

    Raises:
        UserError: not even one step is so cheap, or no number of steps that is can be walked: the last reason.
    """
    reason = f"one step costs more than {budget:g} evaluations"
    steps = int(budget)
    while steps > 0:
        try:
            found = count(steps)
        except UserError as error:
            reason, steps = str(error), steps - 1
            continue
        if found <= budget:
            return steps, found
        reason = f"{steps} step{'s' if steps > 1 else ''} cost {found:g} evaluations, more than {budget:g}"
        steps = min(steps - 1, max(int(steps * budget / found) + 1, 1))  # as many as that share, and one for the ends
    raise UserError(reason)
