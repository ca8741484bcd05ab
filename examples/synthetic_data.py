"""Does synthetic data help? A classifier trained on real images, on synthetic ones, and on both.

    diffract train experiment=images/digits run=outputs/digits
    diffract sample run=outputs/digits dataset=true n=2000 out=outputs/digits_synthetic
    python examples/synthetic_data.py --run outputs/digits --synthetic outputs/digits_synthetic/dataset

The second line writes a labelled data set, a folder a class; it is read back here as any other folder of images. All
classifiers are the same small residual network with the same number of steps, judged on real images that neither they
nor the model that drew the synthetic ones have seen; intervals are over seeds of the classifier (Student's t).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from scipy import stats
from torch import Tensor

from experiments.configuration import compose, plain
from experiments.evaluate import data_config
from framework.build import USER_CONFIG, build
from framework.data.parts import turns
from framework.metrics.feature_net import train_features
from modalities.images.data import ImageData, gather
from modalities.images.image_set import ImageSet
from modalities.images.sources import list_folder

Labelled = tuple[Tensor, Tensor]  # uint8 (N, 3, H, W) and int64 (N,)


def real_images(run: Path) -> tuple[Labelled, Labelled, list[str]]:
    """The images that a run was trained on, those that it was not, and the names of their classes."""
    data: ImageData = build(data_config(plain(compose("evaluate", [f"run={run}"]))), USER_CONFIG)
    data.setup("fit")
    train, held_out = (
        gather(part, range(len(part)))  # type: ignore[arg-type]
        for part in (data.train_set, data.reference_set())
    )
    return (_rgb(train.images), train.labels), (_rgb(held_out.images), held_out.labels), list(data.class_names)


def synthetic_images(folder: Path, size: int, classes: Sequence[str]) -> Labelled:
    """The images of a folder whose subfolders are classes, numbered as in `classes`."""
    images = ImageSet(list_folder(folder), size)
    found = gather(images, range(len(images)))
    if strange := set(images.class_names) - set(classes):
        raise SystemExit(f"{folder} has classes that the run does not know: {', '.join(sorted(strange))}")
    numbers = torch.tensor([list(classes).index(name) for name in images.class_names])
    return found.images, numbers[found.labels]


def some(images: Labelled, n: int, seed: int) -> Labelled:
    """`n` of the images, chosen by the seed."""
    chosen = torch.as_tensor(turns(len(images[0]), n, seed, "augmentation"))
    return images[0][chosen], images[1][chosen]


def mixtures(real: Labelled, synthetic: Labelled, seed: int, counts: Sequence[int]) -> Iterator[tuple[str, Labelled]]:
    """What is trained on, by name: the first `counts` real images of the seed's, all synthetic ones, and both."""
    yield f"{len(synthetic[0])} synthetic", synthetic
    for n in counts:
        part = some(real, n, seed)
        yield f"{n} real", part
        both = torch.cat([part[0], synthetic[0]]), torch.cat([part[1], synthetic[1]])
        yield f"{n} real and {len(synthetic[0])} synthetic", both


def _rgb(images: Tensor) -> Tensor:
    """Grey images with three channels, as a folder of images has them."""
    return images.expand(-1, 3, -1, -1).contiguous()


def main(arguments: Sequence[str] | None = None) -> dict[str, list[float]]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="a run of images with classes")
    parser.add_argument("--synthetic", type=Path, required=True, help="a folder of images, a subfolder a class")
    parser.add_argument("--real", type=int, nargs="*", help="numbers of real images; default: 100 and all")
    parser.add_argument("--seeds", type=int, default=5, help="classifiers of each kind")
    parser.add_argument("--steps", type=int, default=300, help="of each classifier's training")
    parser.add_argument("--out", type=Path, help="where the accuracies are written as JSON")
    asked = parser.parse_args(arguments)

    real, held_out, classes = real_images(asked.run)
    synthetic = synthetic_images(asked.synthetic, real[0].shape[-1], classes)
    counts = [min(n, len(real[0])) for n in (asked.real or [100, len(real[0])])]
    plan = [(seed, *mix) for seed in range(asked.seeds) for mix in mixtures(real, synthetic, seed, counts)]
    accuracies: dict[str, list[float]] = {}
    for seed, name, (images, labels) in track(plan, description="training classifiers", transient=True):
        classifier = train_features(images, labels, seed=seed, steps=asked.steps)
        accuracies.setdefault(name, []).append(classifier.accuracy(*held_out)[0])

    shown = Table("trained on", "accuracy on real, held out", "95 % interval")
    for name, values in accuracies.items():
        mean, half = float(np.mean(values)), float("nan")
        if len(values) > 1:
            half = float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values))
        shown.add_row(name, f"{mean:.1%}", f"{max(mean - half, 0):.1%} to {min(mean + half, 1):.1%}")
    Console().print(f"{len(held_out[0])} held-out images, {asked.seeds} classifiers of each kind", shown)
    if asked.out is not None:
        asked.out.parent.mkdir(parents=True, exist_ok=True)
        asked.out.write_text(json.dumps(accuracies, indent=1) + "\n")
    return accuracies


if __name__ == "__main__":
    main()
