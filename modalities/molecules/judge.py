"""How good samples are: the metrics of metrics/summary.py, and, where properties were asked for, how far they are off.

The judge of a property is a network of its own, trained on a half of the held-out molecules, which the generator has
not seen; it is a function of the data, trained once and cached.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from framework.metrics.measurement import Measurement
from modalities.molecules.data import MoleculeData
from modalities.molecules.metrics import summary
from modalities.molecules.metrics.property_error import property_mae
from modalities.molecules.metrics.regressor import train_regressor
from modalities.molecules.molecule import Molecule
from modalities.molecules.prompts import Wish

REFERENCE = 4000  # real molecules at most that distributions are compared with, and as many for the ceiling


def judge(
    samples: Sequence[Molecule],
    wishes: Sequence[Wish],
    data: MoleculeData,
    properties: Sequence[str],
    seed: int,
    full: bool = False,
) -> dict[str, Measurement]:
    """All metrics by name; with several properties those of each end in its name.

    Raises:
        DataError: too few real molecules are known to compare with.
    """
    real = data.reference(2 * min(len(samples), REFERENCE), seed)
    result = summary.judge(samples, real, data.train_smiles, seed, full)
    for name in properties:
        asked = np.array([wish.properties.get(name, math.nan) for wish in wishes])
        rows = np.flatnonzero(np.isfinite(asked))
        if len(rows):
            found = _property(samples, asked, rows, name, data, seed)
            ending = "" if len(properties) == 1 else f"/{name}"
            result |= {f"{key}{ending}": value for key, value in found.items()}
    return result


def _property(
    samples: Sequence[Molecule], asked: np.ndarray, rows: np.ndarray, name: str, data: MoleculeData, seed: int
) -> dict[str, Measurement]:
    known = [m for m in data.reference(10**9, 0) if name in m.properties]
    half = len(known) // 2
    training = [m for m in data.training_reference(10**9, 0) if name in m.properties]
    chosen = [samples[int(row)] for row in rows]
    return property_mae(
        chosen, asked[rows].tolist(), name, train_regressor(known[:half], name), training, known[half:], seed
    )
