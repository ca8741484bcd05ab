r"""The style of a reference picture, as an energy: how far the statistics of features are from the reference's.

The features phi are those of one layer of random filters with rectifiers at three scales, which hold colours and
textures and nothing of the layout (Ustyuzhaninov et al. 2016, "Texture synthesis using shallow convolutional networks
with random filters", 1606.00021), or the first layers of the classifier of a run's own data. Their statistics are means
over the picture of phi and of phi phi^T (Gatys et al. 2016),

    E(x) = sum_scales |m(x) - m(reference)|^2 + |G(x) - G(reference)|^2,      in units of the reference's own.

`task=images/style` leads sampling by it; with `task.input` the layout is that of a picture, as in an edit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import torch
import yaml
from jaxtyping import Float
from tensordict import TensorDict
from torch import Tensor
from torch.nn import functional

from framework.build import USER_CONFIG, build
from framework.denoiser import Denoiser
from framework.editing.requests import Edit, check_input
from framework.editing.start import check_strength
from framework.editing.task import Run, Task
from framework.errors import UserError
from framework.guidance.energy import EnergyGuided
from framework.metrics.feature_net import FeatureNet
from framework.modality import Modality
from modalities.images.files import read_image

FILTERS, SIDE, SCALES, SEED = 48, 3, (1, 2, 4), 1606
Features = Callable[[Tensor], Sequence[Tensor]]


@dataclass(frozen=True)
class Style:
    """Samples in the style of the picture `reference`, by guidance of strength `scale`.

    Args:
        reference: a file.
        input: a file whose layout they are to have, or None.
        strength: of the edit of `input`; see Edit.
        scale: how strongly they are led.
        limit: of each move, in deviations; see EnergyGuided.
        classifier: a run, the classifier of whose data is to be the judge of style; None is random filters.

    Raises:
        UserError: there is no such file.
    """

    reference: str
    input: str | None = None
    strength: float = 0.8
    scale: float = 1000.0
    limit: float | None = 4.0
    classifier: str | None = None

    def __post_init__(self) -> None:
        check_input(self.reference)
        check_strength(self.strength)
        if self.input is not None:
            check_input(self.input)

    def tasks(self, modality: Modality) -> Sequence[Task]:
        energy = StyleEnergy(self.reference, self.classifier).for_modality(modality)
        layout = () if self.input is None else Edit(self.input, self.strength).tasks(modality)
        return (*layout, Led(EnergyGuided(energy, self.scale, limit=self.limit)))


@dataclass(frozen=True)
class Led:
    """An energy's guidance as a task, on top of whatever guidance there is."""

    guidance: EnergyGuided
    before_guidance: ClassVar[bool] = False

    def __call__(self, run: Run) -> Run:
        led: Denoiser = self.guidance(run.denoiser, run.condition)
        return replace(run, denoiser=led)


@dataclass(frozen=True)
class StyleEnergy:
    """The energy of the module's docstring, for `guidance.energy` too; `for_modality` makes it a function."""

    reference: str
    classifier: str | None = None

    def __call__(self, state: Tensor, condition: TensorDict) -> Tensor:
        raise UserError("a style is told of a modality's pictures: give it to a model's guidance or task")

    def for_modality(self, modality: Modality) -> Callable[[Tensor, TensorDict], Tensor]:
        for need in ("size", "channels", "autoencoder"):
            if not hasattr(modality, need):
                raise UserError(f"a style is one of images, and {modality.name} are none")
        size, channels, autoencoder = modality.size, modality.channels, modality.autoencoder  # type: ignore[attr-defined]
        features = random_filters(channels) if self.classifier is None else first_layers(modality, self.classifier)
        reference = read_image(self.reference, size, channels)[None].float() / 127.5 - 1
        wanted = statistics(features(reference))

        def energy(state: Tensor, condition: TensorDict) -> Tensor:
            pixels = state.float() if autoencoder is None else autoencoder.decode(state, size=(size, size))
            parts = zip(statistics(features(pixels)), wanted, strict=True)
            return sum(
                (here - there.to(here)).square().sum(1) / there.square().sum().clamp(min=1e-8).to(here)
                for here, there in parts
            )  # type: ignore[return-value]

        return energy


def statistics(maps: Sequence[Float[Tensor, "b k h w"]]) -> list[Float[Tensor, "b n"]]:
    """Means over the picture of features and of their products, for each map of them."""
    flat = [part.flatten(2) for part in maps]
    grams = [torch.einsum("bkp,blp->bkl", part, part).flatten(1) / part.shape[2] for part in flat]
    return [*(part.mean(2) for part in flat), *grams]


def random_filters(channels: int) -> Features:
    """A layer of random filters with rectifiers at several scales, the same ones always."""
    generator = torch.Generator().manual_seed(SEED)
    weight = torch.randn(FILTERS, channels, SIDE, SIDE, generator=generator)
    weight = weight / weight.flatten(1).norm(dim=1)[:, None, None, None]
    bias = 0.3 * torch.randn(FILTERS, generator=generator)

    def features(x: Tensor) -> Sequence[Tensor]:
        pooled = [functional.avg_pool2d(x, k) if k > 1 else x for k in SCALES if min(x.shape[2:]) >= k * SIDE]
        kernel, offset = weight.to(x), bias.to(x)
        return [functional.relu(functional.conv2d(part, kernel, offset)) for part in pooled]

    return features


def first_layers(modality: Modality, run: str) -> Features:
    """The stem and the first block of the classifier of a run's data, trained once and cached."""
    saved = Path(run) / "config.yaml"
    if not saved.is_file():
        raise UserError(f"classifier={run}: this is not the folder of a training run (no config.yaml)")
    config = yaml.safe_load(saved.read_text())["data"] | {}
    if "skipped_path" in config:
        config["skipped_path"] = None
    data = build(config, USER_CONFIG)
    data.setup("fit")
    network = modality.perceptual(data)
    if not isinstance(network, FeatureNet):
        raise UserError(f"classifier={run}: its data have no labels to train a classifier on")
    chosen = network.eval().requires_grad_(False)

    def features(x: Tensor) -> Sequence[Tensor]:
        stem = functional.relu(chosen.to(x.device).stem(x))
        return [stem, chosen.blocks[0](stem)]

    return features
