r"""The role of a network that codes pictures: what a model needs of an autoencoder to work in its latents.

    x (B, C, H, W)  --encode-->  mean, log variance (B, c, h, w)  --sample-->  z  --decode-->  x,     h = ceil(H / s)

A network knows the mean and deviation of each latent channel over its training data, as buffers: `posterior`,
`to_latents` and `from_latents` speak of latents of zero mean and unit variance, which is what schedules are made for.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

LOG_VARIANCES = (-30.0, 20.0)  # beyond them exp and its gradient are of no use

Mask = Bool[Tensor, "b 1 h w"]


@dataclass(frozen=True)
class Coded:
    """A batch after the bottleneck: what came back (B, C, H, W), and the posterior's mean and log variance."""

    x: Tensor
    mean: Tensor
    log_variance: Tensor


class LatentCoder(nn.Module):
    """Base of autoencoders. Sides that s does not divide are padded inside.

    Args:
        channels: C.
        latent_channels: c.
        stride: s.
    """

    latent_mean: Tensor
    latent_std: Tensor

    def __init__(self, channels: int, latent_channels: int, stride: int) -> None:
        super().__init__()
        self.channels, self.latent_channels, self.stride = channels, latent_channels, stride
        self.register_buffer("latent_mean", torch.zeros(latent_channels))
        self.register_buffer("latent_std", torch.ones(latent_channels))

    def encode(
        self, x: Float[Tensor, "b c h w"], mask: Mask | None = None
    ) -> tuple[Float[Tensor, "b d i j"], Float[Tensor, "b d i j"]]:
        """The posterior's mean and log variance, not standardised; what lies where the mask is False is not read."""
        raise NotImplementedError(f"{type(self).__name__} must define encode(x, mask) -> (mean, log_variance)")

    def decode(
        self, z: Float[Tensor, "b d i j"], mask: Mask | None = None, size: tuple[int, int] | None = None
    ) -> Float[Tensor, "b c h w"]:
        """Pictures of latents (not standardised), cut to `size` (H, W); None: s times the latents' sides."""
        raise NotImplementedError(f"{type(self).__name__} must define decode(z, mask, size) -> x")

    def latent_size(self, height: int, width: int) -> tuple[int, int]:
        """(h, w) of a picture's latents."""
        return -(-height // self.stride), -(-width // self.stride)

    def latent_mask(self, mask: Mask) -> Mask:
        """Which latents have a real position among those that they stand for."""
        return coarser(fill(mask.float(), self.stride), self.stride) > 0

    def forward(
        self, x: Float[Tensor, "b c h w"], mask: Mask | None = None, noise: Float[Tensor, "b d i j"] | None = None
    ) -> Coded:
        """Pictures through the bottleneck and back: from mean + deviation * noise, or from the mean without noise."""
        mean, log_variance = self.encode(x, mask)
        z = mean if noise is None else mean + (0.5 * log_variance).exp() * noise
        coarse = None if mask is None else self.latent_mask(mask)
        return Coded(self.decode(z, coarse, (x.shape[-2], x.shape[-1])), mean, log_variance)

    def posterior(
        self, x: Float[Tensor, "b c h w"], mask: Mask | None = None
    ) -> tuple[Float[Tensor, "b d i j"], Float[Tensor, "b d i j"]]:
        """Mean and deviation of standardised latents; both zero where no position is real."""
        mean, log_variance = self.encode(x, mask)
        scale, shift = self.latent_std[:, None, None], self.latent_mean[:, None, None]
        mean, deviation = (mean - shift) / scale, (0.5 * log_variance).exp() / scale
        if mask is None:
            return mean, deviation
        real = self.latent_mask(mask)
        return torch.where(real, mean, 0.0), torch.where(real, deviation, 0.0)

    def to_latents(self, x: Float[Tensor, "b c h w"], mask: Mask | None = None) -> Float[Tensor, "b d i j"]:
        """The posterior's mean, standardised; zero where no position is real."""
        return self.posterior(x, mask)[0]

    def from_latents(
        self, z: Float[Tensor, "b d i j"], mask: Mask | None = None, size: tuple[int, int] | None = None
    ) -> Float[Tensor, "b c h w"]:
        """The way back; arguments as of `decode`."""
        return self.decode(z * self.latent_std[:, None, None] + self.latent_mean[:, None, None], mask, size)


def fill(x: Tensor, stride: int) -> Tensor:
    """Zeros behind the last row and column, up to multiples of the stride."""
    rows, columns = -x.shape[-2] % stride, -x.shape[-1] % stride
    return functional.pad(x, (0, columns, 0, rows)) if rows or columns else x


def coarser(mask: Tensor, factor: int) -> Tensor:
    """A mask at a lower resolution: real where any of its positions is."""
    return functional.max_pool2d(mask, factor)
