r"""Write a plan as a paper writes its method; the bookkeeping of what was seen when is done here.

    walk = Walk(schedule, times)
    for t, s in walk.steps():
        D = walk.clean()                                                 # the clean mean at the current state
        walk.to(s, s.sigma / t.sigma * walk.x + (s.alpha - t.alpha * s.sigma / t.sigma) * D)
    return walk.plan()

`walk.x`, `walk.clean()` and `walk.noise()` are forms: linear combinations of the states, clean means and noises of
this run, which add and scale like the tensors that they stand for. `walk.to` writes the stage that makes a form the
next state. Forms stay valid for the whole walk, so a multistep method keeps a list of them, and a Runge-Kutta method
combines those of its own step. No tensor is touched: what comes out is numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from types import MappingProxyType

import torch
from torch import Tensor

from framework.schedules import Schedule
from framework.solvers.plan import Node, Plan, Stage, nodes


class Form:
    """A linear combination of what was seen: coefficients by (kind, number), numbers counting from the run's start."""

    __slots__ = ("terms",)

    def __init__(self, terms: Mapping[tuple[str, int], float] = MappingProxyType({})) -> None:
        self.terms = terms

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Form) and dict(self.terms) == dict(other.terms)

    def __hash__(self) -> int:
        return hash(frozenset(self.terms.items()))

    def __repr__(self) -> str:
        return " + ".join(f"{value:.6g} {kind}[{number}]" for (kind, number), value in self.terms.items()) or "0"

    def __add__(self, other: Form) -> Form:
        total = dict(self.terms)
        for name, value in other.terms.items():
            total[name] = total.get(name, 0.0) + value
        return Form(total)

    def __sub__(self, other: Form) -> Form:
        total = dict(self.terms)
        for name, value in other.terms.items():
            total[name] = total.get(name, 0.0) - value
        return Form(total)

    def __mul__(self, scale: float) -> Form:
        return Form({name: scale * value for name, value in self.terms.items()})

    __rmul__ = __mul__

    def __neg__(self) -> Form:
        return self * -1.0

    def __truediv__(self, scale: float) -> Form:
        return self * (1 / scale)

    def lags(self, **latest: int) -> dict[str, tuple[float, ...]]:
        """The coefficients of each kind that is named, counted back from its latest number."""
        found: dict[str, list[float]] = {kind: [] for kind in latest}
        for (kind, number), value in self.terms.items():
            if value != 0:
                lag, row = latest[kind] - number, found[kind]
                while lag >= len(row):
                    row.append(0.0)
                row[lag] = value
        return {kind: tuple(row) for kind, row in found.items()}


ZERO = Form()


class Walk:
    """A plan in the writing. `at` is the node of the current state, `x` the current state."""

    def __init__(self, schedule: Schedule, times: Tensor | Sequence[float]) -> None:
        self.schedule = schedule
        self.grid = nodes(schedule, times)
        self.at = self.grid[0]
        self.x = Form({("state", 0): 1.0})
        self._foreseen: dict[float, Node] = {}
        self._stages: list[Stage] = []
        self._step = 0
        self._cleans = self._draws = -1  # the number of the latest
        self._evaluate = self._draw = False
        self._since = self.at  # where the noise of this stage starts on the Brownian path

    def steps(self) -> Iterator[tuple[Node, Node]]:
        """(t, s) for each step of the grid; what is written until the next belongs to that step.

        Raises:
            ValueError: a step was left before `to` had reached its s.
        """
        for step, (t, s) in enumerate(pairwise(self.grid)):
            self._step = step
            yield t, s
            if self.at is not s:
                raise ValueError(f"step {step} goes to t = {s.time:.6g}, but was left at t = {self.at.time:.6g}")

    def clean(self) -> Form:
        """The clean mean at the current state: one evaluation, however often it is asked for."""
        if not self._evaluate:
            self._evaluate = True
            self._cleans += 1
        return Form({("clean", self._cleans): 1.0})

    def noise(self, since: Node | None = None) -> Form:
        """Standard noise, fresh in this stage, which later stages may use again.

        On a Brownian path it is the increment from `since`, by default the current node, to where the stage goes; the
        first call in a stage says so for all.
        """
        if not self._draw:
            self._draw = True
            self._draws += 1
            self._since = since or self.at
        return Form({("noise", self._draws): 1.0})

    def to(self, s: Node, form: Form) -> Form:
        """Make `form` the state at s; returns it as the symbol by which later forms know it."""
        latest = len(self._stages)
        lags = form.lags(state=latest, clean=self._cleans, noise=self._draws)
        downhill = self._draw and self._since.snr < s.snr
        self._stages.append(
            Stage(
                self._step,
                self.at.time,
                s.time,
                lags["state"] or (0.0,),
                lags["clean"],
                lags["noise"],
                self._evaluate,
                self._draw,
                (self._since.snr, s.snr) if downhill else None,
            )
        )
        self._evaluate = self._draw = False
        self.at, self.x = s, Form({("state", latest + 1): 1.0})
        return self.x

    def between(self, log_ratio: float) -> Node:
        """The node where log(alpha / sigma) has this value."""
        if log_ratio not in self._foreseen:
            self.foresee([log_ratio])
        return self._foreseen[log_ratio]

    def foresee(self, log_ratios: Iterable[float]) -> None:
        """Look up many nodes at once, for `between` to find: a schedule answers a hundred as fast as one."""
        wanted = list(log_ratios)
        times = self.schedule.time(2 * torch.tensor(wanted, dtype=torch.float64))
        self._foreseen.update(zip(wanted, nodes(self.schedule, times.clamp(0.0, 1.0)), strict=True))

    def plan(self) -> Plan:
        """What was written.

        Raises:
            ValueError: a clean mean or a noise was asked for after the last state was made.
        """
        if self._evaluate or self._draw:
            raise ValueError("a clean mean or a noise was asked for, but no state was made with it; call `to`")
        return tuple(self._stages)


def first_order(t: Node, s: Node, x: Form, clean: Form) -> Form:
    """The exact step if the clean mean did not change; from alpha = 0 and to sigma = 0 too."""
    kept = s.sigma / t.sigma
    return kept * x + (s.alpha - t.alpha * kept) * clean
