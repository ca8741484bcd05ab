"""From a study's choices to its cells: every run x method x budget x seed, with the steps that each budget allows.

A method that cannot be held to a budget, or cannot undo a run's process, is a cell all the same, with the reason.

Tuning makes two phases of a study. In the first every solver gets the same number of candidates (grids, and options of
its own), each measured on seeds that are used for nothing else; in the second the best of each solver, run, guidance
and budget is compared with those of the others.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from framework.build import USER_CONFIG, build
from framework.errors import UserError
from framework.grids import UniformTime
from framework.studies.cell import COMPARED, TUNING, Cell, Choice, Method, Protocol, digest
from framework.studies.cost import Probe
from framework.studies.counting import evaluations, most_steps, own_solver, weight
from framework.studies.drawing import Sampler
from framework.studies.runs import Opened


@dataclass(frozen=True)
class Tuning:
    """What each solver is tuned in before it is compared.

    Attributes:
        seeds: of the samples that are tuned on: others than those that are compared.
        n: how many of them a seed.
        grids: that are tried.
        options: solvers by name to their variants that are tried too.
        trials: candidates of each solver; None is all. The first is always tried, the others are drawn by lot.
        by: names of metrics: the first that all candidates have decides.
    """

    seeds: Sequence[int]
    n: int
    grids: Sequence[Choice]
    options: Mapping[str, Sequence[Choice]] = field(default_factory=dict)
    trials: int | None = None
    by: Sequence[str] = ("error", "frechet")

    def candidates(self, solver: Choice) -> list[tuple[Choice, Choice]]:
        """(solver, grid) of each trial."""
        variants = [solver, *self.options.get(solver.name, ())]
        found = [(variant, grid) for variant in variants for grid in self.grids]
        if self.trials is None or len(found) <= self.trials:
            return found
        rest = found[1:]
        random.Random(digest([solver.name, self.trials])).shuffle(rest)
        return [found[0], *rest[: self.trials - 1]]


@dataclass(frozen=True)
class Study:
    """What is asked for.

    `margin` is that of equivalence: absolute for shares, else a share of the value.
    """

    name: str
    axis: str
    solvers: Sequence[Choice]
    grids: Sequence[Choice]
    guidance: Sequence[Choice]
    budgets: Sequence[float]
    seeds: Sequence[int]
    protocol: Protocol
    tuning: Tuning | None = None
    margin: float = 0.02

    def __post_init__(self) -> None:
        for name in ("solvers", "grids", "guidance", "budgets", "seeds"):
            if not getattr(self, name):
                raise UserError(f"study.{name} is empty: a study needs at least one")
        if self.tuning is not None and (shared := set(self.tuning.seeds) & set(self.seeds)):
            raise UserError(f"study.tuning.seeds and study.seeds share {sorted(shared)}: tune on seeds of their own")
        if not self.margin > 0:
            raise UserError(f"study.margin must be positive, got {self.margin}")
        if min(self.budgets) <= 0:
            raise UserError(f"study.budgets must be positive, got {list(self.budgets)}")

    def label(self, variant: str, solver: Choice, grid: Choice, guidance: Choice) -> str:
        """A method's name: as much of it as others of the study differ in."""
        parts = [variant] if variant else []
        parts += [solver.name] if len(self.solvers) > 1 else []
        parts += [grid.name] if len(self.grids) > 1 and self.tuning is None else []
        parts += [guidance.name] if len(self.guidance) > 1 else []
        return " · ".join(parts) or solver.name


Winners = Mapping[tuple[str, str, str, float], tuple[Choice, Choice]]
"""The best (solver, grid) by (model's hash, solver's name, guidance's name, budget)."""


def resolved(choice: Choice, defaults: Mapping[str, Any], part: str) -> Choice:
    """A choice with its configuration, also where it is the run's own."""
    return choice if choice.config is not None else Choice(choice.name, defaults.get(part))


def sampler_of(opened: Opened, method: Method, steps: int) -> Sampler:
    """A method as objects, for one run.

    Raises:
        BuildError: a configuration is wrong.
        UserError: the solver cannot undo the run's process.
    """
    parts = [_built(choice.config, opened.spec.allow) for choice in (method.solver, method.grid, method.guidance)]
    solver = own_solver(opened.model, parts[0] or opened.model.defaults.solver)
    return Sampler(solver, parts[1] or UniformTime(), parts[2], steps)


def _built(config: Mapping[str, Any] | None, allow: tuple[str, ...]) -> Any:
    """The object of a configuration, made once; None of none."""
    if not config:
        return None
    name = digest([config, allow])
    if name not in _BUILT:
        _BUILT[name] = build(_dicts(config), USER_CONFIG.plus(*allow))
    return _BUILT[name]


