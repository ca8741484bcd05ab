"""Do molecules have the property that was asked for? By a judge that was trained on molecules the generator never saw.

    property_mae                 mean |asked - judged| over all samples
    property_mae/valid           over the valid and connected ones: the judge may be fooled by what is no molecule
    property_mae/size_baseline   mean |asked - mean of the data's molecules of that many atoms|: what a generator gets
                                 right that only hits the size
    property_mae/ignored         mean |asked - judged| of real molecules drawn without regard to what was asked
    ceiling/property_mae         mean |true - judged| of held-out real molecules: the judge's own error

all in the property's unit. The second but last is what the literature calls the upper bound (labels shuffled), here as
the expectation over all shuffles, and the last its lower bound (Hoogeboom et al. 2022, section 5.2). A generator that
understands the property comes below the baseline of sizes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from jaxtyping import Float

from framework.errors import DataError
from framework.metrics.measurement import Measurement
from modalities.molecules.metrics.measured import mean
from modalities.molecules.metrics.regressor import property_values
from modalities.molecules.metrics.validity import validity
from modalities.molecules.molecule import Molecule


class Judge(Protocol):
    """Tells a property of molecules; NaN of what it cannot judge."""

    def predict(self, molecules: Sequence[Molecule]) -> Float[np.ndarray, " m"]: ...


def property_mae(
    samples: Sequence[Molecule],
    asked: Sequence[float],
    name: str,
    judge: Judge,
    training: Sequence[Molecule],
    held_out: Sequence[Molecule],
    seed: int,
) -> dict[str, Measurement]:
    """Measure how far samples are from what was asked of them.

    Arguments:
        samples: generated molecules. Those without finite positions cannot be judged, and are not in n.
        asked: of each sample.
        name: of the property.
        judge: of the property; see `regressor.train_regressor`.
        training: real molecules with the property: the means by size are theirs.
        held_out: real molecules with it that the judge was not trained on.
        seed: of the samples; also of the bootstraps.

    Raises:
        DataError: the numbers of samples and values differ, a value is not finite, or a real molecule has none.
    """
    wanted = np.asarray(asked, np.float64)
    if wanted.shape != (len(samples),) or not np.isfinite(wanted).all():
        raise DataError(f"{len(samples)} samples need as many finite values of {name!r}, got shape {wanted.shape}")
    true, known = property_values(held_out, name), property_values(training, name)
    errors = np.abs(wanted - judge.predict(samples))
    judged = np.isfinite(errors)
    real = judge.predict(held_out)
    baseline = size_means(training, known, np.array([len(molecule) for molecule in samples], np.int64))
    ignored = np.abs(wanted[:, None] - real).mean(1)
    return {
        "property_mae": mean(errors[judged], seed),
        "property_mae/valid": mean(errors[judged & validity(samples).connected], seed),
        "property_mae/size_baseline": mean(np.abs(wanted - baseline), seed),
        "property_mae/ignored": mean(ignored, seed),
        "ceiling/property_mae": mean(np.abs(true - real), seed),
    }


def size_means(
    molecules: Sequence[Molecule], values: Float[np.ndarray, " m"], sizes: np.ndarray
) -> Float[np.ndarray, " k"]:
    """The mean value of the molecules of each of `sizes` atoms; or of the nearest size (of two, the lesser)."""
    known, rows = np.unique([len(molecule) for molecule in molecules], return_inverse=True)
    means = np.bincount(rows, weights=values) / np.bincount(rows)
    nearest: np.ndarray = means[np.abs(np.asarray(sizes)[:, None] - known).argmin(1)]
    return nearest
