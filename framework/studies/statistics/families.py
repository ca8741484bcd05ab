"""Many comparisons at once: the chance of any false claim among them.

Holm (1979): sort the m p-values; the k-th smallest is multiplied by m - k + 1, and none may fall below the one before.
It holds the chance of a false rejection in the family to the level, whatever the dependence, and is never weaker than
Bonferroni's.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float


def holm(p: Float[np.ndarray, " m"]) -> Float[np.ndarray, " m"]:
    """Adjusted p-values, in the order given; NaN stay NaN and are no part of the family."""
    p = np.asarray(p, dtype=np.float64)
    adjusted = np.full(p.shape, np.nan)
    tested = np.flatnonzero(~np.isnan(p))
    order = tested[np.argsort(p[tested], kind="stable")]
    factors = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * factors))
    return adjusted
