"""Saying that two methods are the same, up to a margin that was stated before.

That no difference was found is no evidence that there is none. The two one-sided tests (Schuirmann, 1987) reject "the
difference is at least the margin, to this side or to that": p = max(P(T > (margin - d)/s), P(T > (margin + d)/s)),
which is below a exactly where the interval of level 1 - 2a lies within the margin.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy.stats import t as student


def equivalent_means(
    difference: Float[np.ndarray, " c"],
    error: Float[np.ndarray, " c"],
    df: Float[np.ndarray, " c"],
    margin: float | Float[np.ndarray, " c"],
) -> Float[np.ndarray, " c"]:
    """P that a difference with this standard error is not within -margin .. margin; NaN without degrees of freedom."""
    room = np.asarray(margin, float) - np.abs(difference)
    with np.errstate(invalid="ignore", divide="ignore"):
        p = student.sf(room / error, np.maximum(df, 1))
    p = np.where(error == 0, np.where(room > 0, 0.0, 1.0), p)
    return np.where((df >= 1) & np.isfinite(difference) & np.isfinite(error), p, np.nan)
