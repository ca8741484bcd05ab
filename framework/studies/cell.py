"""What is compared, and one cell of it: n samples of one run by one method at one budget from one seed.

A cell is known by the hash of all that its samples depend on: the model's weights and configuration, the method's
configuration, steps, seed, n, the prompts, and the protocol's version and settings. Two cells of the same `content` are
drawn once, whatever they are called; what they are called (label, phase, budget) makes the `key` of their files.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

PROTOCOL = 1
"""The version of how cells are drawn and judged: a cell of another version is another cell."""
DEFAULT = "default"
"""The name of what a run itself samples with."""
OK, FAILED, NOT_APPLICABLE = "ok", "failed", "not applicable"
COMPARED, TUNING = "compared", "tuning"


@dataclass(frozen=True)
class Choice:
    """One of a group (a solver, a grid, a guidance), as a person names it, and its configuration.

    `config` None is what the model itself samples with.
    """

    name: str
    config: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Method:
    """What is compared: how to sample, apart from how much it may cost."""

    label: str
    solver: Choice
    grid: Choice
    guidance: Choice


@dataclass(frozen=True)
class Protocol:
    """What all cells of a study have in common.

    Attributes:
        n: samples a cell.
        unit: of budgets: network evaluations a sample, guidance counted, or seconds a sample.
        batch_size: samples at a time.
        brownian: stochastic solvers share one Brownian path a sample, whatever their steps.
        tolerance: of the reference solution, relative and absolute.
        metrics: names of those that are kept; None is all.
        shown: samples of each cell that are kept as files.
        real: real items that sets of samples are compared with.
    """

    n: int = 64
    unit: Literal["evaluations", "seconds"] = "evaluations"
    batch_size: int = 32
    brownian: bool = True
    tolerance: float = 1e-5
    metrics: tuple[str, ...] | None = None
    shown: int = 4
    real: int = 1000

    @property
    def settles(self) -> dict[str, Any]:
        """The settings that a cell's numbers depend on."""
        names = ("n", "brownian", "tolerance", "metrics", "real", "batch_size")
        return {"version": PROTOCOL, **{name: getattr(self, name) for name in names}}

    def keeps(self, metric: str) -> bool:
        """Whether a metric is measured."""
        return self.metrics is None or metric in self.metrics

    def keeps_any(self, metrics: Iterable[str]) -> bool:
        """Whether any of these is."""
        return any(map(self.keeps, metrics))


@dataclass(frozen=True)
class Cell:
    """One cell. `steps` is None, with a `reason`, where the method cannot be used at this budget, or on this run.

    `grid_of` is what the method of a tuned study is tuned in, and `evaluations` what the plan counts for a sample.
    """

    run: str
    domain: str
    experiment: str
    training_seed: int | None
    model_hash: str
    method: Method
    budget: float
    seed: int
    prompts: str
    protocol: Protocol
    steps: int | None = None
    evaluations: float | None = None
    order: float | None = None
    stochastic: bool = False
    reason: str = ""
    phase: Literal["compared", "tuning"] = "compared"

    @property
    def n(self) -> int:
        return self.protocol.n

    @property
    def content(self) -> str:
        """The hash of all that the samples and their numbers depend on."""
        how = {part: getattr(self.method, part).config for part in ("solver", "grid", "guidance")}
        of = {"model": self.model_hash, "how": how, "steps": self.steps, "seed": self.seed, "prompts": self.prompts}
        return digest({**of, "protocol": self.protocol.settles})

    @property
    def key(self) -> str:
        """The name of its files."""
        called = [self.run, self.method.label, self.method.solver.name, self.method.grid.name]
        return digest([self.content, *called, self.method.guidance.name, self.phase, self.budget, self.protocol.unit])

    def record(self) -> dict[str, Any]:
        """What is known before it is drawn, as plain values."""
        method = self.method
        return {
            "key": self.key,
            "content": self.content,
            "run": self.run,
            "domain": self.domain,
            "experiment": self.experiment,
            "training_seed": self.training_seed,
            "model_hash": self.model_hash,
            "method": method.label,
            **{part: getattr(method, part).name for part in ("solver", "grid", "guidance")},
            **{f"{part}_config": getattr(method, part).config for part in ("solver", "grid", "guidance")},
            "budget": self.budget,
            "steps": self.steps,
            "seed": self.seed,
            "n": self.n,
            "phase": self.phase,
            "order": self.order if self.order is not None and abs(self.order) != float("inf") else None,
            "stochastic": self.stochastic,
        }

    def labelled(self, label: str) -> Cell:
        """The same under another name."""
        return replace(self, method=replace(self.method, label=label))


def digest(value: Any) -> str:
    """The first 16 digits of the SHA-256 of a plain value."""
    text = json.dumps(value, sort_keys=True, default=_plain)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} is no plain value: {value!r}")
