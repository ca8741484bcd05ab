r"""A solver is a pure function from a schedule and times to a plan: the numbers with which the one loop computes.

Every fixed-grid Gaussian solver is linear in what it has seen. Stage k looks at the state x_k, asks the denoiser for
the clean mean D_k if it needs it, draws fresh noise z_k if it needs it, and makes

    x_{k+1} = sum_j a_j x_{k-j} + sum_j b_j D_(j-th latest) + sum_j c_j z_(j-th latest),

with a, b, c from alpha and sigma at the grid's times alone. Index j counts back from the latest. Hence a solver holds
no state, can be printed and tested without a network, and serves every kind of state. Any stage satisfies an identity
on numbers, since it follows a point mass exactly:

    alpha_{k+1} = sum_j a_j alpha_{k-j} + sum_j b_j.

A plan may be written stage by stage, or as a paper writes its method, with a `Walk` (framework/solvers/walk.py).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from framework.schedules import Schedule


@dataclass(frozen=True)
class Stage:
    """One linear update.

    Attributes:
        step: which step of the grid it belongs to, from 0.
        time: the time of the current state.
        target: the time of the state that it makes.
        states: a_j, latest first.
        cleans: b_j, latest first; with `evaluate` the latest is the one at the current state.
        noises: c_j, latest first; with `draw` the latest is drawn here.
        evaluate: whether the denoiser is asked at the current state.
        draw: whether fresh noise is drawn.
        path: the signal-to-noise ratios alpha^2 / sigma^2 between which the fresh noise is an increment of a Brownian
            path, for keys that have one (framework/brownian.py); None is noise that belongs to no path.
    """

    step: int
    time: float
    target: float
    states: tuple[float, ...]
    cleans: tuple[float, ...] = ()
    noises: tuple[float, ...] = ()
    evaluate: bool = True
    draw: bool = False
    path: tuple[float, float] | None = None


Plan = tuple[Stage, ...]


class Solver(Protocol):
    """The role; what is declared here is what certification measures.

    Attributes:
        order: the order of convergence on smooth problems from an exact start: of the endpoint for deterministic
            solvers, of the law for stochastic ones.
        evaluations_per_step: denoiser evaluations in a step away from the ends.
        stochastic: whether any stage draws noise.
    """

    @property
    def order(self) -> int: ...

    @property
    def evaluations_per_step(self) -> int: ...

    @property
    def stochastic(self) -> bool: ...

    def plan(self, schedule: Schedule, times: Tensor) -> Plan:
        """The stages that walk `times`, float64 (n + 1,) and strictly decreasing."""
        ...


@dataclass(frozen=True)
class Node:
    """A time of the grid with its alpha and sigma, as Python floats (float64)."""

    time: float
    alpha: float
    sigma: float

    @property
    def log_ratio(self) -> float:
        """lambda = log(alpha / sigma), infinite at either end."""
        if self.sigma == 0:
            return math.inf
        return math.log(self.alpha / self.sigma) if self.alpha > 0 else -math.inf

    @property
    def ratio(self) -> float:
        """sigma / alpha, the noise level of the state x / alpha; infinite where alpha = 0."""
        return self.sigma / self.alpha if self.alpha > 0 else math.inf

    @property
    def snr(self) -> float:
        """alpha^2 / sigma^2; infinite where sigma = 0."""
        return (self.alpha / self.sigma) ** 2 if self.sigma > 0 else math.inf


def nodes(schedule: Schedule, times: Tensor | Sequence[float]) -> list[Node]:
    """The schedule at each of the times."""
    t = torch.as_tensor(times, dtype=torch.float64)
    alpha, sigma = schedule.alpha_sigma(t)
    return [Node(*row) for row in zip(t.tolist(), alpha.tolist(), sigma.tolist(), strict=True)]


def first_order(step: int, t: Node, s: Node) -> Stage:
    """The exact step if the clean mean did not change: x_s = (sigma_s / sigma_t) x_t + (alpha_s - alpha_t sigma_s /
    sigma_t) D.

    It needs no logarithm, and so holds from alpha = 0 and to sigma = 0.
    """
    a = s.sigma / t.sigma
    return Stage(step, t.time, s.time, (a,), (s.alpha - t.alpha * a,))


def table(plan: Plan) -> str:
    """The plan as text, a line a stage."""

    def numbers(values: tuple[float, ...]) -> str:
        return "(" + ", ".join(f"{v:.5g}" for v in values) + ")"

    rows = [f"{'step':>4} {'from t':>9} {'to t':>9}  states, cleans, noises"]
    for stage in plan:
        asked = "" if stage.evaluate else "  (no evaluation)"
        parts = " ".join(numbers(values) for values in (stage.states, stage.cleans, stage.noises))
        rows.append(f"{stage.step:>4} {stage.time:>9.5f} {stage.target:>9.5f}  {parts}{asked}")
    return "\n".join(rows)
