r"""How far a solver ends from its teacher, and the derivative of that with respect to the grid's times.

A plan is numbers. As a flat vector c, of its coefficients and of the times at which it asks the denoiser, it is a
smooth function of the levels l = log(sigma / alpha) of the grid, and the loss L is a smooth function of c. So

    dL/dl = (dL/dc) (dc/dl),

the first factor by autograd through the one loop, with the plan's numbers as leaves, the second by central differences
of `solver.plan` in float64, which touch no network.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor

from framework.denoiser import Denoiser, Prediction
from framework.errors import UserError
from framework.grids.teacher import Path, distance
from framework.noise import NoiseKey
from framework.sampler import execute
from framework.schedules import Schedule
from framework.solvers.plan import Plan, Solver
from framework.spaces import Space
from framework.state import Coefficient, Condition, State, combine

DIFFERENCE = 1e-4  # in log(sigma / alpha): errors of about 1e-9 from the curvature and 1e-12 from rounding


class Student:
    """A solver that starts from the noise of a teacher's path and should end at its samples."""

    def __init__(
        self, denoiser: Denoiser, solver: Solver, space: Space, condition: Condition, key: NoiseKey, path: Path
    ) -> None:
        self.denoiser, self.solver, self.space, self.condition, self.key = denoiser, solver, space, condition, key
        self.path = path
        self._noise = space.noise(key, condition)

    def loss_and_gradient(self, times: Callable[[Tensor], Tensor], levels: Tensor) -> tuple[float, Tensor]:
        """The mean distance to the path's samples on the grid times(levels), and its gradient, float64 like levels.

        Raises:
            UserError: the solver's plan changes its form when a level moves by next to nothing.
        """
        shifts = DIFFERENCE * torch.eye(len(levels), dtype=torch.float64)
        forms = [self._form(times(levels + shift)) for shift in (torch.zeros_like(levels), *shifts, *-shifts)]
        plan = forms[0]
        if any(form.outline != plan.outline for form in forms):
            raise UserError(f"the plan of {type(self.solver).__name__} jumps with its times, which cannot be learned")
        numbers = torch.stack([form.numbers for form in forms])
        ahead, behind = numbers[1:].chunk(2)
        jacobian = (ahead - behind) / (2 * DIFFERENCE)
        leaf = numbers[0].clone().requires_grad_()
        # Numbers that stay are no leaves: a time at an end of the schedule may have no finite derivative.
        moves = (jacobian != 0).any(0).tolist()
        values = [leaf[i] if moves[i] else value for i, value in enumerate(numbers[0].tolist())]
        with torch.enable_grad():
            loss = self._loss(plan, values)
            (slope,) = torch.autograd.grad(loss, leaf)
        return float(loss.detach()), jacobian @ slope

    def _form(self, times: Tensor) -> Form:
        return Form.of(self.solver.plan(self.denoiser.schedule, times))

    def _loss(self, form: Form, values: Sequence[Coefficient]) -> Tensor:
        plan, asked = form.filled(values)
        start = float(self.denoiser.schedule.sigma(torch.tensor(plan[0].time, dtype=torch.float64)))
        x = combine([(start, self._noise)])
        end = execute(plan, AtTimes(self.denoiser, asked), x, self.space, self.condition, self.key)
        return distance(end, self.path.end, self.space, self.condition).mean()


@dataclass(frozen=True)
class Form:
    """A plan taken apart: its numbers, float64 (N,), and what is left without them.

    Every stage is given as many coefficients as the plan has stages, so that plans differ in their numbers alone even
    where a coefficient is zero by chance.
    """

    plan: Plan
    numbers: Tensor

    @classmethod
    def of(cls, plan: Plan) -> Form:
        """The form of a plan that draws no noise."""
        rows = [(s.time, *_padded(s.states, len(plan)), *_padded(s.cleans, len(plan))) for s in plan]
        return cls(plan, torch.tensor(rows, dtype=torch.float64).flatten())

    @property
    def outline(self) -> tuple[tuple[int, bool], ...]:
        """The step of each stage, and whether it asks the denoiser."""
        return tuple((stage.step, stage.evaluate) for stage in self.plan)

    def filled(self, values: Sequence[Coefficient]) -> tuple[Plan, list[Coefficient]]:
        """The plan with other numbers, which may be tensors (), and the times at which it asks the denoiser."""
        count = len(self.plan)
        rows = [values[i : i + 1 + 2 * count] for i in range(0, len(values), 1 + 2 * count)]
        stages = [
            replace(stage, states=cast(Any, tuple(row[1 : 1 + count])), cleans=cast(Any, tuple(row[1 + count :])))
            for stage, row in zip(self.plan, rows, strict=True)
        ]
        return tuple(stages), [row[0] for stage, row in zip(self.plan, rows, strict=True) if stage.evaluate]


def _padded(values: tuple[float, ...], count: int) -> tuple[float, ...]:
    return (*values, *(0.0,) * (count - len(values)))


class AtTimes:
    """A denoiser that is asked at given times, one a call, which may be leaves of a gradient."""

    def __init__(self, denoiser: Denoiser, times: Sequence[Coefficient]) -> None:
        self.denoiser, self._times = denoiser, iter(times)

    @property
    def schedule(self) -> Schedule:
        return self.denoiser.schedule

    def __call__(self, x_t: State, t: Tensor, condition: Condition) -> Prediction:
        time = torch.as_tensor(next(self._times), dtype=torch.float64)
        return self.denoiser(x_t, time.expand(t.shape), condition)
