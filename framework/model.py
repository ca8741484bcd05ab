"""A trained (or fresh) model: a network with its schedule, parametrisation and modality, ready to sample.

    load("outputs/shapes").sample("a red circle", n=4)

Everything that a sample depends on is an argument; what is not given is the model's own default, which was fixed in its
configuration when it was trained.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from framework.clipping import Clipping
from framework.component_denoiser import ComponentDenoiser
from framework.denoiser import Angle, Denoiser, NetworkDenoiser, NoiseLevel, Rescheduled
from framework.editing.known import held
from framework.editing.steering import Steered
from framework.editing.task import Run, Task
from framework.errors import UserError
from framework.grids import Grid, UniformTime
from framework.grids.cache import GridCache
from framework.grids.fitted import Fitted, FittedGrid, fit
from framework.grids.identity import describe
from framework.grids.teacher import InBatches
from framework.guidance.classifier_free import Guidance
from framework.guidance.composed import heeds_negative
from framework.guidance.energy import for_modality
from framework.guidance.off import Off
from framework.ledger import Ledger
from framework.modality import Modality, check_version
from framework.noise import NoiseKey, SampleKey
from framework.parametrizations import Parametrization
from framework.previews import for_batch
from framework.processes.by_component import ByComponent
from framework.processes.gaussian import Gaussian
from framework.processes.process import Process
from framework.sampler import Hook, Loop
from framework.samples import Samples
from framework.schedules import Schedule
from framework.self_conditioning import Remembering, RememberingEachRun, takes_part
from framework.solvers.dpmpp import DPMpp2M
from framework.solvers.plan import Solver
from framework.solvers.splitting import fitting
from framework.state import Condition

FITTING_SEED = 20240521  # of the noise that grids are fitted to: not one that a person would think of


@dataclass(frozen=True)
class SamplingDefaults:
    """How a model samples when nothing else is said; guidance None is off."""

    solver: Solver | Loop = field(default_factory=DPMpp2M)
    grid: Grid | Fitted = field(default_factory=UniformTime)
    steps: int = 20
    guidance: Guidance | None = None


@dataclass
class Model:
    """See the module's docstring.

    `network` holds the weights to sample with, `processes` says what becomes of the state's components, `grids` are the
    grids that were fitted to this model, and `clipping` keeps the (guided) clean mean in range, where that is wanted.
    """

    modality: Modality
    network: nn.Module
    schedule: Schedule
    parametrization: Parametrization
    noise_level: NoiseLevel = field(default_factory=Angle)
    defaults: SamplingDefaults = field(default_factory=SamplingDefaults)
    processes: ByComponent = field(default_factory=ByComponent)
    grids: GridCache = field(default_factory=GridCache)
    clipping: Clipping | None = None

    def __post_init__(self) -> None:
        check_version(self.modality)

    @property
    def device(self) -> torch.device:
        """Where the network lies."""
        return next(self.network.parameters()).device

    def to(self, device: str | torch.device) -> Model:
        """The same model with its network on a device."""
        self.network.to(device)
        return self

    @property
    def process(self) -> Process:
        """What takes the modality's states to noise."""
        return self.processes.process(self.modality.space, self.schedule)

    def denoiser(
        self, network: nn.Module | None = None, ledger: Ledger | None = None
    ) -> NetworkDenoiser | ComponentDenoiser:
        """The model as the one thing that solvers see; `network` in place of its own (the one in training)."""
        process = self.process
        if not isinstance(process, Gaussian):
            return ComponentDenoiser(
                network or self.network,
                process,
                self.schedule,
                self.parametrization,
                self.modality.space,
                self.noise_level,
                ledger,
            )
        return NetworkDenoiser(
            network or self.network,
            self.schedule,
            self.parametrization,
            self.modality.space,
            self.noise_level,
            ledger,
        )

    def sample(
        self,
        prompt: Any = None,
        n: int | None = None,
        *,
        seed: int = 0,
        solver: Solver | Loop | None = None,
        grid: Grid | Fitted | None = None,
        steps: int | None = None,
        guidance: Guidance | None = None,
        negative: Any = None,
        schedule: Schedule | None = None,
        tasks: Sequence[Task] = (),
        batch_size: int = 64,
        first: int = 0,
        noise: Callable[[SampleKey], NoiseKey] | None = None,
        hooks: Sequence[Hook] = (),
        progress: Callable[[int], None] | None = None,
    ) -> Samples:
        """Draw samples.

        Args:
            prompt: one prompt or a list of them; None says nothing.
            n: how many, 1 for a prompt and the list's length for a list: prompts are repeated in turn up to n.
            seed: sample i is a function of (seed, i, prompt) alone, whatever the batch size and the device.
            solver, grid, steps, guidance: None is the model's default. A grid that is fitted to models is fitted to
                this one when it is first used, and kept: see `fit_grid`.
            negative: a prompt to be led away from, in place of the empty one.
            schedule: sample on another schedule than the one that was trained on.
            tasks: what is done in place of sampling from noise (framework/editing), in order; sample i of the call has
                row `first` + i of a task's states, in turn.
            batch_size: samples at a time.
            first: the index of the first sample, to go on where an earlier call ended.
            noise: makes another source of randomness of a batch's key: with `framework.brownian.BrownianKey` a
                stochastic solver with more steps refines the same trajectory.
            hooks: observers of the loop. One with a method `for_batch(condition, prompts)` is asked for a batch's own.
            progress: called with the number of samples finished after each batch.

        Raises:
            UserError: n < 1, a prompt that the modality cannot read, or a task that does not fit the samples.
        """
        given = list(prompt) if isinstance(prompt, list | tuple) else [prompt]
        count = len(given) if n is None else n
        if count < 1 or not given:
            raise UserError(f"sampling needs at least one sample, got n={count} and {len(given)} prompts")
        if batch_size < 1:
            raise UserError(f"samples are drawn batch_size at a time, which must be at least 1, not {batch_size}")
        prompts = [given[i % len(given)] for i in range(count)]
        ledger = Ledger()
        how = SamplingDefaults(
            solver or self.defaults.solver,
            grid or self.defaults.grid,
            self.defaults.steps if steps is None else steps,
            for_modality(guidance or self.defaults.guidance, self.modality),
        )
        if negative is not None and not heeds_negative(how.guidance):
            raise UserError("a negative prompt has no effect without guidance; add guidance=cfg, or leave it out")
        if isinstance(how.grid, Fitted):
            own = self.fit_grid(
                how.grid, solver=how.solver, steps=how.steps, guidance=how.guidance, batch_size=batch_size
            )
            how = replace(how, grid=own)
        base: Denoiser = self.denoiser(ledger=ledger)
        if schedule is not None:
            if isinstance(base, ComponentDenoiser):
                raise UserError(
                    "a model whose components have processes of their own samples on its own schedule alone"
                )
            base = Rescheduled(base, schedule)
        complete = self.modality.complete(prompts, seed, tuple(range(first, first + count)))
        for task in tasks:  # a batch holds all particles of its samples
            batch_size = max(1, batch_size // task.particles) if isinstance(task, Steered) else batch_size
        order = list(range(count))
        if count > batch_size:  # a batch of like ones has little padding
            sizes = self.modality.sizes(complete)
            order.sort(key=lambda i: sizes[i])
        drawn: dict[int, Any] = {}
        condition: Condition
        was_training = self.network.training
        self.network.eval()
        try:
            with torch.no_grad():
                for start in range(0, count, batch_size):
                    rows = order[start : start + batch_size]
                    key = SampleKey(seed, tuple(first + row for row in rows))
                    said = self.condition([complete[row] for row in rows])
                    source = key if noise is None else noise(key)
                    run = self._begin(base, how, said, source, key.samples, negative, tasks, ledger)
                    fixed = self.modality.given([complete[i - first] for i in run.samples], run.condition)
                    if fixed is not None:
                        run = held(run, fixed.state.to(self.device), fixed.mask.to(self.device))
                    condition = run.condition[: len(rows)]  # of several particles of a sample one is left
                    asked = [prompts[row] for row in rows]
                    watching = [for_batch(hook, condition, asked) for hook in hooks]
                    batch = self.modality.decode(run.draw(watching), condition)
                    for finish in run.finish:
                        batch = finish(batch)
                    if fixed is not None:
                        batch = self.modality.restored(batch, [complete[row] for row in rows])
                    drawn |= {row: batch[i : i + 1] for i, row in enumerate(rows)}
                    if progress is not None:
                        progress(len(drawn))
        finally:
            self.network.train(was_training)
        samples = self.modality.join([drawn[i] for i in range(count)])
        return Samples(samples, prompts, seed, ledger, self.modality, condition, first)

    def fit_grid(
        self,
        grid: Fitted,
        *,
        solver: Solver | Loop | None = None,
        steps: int | None = None,
        guidance: Guidance | None = None,
        prompts: Sequence[Any] | None = None,
        batch_size: int = 64,
    ) -> FittedGrid:
        """A grid fitted to this model, from `grids` if it was fitted before to the same.

        Args:
            grid: how it is fitted.
            solver, steps, guidance: for which; None is the model's default.
            prompts: under which the samples are drawn that it is fitted to, in turn; None is the modality's examples.
            batch_size: samples through the network at a time.

        Raises:
            UserError: the grid cannot be fitted for such a solver, such a process or so many steps.
        """
        solver, guidance = fitting(solver or self.defaults.solver, self.process), guidance or self.defaults.guidance
        guidance = None if isinstance(guidance, Off) else guidance
        steps = self.defaults.steps if steps is None else steps
        given = list(prompts) if prompts else list(self.modality.examples(grid.samples))
        rows = [given[i % len(given)] for i in range(grid.samples)]
        parts = (self.network, self.schedule, self.parametrization, self.noise_level, self.process)
        depends_on = describe([*parts, grid, solver, steps, guidance, rows])

        def make() -> FittedGrid:
            condition = self.condition(rows)
            denoiser: Denoiser = InBatches(self.denoiser(), batch_size)
            if takes_part(self.network):
                denoiser = RememberingEachRun(denoiser)
            if guidance is not None:
                denoiser = guidance(denoiser, self.modality.null(condition))
            key = SampleKey(FITTING_SEED, tuple(range(len(rows))))
            was_training = self.network.training
            self.network.eval()
            try:
                return fit(grid, denoiser, solver, steps, self.modality.space, condition, key, self.process)
            finally:
                self.network.train(was_training)

        name = f"{type(grid).__name__}-{type(solver).__name__}-{steps}".lower()
        return self.grids.get(name, depends_on, make)

    def condition(self, prompts: Sequence[Any]) -> Condition:
        """The prompts' condition on the model's device; None is the null condition."""
        known = next((p for p in prompts if p is not None), None)
        if known is None:
            parsed = self.modality.parse([""] * len(prompts))
            return self.modality.null(parsed).to(self.device)
        return self.modality.parse(["" if p is None else p for p in prompts]).to(self.device)

    def _begin(
        self,
        base: Denoiser,
        how: SamplingDefaults,
        condition: Condition,
        key: NoiseKey,
        samples: tuple[int, ...],
        negative: Any,
        tasks: Sequence[Task],
        ledger: Ledger,
    ) -> Run:
        """A batch's run from noise, as the tasks change it: first those of the model's own denoiser."""
        assert not isinstance(how.grid, Fitted)  # `sample` has fitted it
        times, space = how.grid(base.schedule, how.steps), self.modality.space
        process = self.processes.process(space, base.schedule)
        if takes_part(self.network):
            base = Remembering(base)
        solver = fitting(how.solver, process)
        run = Run(base, solver, times, space, process, condition, key, samples, ledger)
        for task in tasks:
            run = task(run) if task.before_guidance else run
        if how.guidance is not None:
            away = self.modality.null(run.condition)
            if negative is not None:
                away = self.modality.resized(self.condition([negative] * run.condition.batch_size[0]), run.condition)
            run = replace(run, denoiser=how.guidance(run.denoiser, away))
        if self.clipping is not None:
            run = replace(run, denoiser=self.clipping(run.denoiser))
        for task in tasks:
            run = run if task.before_guidance else task(run)
        return run
