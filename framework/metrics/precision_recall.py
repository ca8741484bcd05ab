"""How much two sets of features overlap: precision and recall, density and coverage, by nearest neighbours.

A set's manifold is the union of balls B(x_i, r_k(x_i)), with r_k(x_i) the distance from x_i to its k-th
nearest other row of the same set. With samples x_i (N) and reference rows y_j (M):

    precision = share of x_i within the manifold of the reference
    recall    = share of y_j within the manifold of the samples
    density   = mean_i (1/k) #{j : |x_i - y_j| <= r_k(y_j)}
    coverage  = share of y_j with some x_i in B(y_j, r_k(y_j))

Precision and recall: Kynkaanniemi et al., 2019 (arXiv:1904.06991), k = 3. Density and coverage: Naeem et al.,
2020 (arXiv:2002.09797), k = 5; they forgive outliers of the reference, density may exceed 1.

Intervals hold the reference fixed, as that of the Frechet distance does. Precision and density are then means
of independent values, one a sample: Wilson's interval and the bootstrap hold. (Another reference of the same
size would move them too, for few rows even by more.) Recall and coverage are functions of the whole sample
set: delete-block jackknife, combined with Wilson's interval over the reference rows, of which they are
proportions, so that 0 % and 100 % are not taken as certain.

All distances are computed in chunks: memory grows with N and not with N M.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from torch import Tensor

from .intervals import Interval, assign_blocks, combine, jackknife_interval, mean_interval, wilson
from .rows import Rows, as_rows

CHUNK = 512
MANIFOLD_NEIGHBOURS = 3
DENSITY_NEIGHBOURS = 5


@dataclass(frozen=True, eq=False)
class Overlap:
    """The overlap row by row; the mean of each array is the metric of that name."""

    precision: Bool[np.ndarray, " n"]
    density: Float[np.ndarray, " n"]
    recall: Bool[np.ndarray, " m"]
    coverage: Bool[np.ndarray, " m"]


def overlap(
    samples: np.ndarray | Tensor,
    reference: np.ndarray | Tensor,
    *,
    manifold_neighbours: int = MANIFOLD_NEIGHBOURS,
    density_neighbours: int = DENSITY_NEIGHBOURS,
) -> Overlap:
    """Return which samples lie in the reference's manifold and which reference rows in that of the samples.

    Arguments:
        samples: features (N, D).
        reference: features (M, D); both sets need more rows than neighbours.
        manifold_neighbours: k of precision and recall.
        density_neighbours: k of density and coverage.
    """
    x, y = as_rows(samples, "samples"), as_rows(reference, "reference")
    sample_radius = _radii(x, manifold_neighbours, "samples")
    manifold_radius = _radii(y, manifold_neighbours, "reference")
    density_radius = _radii(y, density_neighbours, "reference")
    inside = np.zeros(len(x), dtype=bool)
    density = np.zeros(len(x))
    recall, coverage = np.zeros(len(y), dtype=bool), np.zeros(len(y), dtype=bool)
    for rows, distance in _distances(y, x):
        inside |= (distance <= manifold_radius[rows, None]).any(axis=0)
        within = distance <= density_radius[rows, None]
        density += within.sum(axis=0)
        coverage[rows] = within.any(axis=1)
        recall[rows] = (distance <= sample_radius).any(axis=1)
    return Overlap(inside, density / density_neighbours, recall, coverage)


def overlap_intervals(
    samples: np.ndarray | Tensor,
    reference: np.ndarray | Tensor,
    *,
    blocks: int = 20,
    seed: int = 0,
    level: float = 0.95,
) -> dict[str, Interval]:
    """Return `precision`, `recall`, `density` and `coverage` with intervals.

    Arguments:
        samples: features (N, D), independent rows.
        reference: features (M, D).
        blocks: jackknife blocks of the samples; each leaves more rows than neighbours.
        seed: of the blocks and of the bootstrap.
        level: nominal coverage of the intervals.
    """
    x, y = as_rows(samples, "samples"), as_rows(reference, "reference")
    rows = overlap(x, y)
    left_recall, left_coverage = _left_out(x, y, assign_blocks(len(x), blocks, seed))

    def of_both(hits: Bool[np.ndarray, " m"], left_out: Float[np.ndarray, " b"]) -> Interval:
        over_reference = wilson(int(hits.sum()), len(hits), level=level)
        over_samples = jackknife_interval(over_reference.value, left_out, level=level)
        both = combine(over_reference, over_samples)
        return Interval(both.value, max(both.low, 0.0), min(both.high, 1.0))

    return {
        "precision": wilson(int(rows.precision.sum()), len(x), level=level),
        "recall": of_both(rows.recall, left_recall),
        "density": mean_interval(rows.density, seed=seed, level=level),
        "coverage": of_both(rows.coverage, left_coverage),
    }


def _left_out(x: Rows, y: Rows, labels: Int[np.ndarray, " n"]) -> tuple[np.ndarray, np.ndarray]:
    """Recall (B,) and coverage (B,) without each block of samples, for one pass over the distances."""
    blocks = int(labels.max()) + 1
    order = np.argsort(labels, kind="stable")
    x, starts = x[order], np.searchsorted(labels[order], np.arange(blocks))
    radii = _radii_without(x, starts)
    density_radius = _radii(y, DENSITY_NEIGHBOURS, "reference")
    recalled, covered = np.zeros(blocks), np.zeros(blocks)
    for rows, distance in _distances(y, x):
        nearest = np.minimum.reduceat(distance, starts, axis=1)
        for b in range(blocks):
            others = np.arange(blocks) != b
            hit = np.logical_or.reduceat(distance <= radii[b], starts, axis=1)
            recalled[b] += hit[:, others].any(axis=1).sum()
            covered[b] += (nearest[:, others].min(axis=1) <= density_radius[rows]).sum()
    return recalled / len(y), covered / len(y)


def _radii_without(x: Rows, starts: np.ndarray) -> Float[np.ndarray, "b n"]:
    """Distance of each row to its k-th nearest other row outside each block (rows in block order)."""
    k, blocks = MANIFOLD_NEIGHBOURS, len(starts)
    radii = np.empty((blocks, len(x)))
    for rows, distance in _distances(x, x):
        distance[np.arange(distance.shape[0]), np.arange(rows.start, rows.stop)] = np.inf
        # The k nearest of every block are enough to find the k nearest of all blocks but one.
        parts = [_smallest(part, k) for part in np.split(distance, starts[1:], axis=1)]
        for b in range(blocks):
            rest = np.concatenate([part for other, part in enumerate(parts) if other != b], axis=1)
            radii[b, rows] = np.partition(rest, k - 1, axis=1)[:, k - 1]
    return radii


def _smallest(distance: np.ndarray, k: int) -> np.ndarray:
    return distance if distance.shape[1] <= k else np.partition(distance, k - 1, axis=1)[:, :k]


def _radii(x: Rows, neighbours: int, name: str) -> Float[np.ndarray, " n"]:
    """Distance of each row to its k-th nearest other row."""
    if len(x) <= neighbours:
        raise ValueError(f"{name} has {len(x)} rows: {neighbours} nearest neighbours need at least {neighbours + 1}")
    radii = np.empty(len(x))
    for rows, distance in _distances(x, x):
        distance[np.arange(distance.shape[0]), np.arange(rows.start, rows.stop)] = np.inf
        radii[rows] = np.partition(distance, neighbours - 1, axis=1)[:, neighbours - 1]
    return radii


def _distances(x: Rows, y: Rows) -> Iterator[tuple[slice, Float[np.ndarray, "c m"]]]:
    """Chunks of the matrix |x_i - y_j| with the rows that each one holds."""
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"features of {x.shape[1]} and of {y.shape[1]} dimensions have no distance")
    # Centring keeps the expansion |x|^2 + |y|^2 - 2 x.y from cancelling for features far from the origin.
    centre = y.mean(axis=0)
    x, y = x - centre, y - centre
    squares = (y**2).sum(axis=1)
    for start in range(0, len(x), CHUNK):
        rows = slice(start, min(start + CHUNK, len(x)))
        squared = (x[rows] ** 2).sum(axis=1)[:, None] + squares - 2 * x[rows] @ y.T
        yield rows, np.sqrt(np.maximum(squared, 0.0))
