"""How good curves are. REPLACE this by what your field measures, and say of each number which way is better.

    shape_accuracy          the share of curves whose shape is the one that was asked for, by a rule (higher is better)
    frechet, kid            distance between the distributions of curves (lower is better)
    precision, recall, ...  overlap of their supports (higher is better)

A Measurement has an interval. Real data in place of samples must come near the ceiling: the kit asks for it.
"""

from __future__ import annotations

import numpy as np
from framework.metrics.intervals import wilson
from framework.metrics.measurement import Measurement
from framework.metrics.pictures import feature_metrics
from torch import Tensor

from diffract_my_modality.data import SHAPES, wave

ALIKE = 0.9  # the correlation with the nearest ideal curve below which a curve has no shape
SHIFTS = 4  # tries between two points


def judge(curves: Tensor, asked: Tensor, real: Tensor, seed: int) -> dict[str, Measurement]:
    """All metrics of curves (n, N) with the labels (n,) that they were asked to have, beside real ones (m, N)."""
    right = recognise(curves.numpy()) == asked.numpy()
    accuracy = Measurement(*wilson(int(right.sum()), len(right)), n=len(right), seed=seed)
    rows, reference = curves.double().numpy(), real.double().numpy()
    return {"shape_accuracy": accuracy, **feature_metrics(rows, reference, seed=seed)}


def recognise(curves: np.ndarray) -> np.ndarray:
    """The label of each curve (n, N): that of the ideal curve it correlates with most; -1 where none is alike."""
    points = curves.shape[1]
    places = np.arange(points) / points
    best, labels = np.full(len(curves), ALIKE), np.full(len(curves), -1)
    units = _unit(curves)
    for label in range(len(SHAPES)):
        shifts = np.arange(SHIFTS * points) / (SHIFTS * points)
        ideals = _unit(np.stack([wave(label, shift + places) for shift in shifts]))
        found = (units @ ideals.T).max(1)
        labels = np.where(found > best, label, labels)
        best = np.maximum(found, best)
    return labels


def _unit(rows: np.ndarray) -> np.ndarray:
    centred = rows - rows.mean(1, keepdims=True)
    return centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12)
