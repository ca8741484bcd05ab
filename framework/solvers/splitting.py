r"""Splitting: solvers for the components of a product state, one joint evaluation a step.

On a product of states the generator is a sum over components, L = sum_c L_c (framework/processes/product.py). Over a
step each component moves by its own solver with the others held where they were at its start,

    x_s^c = step_c(x_t^c, D^c(x_t)),      D(x_t) the one joint prediction, for every c,

which is Lie splitting, exp(h L) = prod_c exp(h L_c) + O(h^2), with predictions of one state: the order of the
components has no meaning, and they do not multiply evaluations. What a multistep solver remembers, it remembers of its
own component.

The order is one, whatever the components' own: a token that changes within a step changes the continuous component's
prediction only from the next step on, and a multistep solver extrapolates across the change. Both are O(h), once a
token. A component of order two still pays, by its smaller error where no token changes. (Strang's symmetric splitting,
with jumps in the middle of steps and an evaluation of their own, is of order two for one token, and of one for several.
On framework/certify/label_and_point.py, with Heun or DPMSolver2, its law of the point is no more exact than this one
with DPMpp2M at equal evaluations up to about 60, and so it is not here.)
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import ClassVar

import torch
from tensordict import TensorDict
from torch import Tensor

from framework.denoiser import Denoiser, Prediction
from framework.errors import UserError
from framework.noise import NoiseKey
from framework.processes.categorical import Categorical
from framework.processes.gaussian import Gaussian
from framework.processes.process import Process
from framework.processes.product import Product
from framework.sampler import Execution, Hook, Loop, Progress
from framework.schedules import Schedule
from framework.solvers.categorical.ancestral import Ancestral
from framework.solvers.categorical.kernels import KernelExecution, KernelSolver
from framework.solvers.dpmpp import DPMpp2M
from framework.solvers.plan import Solver, Stage
from framework.state import Condition, State, batch_size


@dataclass(frozen=True)
class Splitting:
    """Each component by a solver of its own (see the module's docstring).

    Attributes:
        continuous: the solver of Gaussian components: a plan with one evaluation a step, at the step's start.
        categorical: the solver of categorical components: a kernel.
        components: solvers of components that are to have another, by name.
    """

    continuous: Solver = field(default_factory=DPMpp2M)
    categorical: KernelSolver = field(default_factory=Ancestral)
    components: Mapping[str, Solver | KernelSolver] = field(default_factory=dict)
    order: ClassVar[float] = 1
    evaluations_per_step: ClassVar[int] = 1
    stochastic: ClassVar[bool] = True

    def run(
        self,
        denoiser: Denoiser,
        process: Process,
        times: Tensor,
        x: State,
        condition: Condition,
        key: NoiseKey,
        hooks: Sequence[Hook],
    ) -> State:
        if not isinstance(process, Product):
            raise UserError(
                f"Splitting undoes a Product process and was given a {type(process).__name__}; pass "
                "process=Product(...)"
            )
        x = process.check(x)
        moves = self.begin(process, times, x, condition, key)
        steps = list(pairwise(times.tolist()))
        for index, (t, s) in enumerate(steps):
            rows = torch.full((batch_size(x),), t, dtype=torch.float64)
            prediction = denoiser(x, rows, condition)
            clean = prediction.clean
            parts = {name: move.advance(index, t, s, x[name], clean[name]) for name, move in moves.items()}  # type: ignore[index]
            x = TensorDict(parts, batch_size=x.batch_size)
            for hook in hooks:
                hook(Progress(index, len(steps), Stage(index, t, s, ()), x, prediction))
        return x

    def begin(
        self, process: Product, times: Tensor, x: TensorDict, condition: Condition, key: NoiseKey
    ) -> dict[str, PlanExecution | KernelExecution]:
        """Each component's solver under way.

        Raises:
            UserError: `components` names one that is not there, or a solver does not fit its component.
        """
        unknown = sorted(set(self.components) - set(process.processes))
        if unknown:
            raise UserError(f"Splitting has solvers for {unknown}; the process has only {sorted(process.processes)}")
        moves: dict[str, PlanExecution | KernelExecution] = {}
        for name, part in process.processes.items():
            own = key.component(name)
            if isinstance(part, Categorical):
                kernel = self.components.get(name, self.categorical)
                if not isinstance(kernel, KernelSolver):
                    raise UserError(
                        f"component {name!r} is categorical, and {type(kernel).__name__} is no kernel for "
                        "it; use Ancestral, TauLeaping, ReMDM or ConfidenceOrder"
                    )
                moves[name] = KernelExecution(kernel, part, x[name], condition, own)
            elif isinstance(part, Gaussian):
                solver = self.components.get(name, self.continuous)
                moves[name] = PlanExecution(name, solver, part, times, condition, own)
            else:
                raise UserError(
                    f"component {name!r} has a {type(part).__name__} process; Splitting knows Gaussian and "
                    "Categorical ones"
                )
        return moves


def fitting(solver: Solver | Loop, process: Process) -> Solver | Loop:
    """The solver for such a process: of a product, one of a single kind of component with the other kind's default.

    Raises:
        UserError: the process is of tokens alone, and the solver combines states linearly.
    """
    if isinstance(process, Categorical) and not isinstance(solver, Loop):
        raise UserError(
            f"{type(solver).__name__} combines states linearly, and tokens cannot be added; choose a solver of tokens: "
            "categorical_ancestral, first_hitting or confidence_order"
        )
    if not isinstance(process, Product) or isinstance(solver, Splitting):
        return solver
    if isinstance(solver, KernelSolver):
        return Splitting(categorical=solver)
    return solver if isinstance(solver, Loop) else Splitting(continuous=solver)


class PlanExecution:
    """A plan under way whose evaluations come from outside, one at the start of each step.

    Raises:
        UserError: the solver has no plan, or its plan evaluates elsewhere.
    """

    def __init__(
        self,
        name: str,
        solver: Solver | KernelSolver,
        process: Gaussian,
        times: Tensor,
        condition: Condition,
        key: NoiseKey,
    ) -> None:
        if isinstance(solver, Loop):
            raise UserError(
                f"component {name!r} is continuous, and {type(solver).__name__} has no plan; use DDIM or DPMpp2M, say"
            )
        self.given = _Given(process.schedule)
        plan = solver.plan(process.schedule, times)
        self.stages = list(enumerate(plan))
        self.steps = [[(i, stage) for i, stage in self.stages if stage.step == k] for k in range(len(times) - 1)]
        for t, stages in zip(times.tolist(), self.steps, strict=False):
            asked = [n for n, (_, stage) in enumerate(stages) if stage.evaluate]
            if asked != [0] or stages[0][1].time != t:
                raise UserError(
                    f"{type(solver).__name__} evaluates {len(asked)} times in the step from t = {t:g}, not once at its "
                    f"start, and so it cannot move component {name!r} of a product; use DDIM, DDPM, DPMpp2M or another "
                    "solver with one evaluation a step"
                )
        self.execution = Execution(plan, self.given, process.space, condition, key)

    def advance(self, index: int, t: float, s: float, x: State, clean: State) -> State:
        """The component at s, from its clean mean at t."""
        self.given.clean = clean
        for i, stage in self.steps[index]:
            x = self.execution.advance(i, stage, x)
        return x

    def rows(self, index: Tensor) -> None:
        """Go on with these rows of the batch, which may repeat, for methods that branch or resample."""
        run = self.execution
        run.states = deque((state[index] for state in run.states), run.states.maxlen)
        run.noises = deque((noise[index] for noise in run.noises), run.noises.maxlen)
        run.predictions = deque((_rows(p, index) for p in run.predictions), run.predictions.maxlen)


def _rows(prediction: Prediction, index: Tensor) -> Prediction:
    alpha, sigma = (c[index] if isinstance(c, Tensor) and c.ndim else c for c in (prediction.alpha, prediction.sigma))
    return Prediction(prediction.clean[index], prediction.x_t[index], alpha, sigma)


class _Given:
    """A denoiser that returns what it was given."""

    clean: State

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule

    def __call__(self, x_t: State, t: Tensor, condition: Condition) -> Prediction:
        return Prediction(self.clean, x_t, self.schedule.alpha(t), self.schedule.sigma(t))
