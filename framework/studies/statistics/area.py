"""One number for a whole curve: mean quality over log2 evaluations.

    A = 1/(b - a) integral_a^b q(u) du,    u = log2 evaluations,

with q the straight lines between the measured budgets. A doubling of the budget counts the same wherever it is. A is
in the metric's unit, and linear in the measured values, A = sum_k w_k q_k: of per-sample values each sample has its own
area, and A's interval is that of a mean. Curves compare on the same range only.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float


def area_weights(evaluations: Float[np.ndarray, " k"], low: float, high: float) -> Float[np.ndarray, " k"]:
    """The weights w_k, which sum to 1.

    Args:
        evaluations: network evaluations of each point, positive, distinct, in any order.
        low: start of the range, at least the smallest of them.
        high: end of the range, at most the largest, above `low`.

    Raises:
        ValueError: if the points do not cover the range.
    """
    u = np.log2(np.asarray(evaluations, float))
    a, b = np.log2([low, high])
    slack = 1e-9
    if not (a < b and u.min() <= a + slack and u.max() >= b - slack):
        raise ValueError(f"points from {min(evaluations)} to {max(evaluations)} do not cover {low} to {high}")
    if len(np.unique(u)) < len(u):
        raise ValueError("two points have the same number of evaluations")
    order = np.argsort(u)
    corners = np.unique(np.concatenate([[a, b], u[(u > a) & (u < b)]]))
    lines = np.stack([np.interp(corners, u[order], row) for row in np.eye(len(u))], axis=1)
    weights = np.empty(len(u))
    weights[order] = np.trapezoid(lines, corners, axis=0) / (b - a)
    return weights
