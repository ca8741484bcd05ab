r"""How good series are: as a set beside real ones, and as forecasts and imputations of real ones.

    mmd              unbiased squared MMD of whole series, cubic kernel (framework.metrics.kernel)
    acf, coupling    root mean square error of the mean autocorrelations, and of the mean correlations of channels
    spectrum         the same of the mean log power, dB
    class_accuracy   a linear discriminant, fitted to training series, sees the class that was asked for

Real series have gaps. A sample is seen through the gaps of a real one, and both are filled by straight lines.

    forecast/crps    mean over what was to be drawn of E|x - y| - E|x - x'| / 2 over an ensemble (fair: Ferro 2014), in
                     units of the channel's standard deviation; that of a point forecast is its absolute error
    /baseline        of one last season again and again (seasonal naive); of imputations, of straight lines
    /skill           1 - crps / baseline
    /within_80       share of true values between the ensemble's 10 % and 90 % quantiles; 0.8 is calibrated
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float, Int

from framework.metrics.intervals import Interval, block_interval, mean_interval, wilson
from framework.metrics.kernel import kernel_distance
from framework.metrics.measurement import Measurement

BLOCKS = 20
Values = Float[np.ndarray, "n l c"]


def set_metrics(
    samples: Values,
    asked: Int[np.ndarray, " n"],
    real: Values,
    season: int,
    train: tuple[Values, np.ndarray],
    seed: int,
) -> dict[str, Measurement]:
    """Of standardised series with the classes that were asked for (-1: none); `train` are others with their classes."""
    samples = filled(np.where(np.isnan(np.resize(real, samples.shape)), np.nan, samples))
    real = filled(real)
    found: dict[str, Interval] = {}
    if (blocks := min(BLOCKS, min(len(samples), len(real)) // 3)) >= 2:
        flat = samples.reshape(len(samples), -1), real.reshape(len(real), -1)
        found["mmd"] = kernel_distance(*flat, blocks=blocks, seed=seed)
        for name, feature in features(season).items():
            found[name] = block_interval(
                _apart, feature(samples), feature(real).mean(0), blocks=blocks, seed=seed, support=(0, math.inf)
            )
    if (asked >= 0).all() and len(set(train[1].tolist()) - {-1}) > 1:
        right = recognised(samples, *train) == asked
        found["class_accuracy"] = wilson(int(right.sum()), len(right))
    return {name: Measurement(*interval, n=len(samples), seed=seed) for name, interval in found.items()}


def features(season: int) -> dict[str, Callable[[Values], Float[np.ndarray, "n d"]]]:
    """What the means over series are compared of: functions from filled series to one row of numbers each."""

    def acf(x: Values) -> Float[np.ndarray, "n d"]:
        x = x - x.mean(1, keepdims=True)
        power = np.maximum((x**2).sum(1), 1e-12)
        lags = range(1, min(2 * season, x.shape[1] - 1) + 1)
        return np.concatenate([(x[:, lag:] * x[:, :-lag]).sum(1) / power for lag in lags], 1)

    def spectrum(x: Values) -> Float[np.ndarray, "n d"]:
        return 10 * np.log10(np.abs(np.fft.rfft(x, axis=1)[:, 1:]) ** 2 + 1e-3).reshape(len(x), -1)

    return {"acf": acf, "coupling": _coupling, "spectrum": spectrum}


def ensemble_metrics(
    name: str,
    drawn: Float[np.ndarray, "w m l c"],
    truth: Values,
    known: Bool[np.ndarray, "w l c"],
    baseline: Values,
    seed: int,
) -> dict[str, Measurement]:
    """Of ensembles of m standardised series for each of w windows, judged where something true was not known."""
    judged = np.isfinite(truth) & ~known
    some = judged.any((1, 2))
    drawn, truth, baseline, judged = drawn[some], truth[some], baseline[some], judged[some]
    members = np.sort(drawn, axis=1)
    m = drawn.shape[1]
    weights = (2 * np.arange(1, m + 1) - m - 1)[None, :, None, None]
    spread = (weights * members).sum(1) / (m * max(m - 1, 1))  # E|x - x'| / 2 over different members
    crps = np.abs(drawn - truth[:, None]).mean(1) - spread
    low, high = np.quantile(drawn, (0.1, 0.9), axis=1)
    per_window = [_over(x, judged) for x in (crps, np.abs(baseline - truth), (truth >= low) & (truth <= high))]
    found = {
        key: mean_interval(x, seed=seed) for key, x in zip(("crps", "baseline", "within_80"), per_window, strict=True)
    }
    if (blocks := min(BLOCKS, len(truth))) >= 2:
        found["skill"] = block_interval(_skill, np.stack(per_window[:2], 1), None, blocks=blocks, seed=seed)
    return {f"{name}/{key}": Measurement(*interval, n=len(truth), seed=seed) for key, interval in found.items()}


def seasonal_naive(values: Values, season: int) -> Values:
    """What is behind the last known step as it was a season before, and so on; gaps before it by straight lines."""
    history = filled(values)
    begin = int(np.isfinite(values).any((0, 2)).nonzero()[0].max()) + 1
    for step in range(begin, values.shape[1]):
        history[:, step] = history[:, max(step - season, 0)]
    return history


def filled(values: Values) -> Values:
    """Missing values by straight lines in time, constant at both ends; a channel without any is 0."""
    out, steps = np.array(values, dtype=np.float64), np.arange(values.shape[1])
    for i, c in zip(*np.isnan(values).any(1).nonzero(), strict=True):
        good = np.isfinite(values[i, :, c])
        out[i, :, c] = np.interp(steps, steps[good], values[i, good, c]) if good.any() else 0.0
    return out


def _over(x: np.ndarray, judged: Bool[np.ndarray, "w l c"]) -> Float[np.ndarray, " w"]:
    """The mean over what is judged, for each window."""
    return np.where(judged, x, 0.0).sum((1, 2)) / judged.sum((1, 2))


def _skill(rows: Float[np.ndarray, "w 2"], _: None) -> float:
    return float(1 - rows[:, 0].mean() / max(rows[:, 1].mean(), 1e-12))


def _apart(rows: Float[np.ndarray, "n d"], mean: Float[np.ndarray, " d"]) -> float:
    return float(np.sqrt(np.mean((rows.mean(0) - mean) ** 2)))


def _coupling(x: Values) -> Float[np.ndarray, "n d"]:
    """The correlations of all pairs of channels."""
    x = x - x.mean(1, keepdims=True)
    x = x / np.maximum(np.sqrt((x**2).sum(1, keepdims=True)), 1e-6)
    first, second = np.triu_indices(x.shape[2], 1)
    return np.einsum("nli,nlj->nij", x, x)[:, first, second]


def _summary(values: Values) -> Float[np.ndarray, "n d"]:
    x = filled(values)
    return np.concatenate([x.mean(1), x.std(1), _coupling(x)], 1)


def recognised(samples: Values, train: Values, labels: Int[np.ndarray, " m"]) -> Int[np.ndarray, " n"]:
    """The class whose mean is nearest, in the metric of the covariance within classes (Fisher's discriminant)."""
    x, labels = _summary(train[labels >= 0]), labels[labels >= 0]
    classes = np.unique(labels)
    means = np.stack([x[labels == k].mean(0) for k in classes])
    within = np.cov((x - means[np.searchsorted(classes, labels)]).T) + 1e-6 * np.eye(x.shape[1])
    to = _summary(samples)[:, None] - means
    return classes[np.einsum("nki,ij,nkj->nk", to, np.linalg.inv(within), to).argmin(1)]
