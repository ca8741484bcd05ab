r"""Steering by a score of any kind: particles, of which the promising go on (Feynman-Kac steering, Singhal et al. 2025,
2501.06848; sequential Monte Carlo).

Each sample is a group of k particles with noise of their own. Every few steps the score s of each one's clean
prediction is asked, and the group is drawn anew, systematically, with weights

    w = exp((s - s_before) / T),        s_before the score when it was last asked, 0 at the start,

so that along a path they multiply to exp(s(x_0) / T), and one particle drawn by its last weight has the law

    p(x_0) exp(s(x_0) / T) / Z          as k grows; the error falls as 1 / k (measured in tests/laws/test_steering.py).

A score is a black box: no gradient is taken, and it may be -inf ("never"). Where it is -inf for all of a group it says
nothing and is passed over. Particles that were drawn twice part by the noise of later steps. So resampling needs a
solver that draws; with `every` None the score is asked at the end alone, which any solver allows.

A batch of B samples has k B rows, particle p of sample i in row p B + i, and costs k times the evaluations. Particle 0
has the noise of plain sampling. Hooks see the particle of each sample that leads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from framework.denoiser import Denoiser
from framework.editing.particles import Group, ParticleKey, Score, rows_of
from framework.editing.task import Run
from framework.errors import UserError
from framework.modality import Modality
from framework.noise import NoiseKey
from framework.processes.by_component import parts_of
from framework.processes.categorical import Categorical
from framework.processes.gaussian import Gaussian
from framework.processes.process import Process
from framework.processes.product import Product
from framework.sampler import Hook, Loop, Progress, execute
from framework.self_conditioning import Remembering
from framework.solvers.categorical.kernels import KernelExecution, KernelSolver
from framework.solvers.plan import Solver, Stage
from framework.solvers.splitting import PlanExecution, Splitting
from framework.state import Condition, State, batch_size, components, device_of, of_components


@dataclass(frozen=True)
class Decoded:
    """A score of samples in the data's own form: `score` maps n decoded samples to n numbers."""

    score: Callable[[Any], Any]
    modality: Modality

    def __call__(self, clean: State, condition: Condition) -> Any:
        return self.score(self.modality.decode(clean, condition))


@dataclass(frozen=True)
class Steered:
    """Samples of high score; see the module's docstring.

    Args:
        score: maps clean predictions, of which tokens are probabilities (B, *positions, K), and their condition to a
            number for each row; `Decoded` makes one of samples in the data's own form. NaN counts as -inf.
        particles: k, how many to each sample; 1 is plain sampling.
        temperature: T, in the score's units: less is a stronger pull, and fewer particles that matter.
        every: the score is asked every so many steps; None is at the end alone.
        keep: "drawn": one particle by its weight, for samples of the tilted law; "best": the one of the highest score.

    Raises:
        UserError: a number is out of range; the solver draws no noise, or evaluates more than once a step.
    """

    score: Score
    particles: int = 4
    temperature: float = 1.0
    every: int | None = 1
    keep: Literal["drawn", "best"] = "drawn"
    before_guidance: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not callable(self.score):
            raise UserError(f"a score is a function, not {self.score!r}; name a class or function by _target_")
        if self.particles < 1 or (self.every is not None and self.every < 1):
            raise UserError(f"steering needs particles >= 1 and every >= 1, got {self.particles} and {self.every}")
        if not self.temperature > 0:
            raise UserError(f"steering needs a temperature > 0, got {self.temperature}")
        if self.keep not in ("drawn", "best"):
            raise UserError(f"steering keeps the particle that is 'drawn' or the 'best', not {self.keep!r}")

    def __call__(self, run: Run) -> Run:
        if self.particles == 1:
            return run
        if self.every is not None:
            _check(run.solver)
        index = _repeated(batch_size(run.condition), self.particles, device_of(run.condition))
        return replace(
            run,
            condition=run.condition[index],
            samples=run.samples * self.particles,
            key=ParticleKey(run.key, self.particles),
            initial=None if run.initial is None else run.initial[index],
            solver=Steering(self, run.solver, run.key, _memory(run.denoiser)),
        )


