"""Images as a plugin of Diffract: pixels in [-1, 1], conditions in words or classes, PNG files out.

Nothing here is known to the framework: it is declared by an entry point and uses the plugin contract alone.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from tensordict import TensorDict
from torch import Tensor

from framework.conditions import ClassCondition, ConditionKind, Unconditional
from framework.errors import DataError, UserError
from framework.latents import TrainedAutoencoder
from framework.metrics.feature_net import FeatureExtractor, FeatureNet, extract, load_or_train
from framework.metrics.measurement import Measurement
from framework.metrics.pictures import Pictures, evaluate_images, feature_metrics, verdict_metrics
from framework.metrics.reconstruction import measured, psnr, ssim
from framework.modality import Modality
from framework.spaces import Euclidean
from framework.store import CARRIED
from modalities.images.data import ImageData, gather
from modalities.images.inception import InceptionFeatures
from modalities.images.render import contact_sheet, save_gif, save_png, trajectory_strip

FEATURE_ITEMS = 8_000  # images that the feature network is trained on


class Images(Modality):
    """Images of one size.

    Args:
        condition: how captions or classes become tensors.
        size: the canvas in pixels; None is read from the data when a run begins.
        channels: 1 or 3; None likewise.
        autoencoder: states are its latents in place of pixels.
    """

    name: ClassVar[str] = "images"

    def __init__(
        self,
        condition: ConditionKind,
        size: int | None = None,
        channels: int | None = None,
        autoencoder: TrainedAutoencoder | None = None,
    ) -> None:
        if size is None or channels is None:
            raise ValueError("images need a size and channels; a training run takes them from its data")
        if autoencoder is not None and autoencoder.network.channels != channels:
            raise UserError(
                f"the autoencoder reads images of {autoencoder.network.channels} channels, these have {channels}"
            )
        self.size, self.channels, self.conditions, self.autoencoder = size, channels, condition, autoencoder

    @property
    def space(self) -> Euclidean:
        if self.autoencoder is None:
            return Euclidean((self.channels, self.size, self.size))
        network = self.autoencoder.network
        return Euclidean((network.latent_channels, *network.latent_size(self.size, self.size)))

    def encode(self, batch: Mapping[str, Any]) -> tuple[Tensor, TensorDict]:
        """uint8 (B, C, H, W) as float32 in [-1, 1], or their latents."""
        pixels = batch["image"].float() / 127.5 - 1
        state = pixels if self.autoencoder is None else self.autoencoder.encode(pixels)
        return state, self.conditions.encode(batch)

    def decode(self, state: Tensor, condition: TensorDict) -> Tensor:  # type: ignore[override]
        """Pixels (B, C, H, W), or latents, as uint8, clipped to [-1, 1]."""
        if self.autoencoder is not None:
            state = self.autoencoder.decode(state, size=(self.size, self.size))
        return ((state.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).cpu()

    def join(self, parts: Sequence[Tensor]) -> Tensor:
        return torch.cat(list(parts))

    def parse(self, prompts: Sequence[Any]) -> TensorDict:
        return self.conditions.parse(prompts)

    def null(self, condition: TensorDict) -> TensorDict:
        return self.conditions.null(condition)

    def render(
        self, samples: Tensor, prompts: Sequence[Any], folder: Path, metadata: Sequence[Mapping[str, str]]
    ) -> list[Path]:
        """A PNG for each sample, with its metadata inside, and sheet.png."""
        texts = self._texts(prompts)
        files = [
            save_png(image, folder / f"{i:05d}.png", dict(row))
            for i, (image, row) in enumerate(zip(samples, metadata, strict=True))
        ]
        return [*files, save_png(contact_sheet(samples, texts), folder / "sheet.png", {"prompts": "\n".join(texts)})]

    def render_trajectory(self, states: Sequence[Tensor], prompts: Sequence[Any], folder: Path) -> list[Path]:
        """trajectory.png (a row a sample, at most 8, a column a step, at most 12) and trajectory.gif with all steps."""
        frames = torch.stack(list(states))[:, :8]
        shown = np.unique(np.linspace(0, len(frames) - 1, min(len(frames), 12)).round().astype(int))
        labels = [f"step {i + 1}" for i in shown]
        strip = save_png(trajectory_strip(frames[torch.from_numpy(shown)], labels), folder / "trajectory.png", {})
        return [strip, save_gif(frames, folder / "trajectory.gif")]

    def prompts(self, data: ImageData, n: int, seed: int) -> Sequence[Any]:  # type: ignore[override]
        """Classes in equal numbers, held-out captions, or nothing to say, as the condition has it."""
        if isinstance(self.conditions, Unconditional):
            return [None] * n
        return data.classes(n, seed) if isinstance(self.conditions, ClassCondition) else data.captions(n, seed)

    def examples(self, n: int) -> Sequence[Any]:
        """The classes in turn; captions are the data's to know."""
        if isinstance(self.conditions, ClassCondition):
            return [i % self.conditions.num_classes for i in range(n)]
        return super().examples(n)

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
        verdicts = data.judge(samples, prompts) if isinstance(prompts[0], str) else {}
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
            return verdict_metrics(verdicts, seed=seed)
        real = data.reference(2 * len(asked), seed)
        half = len(real.images) // 2
        held_out = Pictures(
            real.images[half:],
            None if labels is None else real.labels[half:],
            data.judge(real.images[half:], real.captions[half:]) if verdicts else {},
        )
        shown = Pictures(samples[own], labels, verdicts)
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

    def perceptual(self, data: ImageData) -> FeatureNet | None:
        return self._classifier(data)

    def _classifier(self, data: ImageData) -> FeatureNet | None:
        """A classifier of the data's own labels, trained once and cached; None where there are no labels."""
        items = data.train_set
        count = min(len(items), FEATURE_ITEMS)  # type: ignore[arg-type]
        chosen = gather(items, np.linspace(0, len(items) - 1, count).astype(int))  # type: ignore[arg-type]
        if bool((chosen.labels < 0).any()):
            return None
        identity = {"data": type(data).__name__, "size": self.size, "classes": list(data.class_names)}
        return load_or_train(identity, chosen.images, chosen.labels)

    def _texts(self, prompts: Sequence[Any]) -> list[str]:
        """What to write under the pictures."""
        names = getattr(self.conditions, "names", [])
        return [
            "" if prompt is None else names[prompt] if isinstance(prompt, int) and names else str(prompt)
            for prompt in prompts
        ]

    @classmethod
    def adapt(cls, config: dict[str, Any], data: Any) -> dict[str, Any]:
        """Size, channels, class names and the number of classes, where the configuration leaves them open."""
        config = copy.deepcopy(config)
        modality, backbone = config["modality"], config["backbone"]
        for key in ("size", "channels"):
            if modality.get(key) is None:
                modality[key] = getattr(data, key)
        channels = modality["channels"]
        if isinstance(modality.get("autoencoder"), str):  # the folder of a run, or of its model
            modality["autoencoder"] = {"_target_": CARRIED, "path": modality["autoencoder"]}
        if modality.get("autoencoder") is not None:
            channels = TrainedAutoencoder(modality["autoencoder"]["path"]).network.latent_channels
        if "channels" in backbone and backbone["channels"] is None:
            backbone["channels"] = channels
        condition = modality["condition"]
        if "names" in condition and condition["names"] is None:
            if not data.class_names:
                raise DataError(
                    "the data has no classes to be conditioned on; choose modality=images/text or images/unconditional"
                )
            condition["names"] = list(data.class_names)
        if "names" in condition and "num_classes" in backbone and backbone["num_classes"] is None:
            backbone["num_classes"] = len(condition["names"])
        return config
