r"""How close two sets of clouds are (Achlioptas et al. 2018, arXiv 1707.02392; Yang et al. 2019, arXiv 1906.12320).

    CD(X, Y)   mean over x of min |x - y|^2 + mean over y of min |x - y|^2         (Chamfer)
    EMD(X, Y)  min over bijections of the mean |x - y|, of as many points of each  (earth mover's)

    cov        share of real clouds that are the nearest one of some sample              higher is better
    mmd        mean over real clouds of the distance to the nearest sample               lower
    1nna       share of all whose nearest other cloud is of their own kind               1/2 is best: no telling apart
    class_accuracy   share of samples whose nearest real cloud has the class that was asked for

Each of the first three is taken of both distances, at as many samples as real clouds.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.optimize import linear_sum_assignment

from diffract_pointclouds.clouds import Clouds
from framework.metrics.intervals import Interval, block_interval, wilson
from framework.metrics.measurement import Measurement

BLOCKS = 20
EXACT = "donot_use_mm_for_euclid_dist"  # the fast way is no zero where points are equal
EMD_POINTS = 96  # of each cloud, for the assignment
Matrix = Float[np.ndarray, "n m"]


def cloud_metrics(
    samples: Clouds, real: Clouds, asked: Int[np.ndarray, " n"], labels: Int[np.ndarray, " m"], emd: int, seed: int
) -> dict[str, Measurement]:
    """All of them; EMD of the first `emd` clouds of each, which takes a millisecond a pair."""
    count = min(len(samples), len(real))
    cd = [chamfer(a, b) for a, b in _pairs(samples[:count], real[:count])]
    found = {f"{name}/cd": value for name, value in _three(cd, seed).items()}
    if (few := min(emd, count)) >= 4:
        by_emd = [earth_mover(a, b) for a, b in _pairs(samples[:few], real[:few])]
        found |= {f"{name}/emd": value for name, value in _three(by_emd, seed).items()}
    judged = (asked[:count] >= 0) & bool((labels >= 0).all())
    if judged.any():
        right = (labels[cd[1].argmin(1)] == asked[:count])[judged]
        found["class_accuracy"] = Measurement(*wilson(int(right.sum()), len(right)), n=len(right), seed=seed)
    return found


def _pairs(samples: Clouds, real: Clouds) -> list[tuple[Clouds, Clouds]]:
    return [(samples, samples), (samples, real), (real, real)]


def _three(distances: list[Matrix], seed: int) -> dict[str, Measurement]:
    """cov, mmd and 1nna of the distances among samples, of samples (rows) to real ones, and among these."""
    among, across, real = distances
    n = len(across)

    def cov(rows: np.ndarray, _: None) -> float:
        return len(set(across[_index(rows)].argmin(1).tolist())) / across.shape[1]

    def mmd(rows: np.ndarray, _: None) -> float:
        return float(across[_index(rows)].min(0).mean())

    def nearest(rows: np.ndarray, _: None) -> float:
        i = _index(rows)
        return float(same_kind(among[np.ix_(i, i)], across[i], real).mean())

    index, found = np.arange(n, dtype=np.float64)[:, None], dict[str, Interval]()
    for name, function, top in (("cov", cov, 1.0), ("mmd", mmd, math.inf), ("1nna", nearest, 1.0)):
        found[name] = block_interval(function, index, None, blocks=min(BLOCKS, n // 2), seed=seed, support=(0.0, top))
    return {name: Measurement(*interval, n=n, seed=seed) for name, interval in found.items()}


def _index(rows: np.ndarray) -> Int[np.ndarray, " n"]:
    return rows[:, 0].astype(int)


def same_kind(among: Matrix, across: Matrix, real: Matrix) -> Bool[np.ndarray, " n+m"]:
    """Whether the nearest other cloud of each sample is a sample, and of each real cloud a real one."""
    n = len(among)
    whole = np.block([[among, across], [across.T, real]])
    np.fill_diagonal(whole, np.inf)
    return (whole.argmin(1) < n) == (np.arange(len(whole)) < n)


def chamfer(a: Clouds, b: Clouds) -> Matrix:
    """CD of all pairs: float64 (n, m)."""
    rows = []
    for points, mask in zip(a.points, a.mask, strict=True):
        squares = torch.cdist(
            points[mask][None].expand(len(b), -1, -1), b.points, compute_mode=EXACT
        ).square()  # (m, i, j)
        to_b = squares.masked_fill(~b.mask[:, None], torch.inf).amin(2).mean(1)
        to_a = (squares.amin(1) * b.mask).sum(1) / b.mask.sum(1)
        rows.append(to_b + to_a)
    return torch.stack(rows).double().numpy()


def earth_mover(a: Clouds, b: Clouds) -> Matrix:
    """EMD of the first points of all pairs: float64 (n, m); a cloud's points come in no order, so any will do."""
    size = min(a.first(EMD_POINTS).shape[1], b.first(EMD_POINTS).shape[1])
    x, y = a.first(size), b.first(size)
    found = np.zeros((len(x), len(y)))
    for i, j in np.ndindex(found.shape):
        if a is b and j <= i:  # it is symmetric
            found[i, j] = found[j, i]
            continue
        distances = torch.cdist(x[i], y[j], compute_mode=EXACT).numpy()
        found[i, j] = distances[linear_sum_assignment(distances)].mean()
    return found
