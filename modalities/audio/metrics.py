"""How good generated clips are, each number with its interval and with that of real clips beside it.

    frechet, kid, precision, recall, density, coverage, class_accuracy    of log-mel pictures, see framework.metrics
    confidence[/HEAD]            how sure the classifier is of its answers, right or wrong
    diversity                    mean distance of the features of two clips of one kind
    nearest_training_clip/...    mean and smallest distance in dB to the closest training clip: copies are closer
                                 than real clips that were held out
    checks/silent, clipped, offset;  loudness/mean, spread
    ceiling/NAME                 NAME for held-out real clips in place of the samples
    resynthesis/NAME             NAME for the same real clips after the model's codec: no model does better with it
    reference/matched            share of the samples whose label combination real clips were found for

A Frechet distance of few clips answers to the mix of labels more than to anything one hears, so real clips are chosen
such that each combination of labels occurs among them as often as among the samples (`matching_rows`).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from framework.errors import DataError
from framework.metrics.feature_net import FeatureNet, extract
from framework.metrics.intervals import assign_blocks, jackknife_interval, mean_interval, wilson
from framework.metrics.measurement import Measurement
from framework.metrics.pictures import BLOCKS, LEAST_IMAGES, UNKNOWN, Pictures, evaluate_images, feature_metrics
from modalities.audio.checks import clipped, loudness, offset, silent
from modalities.audio.embeddings import Embedding
from modalities.audio.spectrogram_picture import RANGE_DB, spectrogram_pixels
from modalities.audio.waveforms import Waveforms

Picture = Callable[[Waveforms], UInt8[Tensor, "n 1 bands frames"]]


@dataclass(frozen=True, eq=False)
class Clips:
    """Clips and the labels asked for (samples) or true (real clips): int64 (N, heads), -1: none; None: no labels."""

    waveforms: Waveforms
    labels: Int64[Tensor, "n heads"] | None = None

    def rows(self, rows: np.ndarray) -> Clips:
        index = torch.from_numpy(rows)
        return Clips(self.waveforms[index], None if self.labels is None else self.labels[index])


def evaluate_audio(
    samples: Clips,
    reference: Clips,
    classifier: FeatureNet,
    *,
    seed: int,
    heads: Sequence[str] = (),
    held_out: Clips | None = None,
    training: Waveforms | None = None,
    codec: Callable[[Waveforms], Waveforms] | None = None,
    embeddings: Mapping[str, Embedding] | None = None,
    picture: Picture = spectrogram_pixels,
) -> dict[str, Measurement]:
    """Measure samples against real clips.

    Arguments:
        samples: generated clips with what was asked for.
        reference: real clips; where both have labels, those are compared with that have the samples' labels.
        classifier: of such pictures; distances are taken in its features.
        seed: of the samples; also of the choice of reference, the blocks and the bootstraps.
        heads: names of the classifier's heads; with one head they may be left out.
        held_out: real clips that are not in the reference: they give the ceilings.
        training: the clips that the model learned from, or some of them.
        codec: clips to states and back, as the model does it; it is applied to the held-out clips.
        embeddings: further features by name: `NAME/frechet` and so on are measured in each.
        picture: what the classifier was trained on.

    Raises:
        DataError: no real clip has any of the labels that were asked for.
    """
    result = {}
    if samples.labels is not None and reference.labels is not None:
        reference, matched = _matched(samples, reference, "reference", seed)
        result["reference/matched"] = _share(matched, seed)
        if held_out is not None and held_out.labels is not None:
            held_out, _ = _matched(samples, held_out, "held-out", seed)
    if held_out is not None:
        held_out = held_out.rows(np.arange(min(len(samples.waveforms), len(held_out.waveforms))))
    shown, real = _pictures(samples, picture), _pictures(reference, picture)
    kept = None if held_out is None else _pictures(held_out, picture)
    result |= evaluate_images(
        shown, real.images, classifier, seed=seed, classifier=classifier, heads=heads, held_out=kept
    )
    sets = {"": (samples, shown)}
    if held_out is not None and kept is not None:
        sets["ceiling/"] = (held_out, kept)
    seen = None if training is None else picture(training)
    for prefix, (clips, pictures) in sets.items():
        images = torch.as_tensor(pictures.images)
        own = confidence(images, classifier, heads, seed=seed)
        own["diversity"] = diversity(extract(classifier, images), clips.labels, seed=seed)
        if seen is not None:
            own |= nearest(images, seen, seed=seed)
        own |= check_metrics(clips.waveforms, seed=seed)
        result |= {prefix + name: measurement for name, measurement in own.items()}
    if codec is not None and held_out is not None:
        passed = _pictures(Clips(codec(held_out.waveforms), held_out.labels), picture)
        again = evaluate_images(passed, real.images, classifier, seed=seed, classifier=classifier, heads=heads)
        result |= {f"resynthesis/{name}": measurement for name, measurement in again.items()}
    for name, embedding in (embeddings or {}).items():
        compared = embedding.features(reference.waveforms)
        for prefix, (clips, _) in sets.items():
            measured = feature_metrics(embedding.features(clips.waveforms), compared, seed=seed)
            result |= {f"{prefix}{name}/{key}": measurement for key, measurement in measured.items()}
    return result


def matching_rows(
    asked: Int64[np.ndarray, "n heads"], available: Int64[np.ndarray, "m heads"], seed: int
) -> tuple[Int64[np.ndarray, " k"], dict[tuple[int, ...], int]]:
    """Rows of `available` in which each combination of labels occurs as often as in `asked`, times a whole number.

    The number is as large as the rows go; a label of -1 that is asked for is met by any.

    Arguments:
        asked: labels of the samples.
        available: labels to choose from; a row is chosen once at most.
        seed: of the choice.

    Returns:
        the rows, each n of them the samples' own mix; and for each combination that there are too few rows of for
        even one such mix, how many are missing.
    """
    combinations, counts = np.unique(asked, axis=0, return_counts=True)
    # Those that say most choose first: what says less is met by what they leave.
    order = np.argsort((combinations < 0).sum(1), kind="stable")
    shuffled = np.random.default_rng(seed).permutation(len(available))
    free = np.ones(len(available), dtype=bool)
    rounds: list[np.ndarray] = []
    while True:
        left, chosen, missing = free.copy(), [], {}
        for combination, count in zip(combinations[order], counts[order], strict=True):
            fits = ((available[shuffled] == combination) | (combination < 0)).all(1) & left[shuffled]
            rows = shuffled[fits][:count]
            left[rows] = False
            chosen.append(rows)
            if len(rows) < count:
                missing[tuple(combination.tolist())] = int(count) - len(rows)
        if missing and rounds:
            return np.concatenate(rounds), {}
        rounds.append(np.concatenate(chosen) if chosen else np.zeros(0, dtype=np.int64))
        free = left
        if missing or not len(rounds[-1]):
            return np.concatenate(rounds), missing


def confidence(
    images: UInt8[Tensor, "n 1 h w"], classifier: FeatureNet, heads: Sequence[str] = (), *, seed: int
) -> dict[str, Measurement]:
    """Mean probability of the classifier's own answer: over all heads, and with several also of each."""
    with torch.inference_mode():
        parts = [classifier.eval()(part.float() / 127.5 - 1) for part in images.split(256)]
    sure = np.stack(
        [torch.cat(logits).softmax(1).amax(1).double().numpy() for logits in zip(*parts, strict=True)], axis=1
    )
    result = {"confidence": _mean(sure.mean(1), seed)}
    if len(heads) > 1:
        result |= {f"confidence/{name}": _mean(sure[:, i], seed) for i, name in enumerate(heads)}
    return result


