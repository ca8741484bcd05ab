"""Features as the metrics see them: rows of a float64 matrix (N, D), whatever they were extracted from."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

Rows = Float[np.ndarray, "n d"]


def as_rows(features: np.ndarray | Tensor, name: str) -> Rows:
    """Check features and convert them to float64 rows.

    Arguments:
        features: real array or tensor (N, D), on any device.
        name: what the caller calls them; the errors say it.

    Returns:
        float64 array (N, D).

    Raises:
        ValueError: if the features are not two-dimensional or hold a NaN or an infinity (the row is named).
    """
    if isinstance(features, Tensor):
        features = features.detach().to("cpu", torch.float64).numpy()
    rows = np.asarray(features, dtype=np.float64)
    if rows.ndim != 2 or rows.shape[1] == 0:
        raise ValueError(f"{name} must be features of shape (N, D) with D >= 1, got {rows.shape}")
    finite = np.isfinite(rows).all(axis=1)
    if not finite.all():
        bad = np.flatnonzero(~finite)
        raise ValueError(f"{name}: {bad.size} of {len(rows)} rows are not finite, the first is row {bad[0]}")
    return rows