@dataclass(frozen=True)
class Steering:
    """The Loop of a steered run: it is given k B rows and returns B.

    `key` is that of the B samples, and `memory` what the denoiser remembers of its rows, if anything.
    """

    how: Steered
    solver: Solver | Loop
    key: NoiseKey
    memory: Remembering | None = None

    @property
    def order(self) -> float:
        return self.solver.order

    @property
    def evaluations_per_step(self) -> int:
        """Of each particle."""
        return self.solver.evaluations_per_step

    @property
    def stochastic(self) -> bool:
        return self.solver.stochastic

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
        group = Group(
            self.how.score,
            self.how.temperature,
            self.key,
            self.how.particles,
            batch_size(x) // self.how.particles,
            device_of(x),
        )
        if self.how.every is None:
            x = self._alone(denoiser, process, times, x, condition, key, [group.shown(hook) for hook in hooks])
        else:
            x = self._together(denoiser, process, times, x, condition, key, hooks, group)
        scores = group.scores(_as_clean(x, process), condition)
        kept: State = x[group.best(scores) if self.how.keep == "best" else group.drawn(scores, len(times))]
        return kept

    def _alone(
        self,
        denoiser: Denoiser,
        process: Process,
        times: Tensor,
        x: State,
        condition: Condition,
        key: NoiseKey,
        hooks: Sequence[Hook],
    ) -> State:
        if isinstance(self.solver, Loop):
            return self.solver.run(denoiser, process, times, x, condition, key, hooks)
        assert isinstance(process, Gaussian)
        return execute(self.solver.plan(denoiser.schedule, times), denoiser, x, process.space, condition, key, hooks)

    def _together(
        self,
        denoiser: Denoiser,
        process: Process,
        times: Tensor,
        x: State,
        condition: Condition,
        key: NoiseKey,
        hooks: Sequence[Hook],
        group: Group,
    ) -> State:
        assert self.how.every is not None
        moves = _moves(self.solver, process, times, x, condition, key)
        steps = list(pairwise(times.tolist()))
        for index, (t, s) in enumerate(steps):
            prediction = denoiser(x, times[index].expand(batch_size(x)), condition)
            prediction = prediction.with_clean(_projected(prediction.clean, process, condition))
            if index > 0 and index % self.how.every == 0:  # at the start all predict much the same
                rows = group.resampled(prediction.clean, condition, index)
                x, prediction = x[rows], rows_of(prediction, rows)
                for move in moves.values():
                    _go_on(move, rows)
                if self.memory is not None:
                    self.memory.rows(rows)
            parts, clean = components(x), components(prediction.clean)
            x = of_components({n: m.advance(index, t, s, parts[n], clean[n]) for n, m in moves.items()})  # type: ignore[misc]
            for hook in hooks:
                group.shown(hook)(Progress(index, len(steps), Stage(index, t, s, ()), x, prediction))
        return x


def _moves(
    solver: Solver | Loop, process: Process, times: Tensor, x: State, condition: Condition, key: NoiseKey
) -> dict[str, PlanExecution | KernelExecution]:
    """Each component's solver under way."""
    if isinstance(solver, Splitting) and isinstance(process, Product):
        return solver.begin(process, times, process.check(x), condition, key)
    if isinstance(solver, KernelSolver) and isinstance(process, Categorical):
        return {"": KernelExecution(solver, process, x, condition, key)}
    if isinstance(solver, Loop) or not isinstance(process, Gaussian):
        raise UserError(f"{type(solver).__name__} does not undo a {type(process).__name__} process")
    return {"": PlanExecution("", solver, process, times, condition, key)}


def _check(solver: Solver | Loop) -> None:
    """UserError unless the solver walks in steps of one evaluation, and draws."""
    name = type(solver).__name__
    if isinstance(solver, Loop) and not isinstance(solver, Splitting | KernelSolver):
        raise UserError(f"steering stops between steps, and {name} has none of its own; choose another solver")
    if not solver.stochastic:
        raise UserError(
            f"steering tells particles apart by noise, and {name} draws none; choose a solver that does (DDPM, "
            "SDE-DPM-Solver++, ...), or ask the score at the end alone (every=null)"
        )
    if solver.evaluations_per_step != 1:
        raise UserError(f"steering needs a solver with one evaluation a step, and {name} has another number")


def _go_on(move: PlanExecution | KernelExecution, rows: Tensor) -> None:
    if isinstance(move, PlanExecution):
        move.rows(rows)
    else:  # the rows of a group have one condition, and so the same entries
        move.memory = move.memory[rows]


def _as_clean(x: State, process: Process) -> State:
    """Samples in the form of a clean prediction: tokens as probabilities."""
    parts = components(x)
    for name, part in parts_of(process).items():
        if isinstance(part, Categorical):
            parts[name] = torch.nn.functional.one_hot(parts[name], part.states)[..., : part.space.classes].double()
    return of_components(parts)


def _projected(clean: State, process: Process, condition: Condition) -> State:
    if not isinstance(process, Product):
        return process.space.project(clean, condition)  # type: ignore[attr-defined,no-any-return]
    parts = components(clean)
    return of_components({
        name: part.space.project(parts[name], condition) for name, part in process.processes.items()  # type: ignore[attr-defined]
    })  # fmt: skip


def _memory(denoiser: Any) -> Remembering | None:
    """What remembers rows within a denoiser, if anything does."""
    while denoiser is not None and not isinstance(denoiser, Remembering):
        denoiser = getattr(denoiser, "denoiser", None)
    return denoiser


def _repeated(rows: int, times: int, device: torch.device) -> Tensor:
    return torch.arange(rows, device=device).repeat(times)
