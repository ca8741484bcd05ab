r"""UniPC: a predictor, and a corrector that costs no evaluation (Zhao et al. 2023, arXiv:2302.04867).

Step s of length h in lambda. UniP-p predicts x_s from the last p predictions (of the data, or of the noise) at t and
before; UniC-p puts the one that is then found at x_s, for the next step anyhow, among them and repeats the step:

    UniP-p   x_s  = kept x_t + sum_{j=0}^{p-1} w_j p_j             order p
    UniC-p   x_s' = kept x_t + sum_{j=0}^{p-1} w'_j p_j + w' p_s   order p + 1

The next step starts at x_s', with the prediction found at x_s. The last x_s is not corrected.

The paper's linear system for the weights has as its solution the exact integral of the polynomial in lambda through the
points, and there its function B(h) cancels. It remains where the paper solves one equation only, for a slope with
weight B(h) / 2: in UniP-2 and in UniC-1. With z = -h for data and z = h for noise, bh1 is B = z and bh2 is B = e^z - 1
(UniP-2 is then DPM-Solver++(2M)).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

from torch import Tensor

from framework.errors import UserError
from framework.schedules import Schedule
from framework.solvers.exponential import DataPrediction, PredictionKind, exact_weights, fractions
from framework.solvers.multistep import multistep, usable
from framework.solvers.plan import Node, Plan
from framework.solvers.walk import ZERO, Form, Walk, first_order


class StepFunction(Protocol):
    """The role of B(h), given as what it makes of the weight of a prediction from t to s."""

    def __call__(self, kind: PredictionKind, t: Node, s: Node) -> float: ...


@dataclass(frozen=True)
class BH1:
    """B(h) = z."""

    def __call__(self, kind: PredictionKind, t: Node, s: Node) -> float:
        return kind.scale(t, s)


@dataclass(frozen=True)
class BH2:
    """B(h) = e^z - 1."""

    def __call__(self, kind: PredictionKind, t: Node, s: Node) -> float:
        return kind.whole(t, s)


@dataclass(frozen=True)
class UniP:
    """The predictor alone: order p, one evaluation a step.

    Args:
        p: how many predictions a step uses: 1, 2 or 3.
        step_function: BH1 or BH2; it matters for p = 2 only.
        prediction: what is interpolated, the data or the noise.
        lower_order_final: in how many of the last steps p is at most the number of steps left.

    Raises:
        UserError: p is not 1, 2 or 3.
    """

    p: int = 3
    step_function: StepFunction = BH2()
    prediction: PredictionKind = field(default_factory=DataPrediction)
    lower_order_final: int = 0
    evaluations_per_step: ClassVar[int] = 1
    stochastic: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.p not in (1, 2, 3):
            raise UserError(f"{type(self).__name__}'s p is 1, 2 or 3, got {self.p}")

    @property
    def order(self) -> int:
        return self.p

    def plan(self, schedule: Schedule, times: Tensor) -> Plan:
        return multistep(Walk(schedule, times), self.prediction, self.p, self.lower_order_final, self._weights)

    def _weights(self, t: Node, s: Node, nodes: Sequence[Node]) -> list[float]:
        """What the predictions at the nodes weigh; t is among them, and in the corrector s."""
        kind, whole = self.prediction, self.prediction.whole(t, s)
        if len(nodes) == 1 or s.sigma == 0:
            return [whole]
        if len(nodes) > 2:
            return exact_weights(kind, t, s, nodes)
        slope = self.step_function(kind, t, s) / 2
        first, second = fractions(t, s, nodes)
        rise = slope / (second - first)
        return [whole - rise, rise] if first == 0 else [-rise, whole + rise]


@dataclass(frozen=True)
class UniPC(UniP):
    """Predictor and corrector: order p + 1, one evaluation a step. The arguments are UniP's; bh matters for p < 3."""

    @property
    def order(self) -> int:
        return self.p + 1

    def plan(self, schedule: Schedule, times: Tensor) -> Plan:
        walk, kind = Walk(schedule, times), self.prediction
        seen: list[tuple[Node, Form]] = []  # the predictions so far, the latest first
        before: tuple[Node, Form, int] | None = None  # where the last step began, its state, how many it used
        for i, (t, s) in enumerate(walk.steps()):
            clean = walk.clean()
            if t.alpha == 0:
                walk.to(s, first_order(t, s, walk.x, clean))
                continue
            seen = [(t, kind.of(t, walk.x, clean)), *seen][: self.p + 1]
            if before is not None:
                start, x, used = before
                walk.to(t, self._step(start, t, x, seen[: used + 1]))
            used = usable(min(self.p, len(seen)), len(walk.grid) - 1 - i, self.lower_order_final)
            before = (t, walk.x, used)
            walk.to(s, self._step(t, s, walk.x, seen[:used]))
        return walk.plan()

    def _step(self, t: Node, s: Node, x: Form, used: Sequence[tuple[Node, Form]]) -> Form:
        weights = self._weights(t, s, [node for node, _ in used])
        terms = [w * prediction for w, (_, prediction) in zip(weights, used, strict=False)]
        return self.prediction.kept(t, s) * x + sum(terms, ZERO)
