"""Autoencoders of Hugging Face diffusers in the place of our own: AutoencoderKL and AutoencoderTiny.

    x (B, C, H, W) in [-1, 1]  ->  mean, log variance (B, c, H / s, W / s)  ->  x

`pretrained` reads a folder or a hub id; what is saved in a model folder is ours: the network's settings as plain
values and its weights as safetensors, so that nothing has to be found again. The latents' mean and deviation are
measured on one's own data when it is taken over; `scaling_factor` and `shift_factor` of its own are not used.

They read whole pictures: masks are refused. AutoencoderTiny has no posterior; its log variance is as low as they go.
The library is https://github.com/huggingface/diffusers; it is imported when a network is made, not before.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from framework.backbones.latent_coder import LOG_VARIANCES, LatentCoder, Mask, fill
from framework.errors import UserError

KINDS = ("AutoencoderKL", "AutoencoderTiny")


class DiffusersAutoencoder(LatentCoder):
    """See the module's docstring.

    Args:
        kind: the class of diffusers, AutoencoderKL or AutoencoderTiny.
        settings: its constructor's arguments, as its config.json has them.

    Raises:
        UserError: another class, or diffusers is not installed.
    """

    def __init__(self, kind: str, settings: Mapping[str, Any]) -> None:
        if kind not in KINDS:
            raise UserError(f"diffusers' {kind} is not supported as an autoencoder; supported: {', '.join(KINDS)}")
        made = getattr(_diffusers(), kind)
        known = inspect.signature(made.__init__).parameters
        self_settings = {name: value for name, value in settings.items() if name in known}
        network = made(**self_settings)
        channels, latents = int(network.config.in_channels), int(network.config.latent_channels)
        super().__init__(channels, latents, _stride(kind, network.config))
        self.kind, self.settings, self.network = kind, self_settings, network

    def encode(
        self, x: Float[Tensor, "b c h w"], mask: Mask | None = None
    ) -> tuple[Float[Tensor, "b d i j"], Float[Tensor, "b d i j"]]:
        """The posterior's mean and log variance.

        Raises:
            UserError: a mask.
        """
        self._check(mask)
        filled = fill(x.to(self.network.dtype), self.stride)
        if self.kind == "AutoencoderTiny":
            mean = self.network.encode(filled).latents.to(x.dtype)
            return mean, torch.full_like(mean, LOG_VARIANCES[0])
        posterior = self.network.encode(filled).latent_dist
        return posterior.mean.to(x.dtype), posterior.logvar.to(x.dtype).clamp(*LOG_VARIANCES)

    def decode(
        self, z: Float[Tensor, "b d i j"], mask: Mask | None = None, size: tuple[int, int] | None = None
    ) -> Float[Tensor, "b c h w"]:
        """Pictures of latents.

        Raises:
            UserError: a mask.
        """
        self._check(mask)
        x = self.network.decode(z.to(self.network.dtype)).sample.to(z.dtype)
        return x if size is None else x[..., : size[0], : size[1]]

    def _check(self, mask: Mask | None) -> None:
        if mask is not None and not bool(mask.all()):
            raise UserError(
                f"diffusers' {self.kind} reads whole pictures: states with padding need an autoencoder of ours"
            )


def pretrained(source: str) -> DiffusersAutoencoder:
    """The autoencoder of a folder that diffusers wrote, or of a hub id; its `vae` subfolder where it is a pipeline's.

    Raises:
        UserError: there is none, or diffusers is not installed.
    """
    diffusers = _diffusers()
    place, subfolder = Path(source), None
    if place.exists():
        if (place / "vae" / "config.json").is_file():
            subfolder = "vae"
        elif not (place / "config.json").is_file():
            raise UserError(
                f"{source} is no folder of diffusers: there is no config.json in it, nor in {place / 'vae'}; give the "
                "folder that `save_pretrained` wrote"
            )
    try:
        config = _config(diffusers, source, subfolder)
        kind = str(config.get("_class_name"))
        if kind not in KINDS:
            raise UserError(
                f"{source} holds diffusers' {kind}; autoencoders that can be taken over: {', '.join(KINDS)}"
            )
        network = getattr(diffusers, kind).from_pretrained(source, subfolder=subfolder, torch_dtype=torch.float32)
    except (OSError, ValueError) as error:
        raise UserError(
            f"autoencoder.pretrained={source} is neither a folder with an autoencoder of diffusers nor one that can be "
            f"had from the hub: {str(error).strip().splitlines()[0]}"
        ) from error
    made = DiffusersAutoencoder(kind, {key: value for key, value in config.items() if not key.startswith("_")})
    made.network.load_state_dict(network.state_dict())
    return made


def _config(diffusers: Any, source: str, subfolder: str | None) -> dict[str, Any]:
    """The config.json of a folder or hub id; of a pipeline on the hub, that of its `vae`."""
    loaded = diffusers.AutoencoderKL.load_config(source, subfolder=subfolder)
    return dict(loaded[0] if isinstance(loaded, tuple) else loaded)


def _stride(kind: str, config: Any) -> int:
    """Pixels along the side of a latent."""
    levels = config.block_out_channels if kind == "AutoencoderKL" else config.encoder_block_out_channels
    return int(2 ** (len(levels) - 1))


def _diffusers() -> Any:
    try:
        import diffusers
    except ImportError as error:
        raise UserError("an autoencoder of diffusers needs that package: pip install 'diffract[diffusers]'") from error
    return diffusers
