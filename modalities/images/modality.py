"""Images as a plugin of Diffract: pixels in [-1, 1], conditions in words or classes, PNG files out.

Nothing here is known to the framework: it is declared by an entry point and uses the plugin contract alone.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from tensordict import TensorDict
from torch import Tensor

from framework.build import USER_CONFIG, build
from framework.conditions import ClassCondition, ConditionKind, TextCondition, Unconditional
from framework.errors import DataError, UserError
from framework.hints import HINT, Hint, nothing_shown, with_hint
from framework.latents import TrainedAutoencoder
from framework.posterior import Posterior
from framework.spaces import Euclidean
from framework.store import CARRIED
from modalities.images.data import ImageData
from modalities.images.files import read_image, read_metadata
from modalities.images.judging import JudgedImages
from modalities.images.operators import AveragePool, operator, seen_in
from modalities.images.regions import latents_within, pixels_in
from modalities.images.render import save_gif, save_png, trajectory_strip
from modalities.images.sheets import sheet_of
from modalities.images.sources import class_folder, write_captions
from modalities.images.watermark import detect_in, embed


class Images(JudgedImages):
    """Images of one size.

    Args:
        condition: how captions or classes become tensors.
        size: the canvas in pixels; None is read from the data when a run begins.
        channels: 1 or 3; None likewise.
        autoencoder: states are its latents in place of pixels.
        hint: what the network is shown of the picture that it is to make, if it is.
    """

    name: ClassVar[str] = "images"

    def __init__(
        self,
        condition: ConditionKind,
        size: int | None = None,
        channels: int | None = None,
        autoencoder: TrainedAutoencoder | None = None,
        hint: Hint | None = None,
    ) -> None:
        if size is None or channels is None:
            raise ValueError("images need a size and channels; a training run takes them from its data")
        if autoencoder is not None and autoencoder.network.channels != channels:
            raise UserError(
                f"the autoencoder reads images of {autoencoder.network.channels} channels, these have {channels}"
            )
        super().__init__()
        self.size, self.channels, self.conditions, self.autoencoder = size, channels, condition, autoencoder
        self.hint = hint

    @property
    def space(self) -> Euclidean:
        if self.autoencoder is None:
            return Euclidean((self.channels, self.size, self.size))
        network = self.autoencoder.network
        return Euclidean((network.latent_channels, *network.latent_size(self.size, self.size)))

    def encode(self, batch: Mapping[str, Any]) -> tuple[Tensor, TensorDict]:
        """uint8 (B, C, H, W) as float32 in [-1, 1], or their latents."""
        mean, _, condition = self.posterior(batch)
        return mean, condition  # type: ignore[return-value]

    def posterior(self, batch: Mapping[str, Any]) -> Posterior:
        pixels, condition = batch["image"].float() / 127.5 - 1, self._hinted(self.conditions.encode(batch))
        if self.autoencoder is None:
            return Posterior(pixels, None, condition)
        return Posterior(*self.autoencoder.posterior(pixels), condition)

    def decode(self, state: Tensor, condition: TensorDict) -> Tensor:  # type: ignore[override]
        """Pixels (B, C, H, W), or latents, as uint8, clipped to [-1, 1]."""
        if self.autoencoder is not None:
            state = self.autoencoder.decode(state, size=(self.size, self.size))
        return ((state.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).cpu()

    def join(self, parts: Sequence[Tensor]) -> Tensor:
        return torch.cat(list(parts))

    def parse(self, prompts: Sequence[Any]) -> TensorDict:
        return self._hinted(self.conditions.parse(prompts))

    def null(self, condition: TensorDict) -> TensorDict:
        """The words alone are dropped: what the network is shown of the picture stays."""
        if self.hint is None:
            return self.conditions.null(condition)
        return self.resized(self.conditions.null(condition.exclude(HINT)), condition)

    def resized(self, condition: TensorDict, like: TensorDict) -> TensorDict:  # type: ignore[override]
        return condition if self.hint is None else with_hint(condition, like[HINT])

    def _hinted(self, condition: TensorDict) -> TensorDict:
        """A condition that shows nothing of the picture yet."""
        return condition if self.hint is None else nothing_shown(self.hint, self.space.shape, condition)

    def read(self, path: Path) -> Mapping[str, Any]:
        """A picture in any common format, upright, its centre square at the model's size."""
        return {"image": read_image(path, self.size, self.channels)[None], "caption": [""], "label": torch.tensor([-1])}

    def region(self, text: str, state: Tensor, condition: TensorDict) -> Tensor:  # type: ignore[override]
        """ "x=0-0.5", "y=0.2-0.8", "box=..." and "mask=FILE.png"; several hold together: see `regions`."""
        within = self._states_within(pixels_in(text, self.size), state)
        if not bool(within.any()):
            raise UserError(f"the region {text!r} holds no latent whole, of {tuple(state.shape[2:])}; make it larger")
        return within

    def touched(self, text: str, state: Tensor, condition: TensorDict) -> Tensor:  # type: ignore[override]
        return ~self._states_within(~pixels_in(text, self.size), state)

    def _states_within(self, pixels: Tensor, state: Tensor) -> Tensor:
        """Which elements of a state stand for such pixels alone: bool (1, 1, ...)."""
        within = pixels if self.autoencoder is None else latents_within(pixels, *state.shape[2:])
        return within[None, None].to(state.device)

    def pasted(self, samples: Tensor, original: Mapping[str, Any], keep: str | None, redo: str | None) -> Tensor:
        stays = pixels_in(keep, self.size) if keep else ~pixels_in(redo or "", self.size)
        return torch.where(stays, original["image"].cpu(), samples)

    def observed(self, path: Path, text: str) -> tuple[AveragePool, Tensor]:
        """ "pool=4" of a small picture, "grey" of one without colours, or both: see `operators`."""
        if self.autoencoder is not None:
            raise UserError(
                "this model works in latents, of which pixels are no linear function; restore with a model of pixels"
            )
        how = operator(text, self.size, self.channels)
        return how, seen_in(path, how, self.size, self.channels)

    def marked(self, samples: Tensor, text: str) -> Tensor:
        return torch.stack([torch.from_numpy(embed(image.numpy(), text)) for image in samples])

    @classmethod
    def detected(cls, path: Path, text: str) -> float | None:
        return detect_in(path, text)

    @classmethod
    def told(cls, path: Path) -> Mapping[str, str] | None:
        return read_metadata(path)

    def render(
        self, samples: Tensor, prompts: Sequence[Any], folder: Path, metadata: Sequence[Mapping[str, str]]
    ) -> list[Path]:
        """A PNG for each sample, with its metadata inside, and sheet.png."""
        texts = self._texts(prompts)
        files = _save_each(samples, [folder] * len(texts), metadata)
        sheet = sheet_of(samples, texts, metadata)
        return [*files, save_png(sheet, folder / "sheet.png", {"prompts": "\n".join(texts)})]

    def dataset(
        self, samples: Tensor, prompts: Sequence[Any], folder: Path, metadata: Sequence[Mapping[str, str]]
    ) -> list[Path]:
        """A subfolder for each class, or captions in metadata.csv, as `sources.list_folder` reads them."""
        texts = self._texts(prompts)
        of_classes = isinstance(self.conditions, ClassCondition)
        files = _save_each(samples, [folder / class_folder(text if of_classes else "") for text in texts], metadata)
        if not isinstance(self.conditions, TextCondition):
            return files
        return [*files, write_captions(folder, files, texts)]

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

    def _texts(self, prompts: Sequence[Any]) -> list[str]:
        """What to write under the pictures."""
        names = getattr(self.conditions, "names", [])
        return [
            "" if prompt is None else names[prompt] if isinstance(prompt, int) and names else str(prompt)
            for prompt in prompts
        ]

    @classmethod
    def foreign(cls, folder: Path) -> Any | None:
        """Pipelines of diffusers: see `foreign`."""
        from modalities.images.foreign import open_pipeline

        return open_pipeline(folder)

    def export(self, model: Any, folder: Path) -> list[Path]:
        """A pipeline of diffusers: see `exported`."""
        from modalities.images.exported import save_pipeline

        return save_pipeline(model, folder)

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
        if modality.get("hint") is not None and backbone.get("hint_channels") is None:
            allow = USER_CONFIG.plus(*(config.get("allow") or ()))
            backbone["hint_channels"] = build(modality["hint"], allow).channels(channels)
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


def _save_each(samples: Tensor, folders: Sequence[Path], metadata: Sequence[Mapping[str, str]]) -> list[Path]:
    """A numbered PNG for each sample, in its folder."""
    return [
        save_png(image, folder / f"{i:05d}.png", dict(row))
        for i, (image, folder, row) in enumerate(zip(samples, folders, metadata, strict=True))
    ]
