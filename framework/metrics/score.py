"""What is judged of each sample by itself, so that two ways of sampling can be compared sample by sample."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True, eq=False)
class Score:
    """One number a sample.

    Attributes:
        values: (n,), in the order of the samples; NaN where a sample cannot be judged. Of a binary score 0 or 1.
        label: in a few words, for axes and tables.
        better: which way is up.
        kind: "binary" for verdicts, "value" for anything else.
        unit: of a value.

    Raises:
        ValueError: the values are not (n,), or verdicts are not 0 or 1.
    """

    values: Float[np.ndarray, " n"]
    label: str
    better: Literal["higher", "lower"] = "higher"
    kind: Literal["value", "binary"] = "value"
    unit: str = ""

    def __post_init__(self) -> None:
        values = np.asarray(self.values, np.float64)
        if values.ndim != 1:
            raise ValueError(f"score '{self.label}' is one number a sample, and was given the shape {values.shape}")
        known = values[np.isfinite(values)]
        if self.kind == "binary" and not np.isin(known, (0.0, 1.0)).all():
            raise ValueError(f"score '{self.label}' is binary: 0 or 1, not {known[~np.isin(known, (0, 1))][0]}")
        object.__setattr__(self, "values", values)


def verdicts(values: object, label: str) -> Score:
    """A binary score, of which more is better."""
    return Score(np.asarray(values, np.float64), label, "higher", "binary")
