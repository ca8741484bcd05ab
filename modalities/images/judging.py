"""How images are judged: classes by a classifier of the data's labels, captions by exact rules, sets by distances."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from tensordict import TensorDict
from torch import Tensor

from framework.conditions import ClassCondition, ConditionKind, Unconditional
from framework.errors import UserError
from framework.metrics.feature_net import FeatureExtractor, FeatureNet, extract, load_or_train
from framework.metrics.measurement import Measurement
from framework.metrics.pictures import Pictures, evaluate_images, feature_metrics, verdict_metrics
from framework.metrics.reconstruction import measured, psnr, ssim
from framework.metrics.score import Score, verdicts
from framework.modality import Modality
from modalities.images.data import ImageData, gather
from modalities.images.inception import InceptionFeatures

FEATURE_ITEMS = 8_000  # images that the feature network is trained on


class JudgedImages(Modality):
    """The judging of images, uint8 (N, C, H, W).

    Attributes:
        conditions: how captions or classes become tensors.
        size: the canvas in pixels.
    """

    conditions: ConditionKind
    size: int

    def __init__(self) -> None:
        self._judge: tuple[ImageData, FeatureNet | None] | None = None

    def evaluation_prompts(self, data: ImageData, n: int, seed: int) -> Sequence[Any]:  # type: ignore[override]
        """The prompts, and behind captions a quarter as many that lie outside of the data (`probes`), if it has any."""
        prompts = list(self.prompts(data, n, seed))
        return [*prompts, *data.probes(max(n // 4, 1), seed)] if isinstance(prompts[0], str) else prompts

    def evaluate(  # type: ignore[override]
        self, samples: Tensor, prompts: Sequence[Any], data: ImageData, seed: int, options: Mapping[str, Any]
    ) -> dict[str, Measurement]:
        """The metrics of `metrics`, as far as the data goes: classes for features, exact rules for captions.

        Probes are judged by their captions alone: they are no part of the distribution that is compared. The option
        `inception_weights` names the file with the FID Inception network, to take distances in its features.
        """
        if unknown := set(options) - {"inception_weights"}:
            raise UserError(f"images know no option {', '.join(sorted(unknown))}; they know inception_weights")
        probes = set(data.probes(len(prompts), seed))
        own = torch.tensor([prompt not in probes for prompt in prompts])
        asked = [prompt for prompt in prompts if prompt not in probes]
        labels = np.asarray(asked) if isinstance(self.conditions, ClassCondition) else None
        judged = data.judge(samples, prompts) if isinstance(prompts[0], str) else {}
        classifier = self._classifier(data)
        features: FeatureExtractor | None = classifier
        if options.get("inception_weights") is not None:
            features = InceptionFeatures(options["inception_weights"], "cuda" if torch.cuda.is_available() else "cpu")
        if features is None:
            warnings.warn(
                "these data have no labels to train a feature network on, so distances are not measured; give "
                "+options.inception_weights=FILE to measure them in Inception's features",
                stacklevel=2,
            )
            return verdict_metrics(judged, seed=seed)
        real = data.reference(2 * len(asked), seed)
        half = len(real.images) // 2
        held_out = Pictures(
            real.images[half:],
            None if labels is None else real.labels[half:],
            data.judge(real.images[half:], real.captions[half:]) if judged else {},
        )
        shown = Pictures(samples[own], labels, judged)
        return evaluate_images(shown, real.images[:half], features, seed=seed, classifier=classifier, held_out=held_out)

    def reconstruction(  # type: ignore[override]
        self, original: Tensor, reconstructed: Tensor, condition: TensorDict, data: ImageData, seed: int
    ) -> dict[str, Measurement]:
        """PSNR and SSIM of the images, and the Frechet distance of the two sets where there is a classifier."""
        x, y = self.decode(original, condition), self.decode(reconstructed, condition)
        result = {"psnr": measured(psnr(x, y, 255.0), seed), "ssim": measured(ssim(x, y, 255.0), seed)}
        if (classifier := self._classifier(data)) is not None:
            features = [extract(classifier, images).astype(np.float64) for images in (y, x)]
            result["frechet"] = feature_metrics(features[0], features[1], seed=seed)["frechet"]
        return result

    def scores(  # type: ignore[override]
        self, samples: Tensor, prompts: Sequence[Any], data: ImageData, seed: int
    ) -> dict[str, Score]:
        """Whether the exact rules see what the caption says, or the classifier the class."""
        if isinstance(self.conditions, ClassCondition):
            classifier = self._classifier(data)
            if classifier is None:
                return {}
            seen = classifier.predict(samples)[:, 0] == np.asarray(prompts)
            return {"class": verdicts(seen, "class is right")}
        if not isinstance(prompts[0], str):
            return {}
        held = [_whole(data.judge(samples[i : i + 1], [prompt])) for i, prompt in enumerate(prompts)]
        return {"caption": verdicts(held, "caption is obeyed")} if np.isfinite(held).any() else {}

    def features(self, samples: Tensor, data: ImageData) -> np.ndarray | None:  # type: ignore[override]
        """The classifier's."""
        classifier = self._classifier(data)
        return None if classifier is None else extract(classifier, samples)

    def real(self, data: ImageData, n: int, seed: int) -> tuple[Tensor, Sequence[Any]]:  # type: ignore[override]
        """Held-out images with their captions or classes."""
        found = data.reference(n, seed)
        if isinstance(self.conditions, ClassCondition):
            return found.images, found.labels.tolist()
        return found.images, [None] * len(found.images) if isinstance(
            self.conditions, Unconditional
        ) else found.captions

    def perceptual(self, data: ImageData) -> FeatureNet | None:
        return self._classifier(data)

    def _classifier(self, data: ImageData) -> FeatureNet | None:
        """A classifier of the data's own labels, trained once and cached; None where there are no labels."""
        if self._judge is None or self._judge[0] is not data:
            self._judge = data, self._learnt(data)
        return self._judge[1]

    def _learnt(self, data: ImageData) -> FeatureNet | None:
        items = data.train_set
        count = min(len(items), FEATURE_ITEMS)  # type: ignore[arg-type]
        chosen = gather(items, np.linspace(0, len(items) - 1, count).astype(int))  # type: ignore[arg-type]
        if bool((chosen.labels < 0).any()):
            return None
        identity = {"data": type(data).__name__, "size": self.size, "classes": list(data.class_names)}
        return load_or_train(identity, chosen.images, chosen.labels)


def _whole(groups: Mapping[str, Mapping[str, np.ndarray]]) -> float:
    """The verdict on one image's whole caption, in whichever group it is; NaN of none."""
    return next((float(group["all"][0]) for group in groups.values() if "all" in group), float("nan"))
