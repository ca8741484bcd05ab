"""How a model's clips are judged: by a classifier of the data's own labels, by exact rules, beside what is possible."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from framework.conditions import Fields
from framework.errors import UserError
from framework.metrics.feature_net import FeatureNet, load_or_train
from framework.metrics.measurement import Measurement
from framework.metrics.pictures import verdict_metrics
from modalities.audio.data import AudioData
from modalities.audio.embeddings import ClapEmbedding, Embedding, TorchScriptEmbedding
from modalities.audio.metrics import Clips, Picture, check_metrics, evaluate_audio
from modalities.audio.spectrogram_picture import HOP_SECONDS, spectrogram_pixels
from modalities.audio.waveforms import Waveforms

if TYPE_CHECKING:
    from modalities.audio.modality import Audio

CLASSIFIER_CLIPS, CLASSIFIER_STEPS = 4000, 500
BANDS, LONGEST = 64, 128  # of the classifier's pictures: bands, and frames of 32 ms at the most
EMBEDDINGS: dict[str, Callable[[str], Embedding]] = {
    "clap": ClapEmbedding,
    "panns": partial(TorchScriptEmbedding, rate=32_000),
    "vggish": partial(TorchScriptEmbedding, rate=16_000),
}
"""What else distances are taken in, by the option that holds the path of a folder (clap) or a TorchScript file."""


def judge(
    modality: Audio,
    samples: Waveforms,
    prompts: Sequence[Any],
    data: AudioData,
    seed: int,
    options: Mapping[str, Any],
) -> dict[str, Measurement]:
    """All metrics of `metrics.evaluate_audio`, and the verdicts of the data's exact rules on samples and real clips.

    Distances are to the training clips, of which there are enough to choose the samples' own mix of labels from; the
    ceiling is the same for real clips that were held out. Probes are judged by the rules alone: they are no part of the
    distribution that is compared.

    Raises:
        UserError: an option that is no name of EMBEDDINGS, or a file that is none.
    """
    if unknown := set(options) - set(EMBEDDINGS):
        raise UserError(f"audio knows no option {', '.join(sorted(unknown))}; it knows {', '.join(EMBEDDINGS)}")
    embeddings = {name: EMBEDDINGS[name](path) for name, path in options.items() if path is not None}
    probes = set(data.probes(len(prompts), seed)) if isinstance(prompts[0], str) else set()
    own = [i for i, prompt in enumerate(prompts) if not (isinstance(prompt, str) and prompt in probes)]
    classifier = modality.classifier(data)
    result: dict[str, Measurement] = {}
    kept = data.reference(len(own), seed)
    if classifier is None:
        warnings.warn(
            "these data have no labels to train a feature network on: distances are not measured", stacklevel=2
        )
        result |= check_metrics(samples, seed=seed)
    else:
        trained, columns = data.training_reference(CLASSIFIER_CLIPS, seed), judged_columns(data)
        result |= evaluate_audio(
            Clips(samples[torch.tensor(own)], asked_labels(modality, [prompts[i] for i in own])),
            Clips(trained.waveforms, trained.labels[:, columns]),
            classifier,
            seed=seed,
            heads=list(data.judged),
            held_out=Clips(kept.waveforms, kept.labels[:, columns]),
            training=trained.waveforms,
            codec=modality.through_codec,
            embeddings=embeddings,
            picture=picture_of(data),
        )
    verdicts = data.judge(samples, prompts) if isinstance(prompts[0], str) else {}
    if verdicts:
        result |= verdict_metrics(verdicts, seed=seed)
        for name, clips in {"ceiling": kept.waveforms, "resynthesis": modality.through_codec(kept.waveforms)}.items():
            possible = verdict_metrics(data.judge(clips, kept.captions), seed=seed)
            result |= {f"{name}/{key}": value for key, value in possible.items()}
    return result


def asked_labels(modality: Audio, prompts: Sequence[Any]) -> torch.Tensor | None:
    """The labels (n, heads) that prompts ask for, -1: none; None where prompts are no labels."""
    if not isinstance(modality.conditions, Fields):
        return None
    parsed = modality.parse(prompts)
    columns = [torch.where(parsed[name] == size, -1, parsed[name]) for name, size in modality.conditions.sizes.items()]
    return torch.stack(columns, dim=1)


def picture_of(data: AudioData) -> Picture:
    """What the classifier sees of a clip: all of it, unless it is very long."""
    frames = min(LONGEST, math.ceil(data.seconds / HOP_SECONDS))
    return partial(spectrogram_pixels, bands=BANDS, frames=frames)


def judged_columns(data: AudioData) -> list[int]:
    """The columns of the labels that are judged."""
    return [list(data.heads).index(name) for name in data.judged]


def label_classifier(data: AudioData) -> FeatureNet | None:
    """A classifier of the data's own labels, trained once and cached; None where there are no labels."""
    if not data.judged:
        return None
    real = data.training_reference(CLASSIFIER_CLIPS, 0)
    labels = real.labels[:, judged_columns(data)]
    if bool((labels < 0).all(0).any()):
        return None
    identity = {
        "data": type(data).__name__,
        "rate": data.rate,
        "seconds": data.seconds,
        "heads": {name: list(data.heads[name]) for name in data.judged},
    }
    pixels = picture_of(data)(real.waveforms)
    return load_or_train(identity, pixels, np.asarray(labels), steps=CLASSIFIER_STEPS)
