"""A trained autoencoder: pictures of a modality's states to latents and back, and the part of it that codecs carry.

A state is picture-like when its space says so: all of R^(C, H, W), or masked rows of (C, F), whose number is the first
side of the picture and whose mask says where it ends.

    load_autoencoder(folder)      the whole: modality and network, to be judged
    TrainedAutoencoder(folder)    the network alone, frozen, as a part of another model's configuration

A model that holds a TrainedAutoencoder has a copy of its folder inside its own (see `store`), so that either may be
moved or deleted without the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeGuard

import torch
from jaxtyping import Float
from torch import Tensor

from framework.backbones.latent_coder import LatentCoder, Mask
from framework.build import MODEL_FOLDER, Allow, build
from framework.errors import UserError
from framework.grids.identity import weights_hash
from framework.modality import Modality
from framework.spaces import Euclidean, Masked, Space, ZeroCentreOfMass
from framework.state import Condition, State
from framework.store import AUTOENCODER, ModelFolderError, fill, find_folder, kind, read


def as_picture(x: State, condition: Condition, space: Space) -> tuple[Float[Tensor, "b c h w"], Mask | None]:
    """States as pictures, and which positions are real (None: all).

    Raises:
        UserError: states of this space are no pictures.
    """
    if isinstance(space, Euclidean) and len(space.shape) == 3 and isinstance(x, Tensor):
        return x, None
    if _has_rows(space) and isinstance(x, Tensor):
        return x.transpose(1, 2), condition[space.mask][:, None, :, None].expand(-1, 1, -1, x.shape[3])
    raise UserError(
        f"an autoencoder reads pictures: states of shape (C, H, W), or masked rows of (C, F); these lie in {space}"
    )


def as_state(picture: Float[Tensor, "b c h w"], space: Space) -> Tensor:
    """The way back of `as_picture`."""
    return picture.transpose(1, 2) if _has_rows(space) else picture


def _has_rows(space: Space) -> TypeGuard[Masked]:
    return isinstance(space, Masked) and not isinstance(space, ZeroCentreOfMass) and len(space.row) == 2


@dataclass
class Autoencoder:
    """A modality with a network that codes its states."""

    modality: Modality
    network: LatentCoder

    @property
    def device(self) -> torch.device:
        """Where the network lies."""
        return next(self.network.parameters()).device

    @torch.no_grad()
    def reconstruct(self, x: State, condition: Condition) -> Tensor:
        """States through latents and back."""
        space = self.modality.space
        picture, mask = as_picture(x, condition, space)
        back = as_state(self.network(picture, mask).x, space)
        result = space.project(back, condition)
        assert isinstance(result, Tensor)
        return result


def load_autoencoder(path: str | Path, device: str | torch.device = "cpu", allow: Allow = MODEL_FOLDER) -> Autoencoder:
    """The autoencoder of a run folder or of a model folder; as `store.load`, with the same errors."""
    config, weights, folder = _read(Path(path))
    parts = build({"modality": config["modality"], "backbone": config["backbone"]}, allow)
    fill(parts["backbone"], weights, folder)
    return Autoencoder(parts["modality"], parts["backbone"].to(device))


class TrainedAutoencoder:
    """A frozen autoencoder from the folder of a run, or of a model; equal to others with the same weights.

    Args:
        path: the folder.

    Raises:
        UserError: there is no autoencoder.
    """

    pictures_encoded: ClassVar[int] = 0  # by all encoders of this process: what a cache of latents saves

    def __init__(self, path: str) -> None:
        self.path = str(path)
        self.config, weights, folder = _read(Path(path))
        network = build(self.config["backbone"], MODEL_FOLDER)
        if not isinstance(network, LatentCoder):
            raise UserError(f"{folder}: {type(network).__name__} is no autoencoder that latents can be taken from")
        fill(network, weights, folder)
        self.network: LatentCoder = network
        self.identity = weights_hash(network)

    def encode(self, x: Float[Tensor, "b c h w"], mask: Mask | None = None) -> Float[Tensor, "b d i j"]:
        """Standardised latents: the posterior's mean, a function of the picture alone."""
        return self.posterior(x, mask)[0]

    def posterior(
        self, x: Float[Tensor, "b c h w"], mask: Mask | None = None
    ) -> tuple[Float[Tensor, "b d i j"], Float[Tensor, "b d i j"]]:
        """Mean and deviation of standardised latents."""
        TrainedAutoencoder.pictures_encoded += len(x)
        with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
            return self._at(x).posterior(x.float(), mask)

    def decode(
        self, z: Float[Tensor, "b d i j"], mask: Mask | None = None, size: tuple[int, int] | None = None
    ) -> Float[Tensor, "b c h w"]:
        """Pictures of standardised latents."""
        with torch.autocast(z.device.type, enabled=False):
            return self._at(z).from_latents(z.float(), mask, size)

    def _at(self, x: Tensor) -> LatentCoder:
        """The network where x lies."""
        if self.network.latent_mean.device != x.device:
            self.network.to(x.device)
        return self.network

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TrainedAutoencoder) and other.identity == self.identity

    def __hash__(self) -> int:
        return hash(self.identity)

    def __repr__(self) -> str:
        return f"TrainedAutoencoder({self.identity})"


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor], Path]:
    folder = find_folder(path)
    config, weights = read(folder)
    if kind(config) != AUTOENCODER:
        raise ModelFolderError(f"{path} holds a diffusion model, and an autoencoder was asked for")
    return config, weights, folder
