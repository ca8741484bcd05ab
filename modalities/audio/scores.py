"""What studies compare clips by, sample by sample: exact rules on captions, or a classifier on labels; and features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from framework.conditions import Fields, Unconditional
from framework.metrics.feature_net import extract
from framework.metrics.score import Score, verdicts
from modalities.audio.data import AudioData
from modalities.audio.judge import asked_labels, judged_columns, picture_of
from modalities.audio.waveforms import Waveforms

if TYPE_CHECKING:
    from modalities.audio.modality import Audio


def scores(modality: Audio, samples: Waveforms, prompts: Sequence[Any], data: AudioData) -> dict[str, Score]:
    """Of captions what the data's own rules hear of each clip; of labels whether the classifier hears each of them."""
    if isinstance(modality.conditions, Fields):
        return _of_labels(modality, samples, prompts, data)
    return {} if prompts[0] is None else data.scores(samples, [str(prompt) for prompt in prompts])


def features(modality: Audio, samples: Waveforms, data: AudioData) -> np.ndarray | None:
    """The classifier's features of the clips' pictures (n, D)."""
    classifier = modality.classifier(data)
    return None if classifier is None else extract(classifier, picture_of(data)(samples))


def real(modality: Audio, data: AudioData, n: int, seed: int) -> tuple[Waveforms, Sequence[Any]]:
    """Held-out clips with their captions or labels."""
    found = data.reference(n, seed)
    if isinstance(modality.conditions, Unconditional):
        return found.waveforms, [None] * len(found.waveforms)
    if isinstance(modality.conditions, Fields):
        return found.waveforms, [data.named(row) for row in found.labels.tolist()]
    return found.waveforms, found.captions


def _of_labels(modality: Audio, samples: Waveforms, prompts: Sequence[Any], data: AudioData) -> dict[str, Score]:
    classifier, asked = modality.classifier(data), asked_labels(modality, prompts)
    if classifier is None or asked is None:
        return {}
    heard = classifier.predict(picture_of(data)(samples))
    wanted = np.asarray(asked)[:, judged_columns(data)]
    right = np.where(wanted >= 0, (heard == wanted).astype(float), np.nan)
    whole = np.where(np.isnan(right).all(1), np.nan, (np.nan_to_num(right, nan=1.0) == 1).all(1).astype(float))
    found = {"labels": verdicts(whole, "all labels are right")} if len(data.judged) > 1 else {}
    return found | {name: verdicts(right[:, i], f"{name} is right") for i, name in enumerate(data.judged)}
