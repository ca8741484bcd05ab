"""How good generated images are, each number with its interval and with that of real images beside it.

    frechet, kid                          distance of the distributions of features     (lower is better)
    precision, recall, density, coverage  overlap of their supports                     (higher is better)
    class_accuracy                        a classifier sees the class that was asked for
    caption_accuracy/GROUP[/ATTRIBUTE]    exact rules see what the caption says
    ceiling/NAME                          NAME for held-out real images in place of the samples

The ceiling is as good as it gets. It is taken at the same number of images (or all held-out ones, if fewer),
since several of the metrics depend on it: compare `n`. Nothing here samples or trains: features, classifier
and verdicts are arguments.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import UInt8
from torch import Tensor

from framework.metrics.feature_net import FeatureExtractor, FeatureNet, extract
from framework.metrics.frechet import Moments, frechet_distance
from framework.metrics.intervals import Interval, block_interval, wilson
from framework.metrics.kernel import kernel_distance
from framework.metrics.measurement import Measurement
from framework.metrics.precision_recall import DENSITY_NEIGHBOURS, overlap_intervals
from framework.metrics.rows import Rows

BLOCKS = 20
# With fewer images the set metrics are NaN: what the jackknife leaves must hold the neighbours, and spread.
LEAST_IMAGES = 2 * (DENSITY_NEIGHBOURS + 1)
UNKNOWN = Interval(math.nan, math.nan, math.nan)


@dataclass(frozen=True, eq=False)
class Pictures:
    """Images with what they are meant to show.

    Attributes:
        images: uint8 (N, C, H, W).
        labels: class asked for (samples) or true (real images), int (N,) or (N, heads), -1: none; None: no
            labels.
        verdicts: for each group of captions (`single`, `double`) and each attribute, 0/1 verdicts on the
            images to which it applies; `all` is the whole caption. A group without images has an empty
            mapping.
    """

    images: UInt8[Tensor, "n c h w"] | np.ndarray
    labels: Tensor | np.ndarray | None = None
    verdicts: Mapping[str, Mapping[str, np.ndarray]] = field(default_factory=dict)


def evaluate_images(
    samples: Pictures,
    reference: UInt8[Tensor, "m c h w"] | np.ndarray,
    features: FeatureExtractor,
    *,
    seed: int,
    classifier: FeatureNet | None = None,
    heads: Sequence[str] = (),
    held_out: Pictures | None = None,
    blocks: int = BLOCKS,
) -> dict[str, Measurement]:
    """Measure samples against real images.

    Arguments:
        samples: generated images with what was asked for.
        reference: real images, uint8 (M, C, H, W); at least 12, else the set metrics are NaN.
        features: the network in whose features distances are taken.
        seed: of the samples; also of the blocks and the bootstrap.
        classifier: judges the labels, where there are any; often the same network as `features`.
        heads: names of the classifier's heads, for `class_accuracy/HEAD`; with one head they may be left out.
        held_out: real images, none of them in the reference: they give the `ceiling/` metrics.
        blocks: of the jackknife; reduced where there are fewer than two images for each.

    Returns:
        measurements by name; the set metrics first, then what was asked for, then the ceilings.
    """
    real = extract(features, reference).astype(np.float64)
    result = _measure(samples, real, features, classifier, heads, seed, blocks)
    if held_out is not None:
        n = len(samples.images)
        same_number = replace(
            held_out,
            images=held_out.images[:n],
            labels=None if held_out.labels is None else held_out.labels[:n],
        )
        ceiling = _measure(same_number, real, features, classifier, heads, seed, blocks)
        result |= {f"ceiling/{name}": measurement for name, measurement in ceiling.items()}
    return result


def feature_metrics(samples: Rows, reference: Rows, *, seed: int, blocks: int = BLOCKS) -> dict[str, Measurement]:
    """Return the six set metrics of features (N, D) and (M, D); NaN for fewer than 12 rows of either."""
    n = len(samples)
    intervals = dict.fromkeys(("frechet", "kid", "precision", "recall", "density", "coverage"), UNKNOWN)
    fewest = min(n, len(reference))
    if fewest >= LEAST_IMAGES:
        blocks = min(blocks, fewest // 2)
        intervals["frechet"] = block_interval(
            lambda rows, moments: frechet_distance(Moments.of(rows), moments),
            samples,
            Moments.of(reference),
            blocks=blocks,
            seed=seed,
            support=(0, math.inf),
        )
        intervals["kid"] = kernel_distance(samples, reference, blocks=blocks, seed=seed)
        intervals |= overlap_intervals(samples, reference, blocks=blocks, seed=seed)
    return {name: Measurement(*interval, n=n, seed=seed) for name, interval in intervals.items()}


def label_metrics(
    pictures: Pictures, classifier: FeatureNet, *, seed: int, heads: Sequence[str] = ()
) -> dict[str, Measurement]:
    """Return `class_accuracy`: the share of images whose label the classifier sees, over all heads and for
    each.

    With several heads an image counts as right if all of its labels are; {} if there are no labels.
    """
    if pictures.labels is None:
        return {}
    if heads and len(heads) != len(classifier.classes):
        raise ValueError(
            f"{len(heads)} names ({', '.join(heads)}) for {len(classifier.classes)} heads of the classifier"
        )
    asked = np.asarray(pictures.labels).reshape(len(pictures.images), -1)
    labelled = asked >= 0
    wrong = (classifier.predict(pictures.images) != asked) & labelled
    result = {"class_accuracy": _proportion(~wrong.any(axis=1)[labelled.any(axis=1)], seed)}
    if len(heads) > 1:
        for head, name in enumerate(heads):
            result[f"class_accuracy/{name}"] = _proportion(~wrong[labelled[:, head], head], seed)
    return result


def verdict_metrics(verdicts: Mapping[str, Mapping[str, np.ndarray]], *, seed: int) -> dict[str, Measurement]:
    """Return `caption_accuracy/GROUP[/ATTRIBUTE]` from 0/1 verdicts (see `Pictures`)."""
    result = {}
    for group, attributes in verdicts.items():
        result[f"caption_accuracy/{group}"] = _proportion(attributes.get("all", np.zeros(0)), seed)
        for attribute, values in attributes.items():
            if attribute != "all":
                result[f"caption_accuracy/{group}/{attribute}"] = _proportion(values, seed)
    return result


def _measure(
    pictures: Pictures,
    real: Rows,
    features: FeatureExtractor,
    classifier: FeatureNet | None,
    heads: Sequence[str],
    seed: int,
    blocks: int,
) -> dict[str, Measurement]:
    rows = extract(features, pictures.images).astype(np.float64)
    result = feature_metrics(rows, real, seed=seed, blocks=blocks)
    if classifier is not None:
        result |= label_metrics(pictures, classifier, seed=seed, heads=heads)
    return result | verdict_metrics(pictures.verdicts, seed=seed)


def _proportion(values: np.ndarray, seed: int) -> Measurement:
    """Share of ones with Wilson's interval; NaN of none."""
    values = np.asarray(values)
    if not np.isin(values, (0, 1)).all():
        raise ValueError(f"verdicts must be 0 or 1, got {np.setdiff1d(values, (0, 1))[:3].tolist()}")
    interval = wilson(int(values.sum()), len(values)) if len(values) else UNKNOWN
    return Measurement(*interval, n=len(values), seed=seed)