_BUILT: dict[str, Any] = {}


def _dicts(node: Any) -> Any:
    if isinstance(node, Mapping):
        return {key: _dicts(value) for key, value in node.items()}
    return [_dicts(value) for value in node] if isinstance(node, list | tuple) else node


def tuning_cells(study: Study, runs: Sequence[Opened], probes: Mapping[str, Probe]) -> list[Cell]:
    """The first phase; none where nothing is tuned."""
    tuning = study.tuning
    if tuning is None:
        return []
    protocol = replace(study.protocol, n=tuning.n, shown=0)
    return [
        cell
        for opened in runs
        for solver in study.solvers
        for guidance in study.guidance
        for variant, grid in tuning.candidates(solver)
        for budget in study.budgets
        for cell in _cells(
            opened,
            Method(
                f"{study.label(opened.spec.variant, solver, grid, guidance)}: {variant.name} · {grid.name}",
                variant,
                grid,
                guidance,
            ),
            budget,
            tuning.seeds,
            protocol,
            probes[opened.spec.file],
            TUNING,
        )
    ]


def compared_cells(
    study: Study, runs: Sequence[Opened], probes: Mapping[str, Probe], winners: Winners | None = None
) -> list[Cell]:
    """The cells that are compared; of a tuned study those of the winners."""
    found: list[Cell] = []
    for opened in runs:
        for solver in study.solvers:
            for grid in study.grids if study.tuning is None else study.grids[:1]:
                for guidance in study.guidance:
                    for budget in study.budgets:
                        chosen = (solver, grid)
                        if winners is not None:
                            place = (opened.spec.model_hash, solver.name, guidance.name, budget)
                            chosen = winners.get(place, chosen)
                        label = study.label(opened.spec.variant, solver, grid, guidance)
                        method, probe = Method(label, *chosen, guidance), probes[opened.spec.file]
                        found += _cells(opened, method, budget, study.seeds, study.protocol, probe, COMPARED)
    return found


def _cells(
    opened: Opened,
    method: Method,
    budget: float,
    seeds: Sequence[int],
    protocol: Protocol,
    probe: Probe,
    phase: Any,
) -> Iterator[Cell]:
    """A cell for each seed."""
    spec, defaults = opened.spec, opened.spec.defaults
    method = Method(
        method.label,
        resolved(method.solver, defaults, "solver"),
        resolved(method.grid, defaults, "grid"),
        resolved(method.guidance, defaults, "guidance"),
    )
    facts = _counted(opened, method, budget, protocol, probe)
    for seed in seeds:
        yield Cell(
            run=spec.name,
            domain=opened.domain,
            experiment=spec.experiment,
            training_seed=spec.training_seed,
            model_hash=spec.model_hash,
            method=method,
            budget=budget,
            seed=seed,
            prompts=opened.prompts_hash(protocol.n, seed),
            protocol=protocol,
            phase=phase,
            **facts,
        )


def _counted(opened: Opened, method: Method, budget: float, protocol: Protocol, probe: Probe) -> dict[str, Any]:
    """Steps, evaluations and what the solver declares; or the reason why there are none."""
    try:
        sampler = sampler_of(opened, method, 1)
        cost = weight(sampler.guidance, probe.backward)

        def count(steps: int) -> float:
            found = evaluations(opened.model, sampler.solver, sampler.grid or UniformTime(), steps, cost)
            return found if protocol.unit == "evaluations" else probe.per_sample(found, protocol.batch_size)

        if protocol.unit == "evaluations":
            steps, asked = most_steps(budget, count)
        else:
            steps, _ = _most_steps_in(budget, count)
            asked = evaluations(opened.model, sampler.solver, sampler.grid or UniformTime(), steps, cost)
        solver = sampler.solver
        said = {"order": float(solver.order), "stochastic": bool(solver.stochastic)}
        return {"steps": steps, "evaluations": asked, **said}
    except UserError as error:
        return {"reason": str(error)}


def _most_steps_in(seconds: float, count: Callable[[int], float]) -> tuple[int, float]:
    """The most steps that fit into seconds, by doubling and halving.

    Raises:
        UserError: not even one does.
    """
    if count(1) > seconds:
        raise UserError(f"one step takes {count(1):.2g} s a sample, more than {seconds:g} s")
    low, high = 1, 2
    while high < 4096 and _takes(count, high) <= seconds:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _takes(count, middle) <= seconds else (low, middle)
    return low, count(low)


def _takes(count: Callable[[int], float], steps: int) -> float:
    try:
        return count(steps)
    except UserError:  # a grid has no such number of steps
        return float("inf")
