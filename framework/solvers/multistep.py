r"""One evaluation a step, with the latest predictions remembered: what all multistep methods share.

    x_s = kept x_t + sum_j w_j p_j

p_j is the prediction (of the noise or of the data) at the j-th latest node; a method is its weights w_j. The first
step knows one prediction and the next ones two, three, ...: a method is given what there is. A node at alpha = 0 is
infinitely far from every other, so that the step from it is the first-order step and its prediction is not remembered.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from framework.solvers.exponential import PredictionKind
from framework.solvers.plan import Node, Plan
from framework.solvers.walk import ZERO, Form, Walk, first_order

Weights = Callable[[Node, Node, Sequence[Node]], Sequence[float]]
"""(t, s, the latest nodes, t first) -> what their predictions weigh; predictions beyond the weights are not used."""


def multistep(walk: Walk, kind: PredictionKind, points: int, lower_order_final: int, weights: Weights) -> Plan:
    """The plan of a method with at most `points` predictions in a step.

    In the last `lower_order_final` steps it uses no more predictions than there are steps left.
    """
    seen: list[tuple[Node, Form]] = []
    for i, (t, s) in enumerate(walk.steps()):
        x, clean = walk.x, walk.clean()
        if t.alpha == 0:
            walk.to(s, first_order(t, s, x, clean))
            continue
        seen = [(t, kind.of(t, x, clean)), *seen][:points]
        used = seen[: usable(points, len(walk.grid) - 1 - i, lower_order_final)]
        values = weights(t, s, [node for node, _ in used])
        terms = [w * prediction for w, (_, prediction) in zip(values, used, strict=False)]
        walk.to(s, kind.kept(t, s) * x + sum(terms, ZERO))
    return walk.plan()


def usable(points: int, left: int, lower_order_final: int) -> int:
    """How many predictions a step may use when `left` steps are left, itself included."""
    return min(points, left) if left <= lower_order_final else points