def diversity(features: Float[np.ndarray, "n d"], labels: Int64[Tensor, "n heads"] | None, *, seed: int) -> Measurement:
    """Mean distance of two clips with the same labels (of any two without labels); NaN if no two share theirs.

    The interval is the delete-block jackknife's: sums over pairs of blocks give all the left-out means at once.
    """
    rows = np.asarray(features, dtype=np.float64)
    n = len(rows)
    kinds = np.zeros(n, dtype=int) if labels is None else np.unique(labels.numpy(), axis=0, return_inverse=True)[1]
    blocks = min(BLOCKS, n // 2)
    if n < LEAST_IMAGES:
        return Measurement(*UNKNOWN, n=n, seed=seed)
    members = np.eye(blocks)[assign_blocks(n, blocks, seed)]
    sums, pairs = np.zeros((2, blocks, blocks))
    for kind in range(int(kinds.max()) + 1):
        own = np.flatnonzero(kinds.reshape(-1) == kind)
        distances = torch.cdist(torch.from_numpy(rows[own]), torch.from_numpy(rows[own])).numpy()
        sums += members[own].T @ distances @ members[own]
        # A row's distance to itself is no pair.
        pairs += members[own].T @ (1 - np.eye(len(own))) @ members[own]
    if pairs.sum() == 0:
        return Measurement(*UNKNOWN, n=n, seed=seed)
    left_sums, left_pairs = (m.sum() - m.sum(0) - m.sum(1) + m.diagonal() for m in (sums, pairs))
    value = float(sums.sum() / pairs.sum())
    if (left_pairs == 0).any():
        return Measurement(value, math.nan, math.nan, n=n, seed=seed)
    # The jackknife's centre is the mean over all pairs, left out or not.
    interval = jackknife_interval(value, left_sums / left_pairs, support=(0, math.inf))
    return Measurement(*interval, n=n, seed=seed)


def nearest(
    images: UInt8[Tensor, "n 1 h w"], training: UInt8[Tensor, "m 1 h w"], *, seed: int
) -> dict[str, Measurement]:
    """Mean and smallest distance to the nearest training picture: root mean square over the picture, in dB.

    A copy has 0, whatever its level; one that is shifted in time does not.
    """
    distances = nearest_distances(images, training)
    smallest = Measurement(float(distances.min()), math.nan, math.nan, len(distances), seed)
    return {"nearest_training_clip/mean": _mean(distances, seed), "nearest_training_clip/smallest": smallest}


def nearest_distances(images: UInt8[Tensor, "n 1 h w"], training: UInt8[Tensor, "m 1 h w"]) -> Float[np.ndarray, " n"]:
    """Each picture's distance to the nearest training picture, in dB."""
    seen = training.flatten(1).float()
    best = torch.zeros(len(images))
    for start in range(0, len(images), 256):
        part = images[start : start + 256].flatten(1).float()
        closest = seen[torch.cdist(part, seen, compute_mode="use_mm_for_euclid_dist").argmin(1)]
        # The matrix product finds the nearest, but its rounding would hide how near a copy is.
        best[start : start + 256] = (part - closest).square().mean(1).sqrt()
    return best.double().numpy() * RANGE_DB / 255


def check_metrics(waveforms: Waveforms, *, seed: int) -> dict[str, Measurement]:
    """Shares of faulty clips, and the mean and spread (standard deviation) of loudness in dB over those with sound."""
    faults = {"silent": silent(waveforms), "clipped": clipped(waveforms), "offset": offset(waveforms)}
    result = {f"checks/{name}": _share(values, seed) for name, values in faults.items()}
    levels = loudness(waveforms)[faults["silent"] == 0]
    result["loudness/mean"] = _mean(levels, seed)
    spread = levels.std(ddof=1) if len(levels) > 1 else math.nan
    result["loudness/spread"] = Measurement(float(spread), math.nan, math.nan, len(levels), seed)
    return result


def _matched(samples: Clips, real: Clips, name: str, seed: int) -> tuple[Clips, np.ndarray]:
    """Real clips with the samples' mix of labels, and 0/1 for each sample: whether one was found for it."""
    assert samples.labels is not None and real.labels is not None
    rows, missing = matching_rows(samples.labels.numpy(), real.labels.numpy(), seed)
    short = sum(missing.values())
    n = len(samples.waveforms)
    if short == n:
        raise DataError(f"none of the {len(real.waveforms)} {name} clips has the labels of any of the {n} samples")
    if missing:
        example, count = next(iter(missing.items()))
        warnings.warn(
            f"for {short} of {n} samples there is no {name} clip with their labels (labels {example}: {count} too "
            "few): distances compare different mixes; ask for fewer samples of them, or give more real clips",
            stacklevel=3,
        )
    return real.rows(rows), np.arange(n) >= short


def _pictures(clips: Clips, picture: Picture) -> Pictures:
    return Pictures(picture(clips.waveforms), clips.labels)


def _mean(values: np.ndarray, seed: int) -> Measurement:
    interval = mean_interval(values, seed=seed) if len(values) else UNKNOWN
    return Measurement(*interval, n=len(values), seed=seed)


def _share(values: np.ndarray, seed: int) -> Measurement:
    interval = wilson(int(values.sum()), len(values)) if len(values) else UNKNOWN
    return Measurement(*interval, n=len(values), seed=seed)
