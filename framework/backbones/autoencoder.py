r"""A convolutional autoencoder with a Gaussian bottleneck: what latent diffusion runs in.

    x (B, C, H, W)  --encode-->  mean, log variance (B, c, h, w)  --sample-->  z  --decode-->  x,     h = ceil(H / s)

Levels l = 0, 1, ... hold width * multipliers[l] channels at 1 / 2^l of the picture; s = 2^(levels - 1). Rombach et al.,
"High-Resolution Image Synthesis with Latent Diffusion Models" (arXiv 2112.10752), in small, with two changes. Norms
look at one position (its channels) and not at the whole picture, so that a latent depends on its surroundings alone:
neither on how large the canvas is nor on what is far away. And a mask of real positions is applied at every level, so
that what lies beyond a picture's end is zero throughout, whatever it was padded with: padding never weighs.

What every such network has in common is in `latent_coder`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from framework.backbones.latent_coder import LOG_VARIANCES, Coded, LatentCoder, Mask, coarser, fill
from framework.backbones.unet_blocks import double, halve, zeroed
from framework.errors import UserError

__all__ = ["Coded", "KLAutoencoder", "Mask"]


class KLAutoencoder(LatentCoder):
    """See the module's docstring. Sides that s does not divide are padded inside.

    Args:
        channels: C.
        width: channels of the finest level.
        multipliers: channels of each level, in units of `width`; one level more halves the latents' sides once more.
        blocks: residual blocks a level, on the way down and on the way up.
        latent_channels: c.

    Raises:
        UserError: no level, no block or no latent channel.
    """

    def __init__(
        self,
        channels: int = 3,
        width: int = 32,
        multipliers: Sequence[int] = (1, 2),
        blocks: int = 1,
        latent_channels: int = 4,
    ) -> None:
        if not multipliers or min(channels, width, *multipliers, blocks, latent_channels) < 1:
            raise UserError(
                f"an autoencoder has at least one level, block and channel; got channels={channels}, width={width}, "
                f"multipliers={list(multipliers)}, blocks={blocks}, latent_channels={latent_channels}"
            )
        super().__init__(channels, latent_channels, 2 ** (len(multipliers) - 1))
        widths = [width * m for m in multipliers]
        self.read = nn.Conv2d(channels, widths[0], 3, padding=1)
        self.down = nn.ModuleList(_Level(a, b, blocks) for a, b in zip([widths[0], *widths], widths, strict=False))
        self.code = _Head(widths[-1], 2 * latent_channels)
        self.uncode = nn.Conv2d(latent_channels, widths[-1], 3, padding=1)
        back = widths[::-1]
        self.up = nn.ModuleList(_Level(a, b, blocks) for a, b in zip([back[0], *back], back, strict=False))
        self.write = _Head(widths[0], channels)
        self.shrink, self.grow = halve(), double()

    def encode(
        self, x: Float[Tensor, "b c h w"], mask: Mask | None = None
    ) -> tuple[Float[Tensor, "b d i j"], Float[Tensor, "b d i j"]]:
        """The posterior's mean and log variance, zero where no position is real.

        Args:
            x: pictures; what lies where the mask is False is not read.
            mask: which positions are real; None: all.
        """
        masks = self._masks(x.shape, mask, x)
        h = _masked(fill(x.to(self.read.weight.dtype), self.stride), masks[0])
        h = _masked(self.read(h.contiguous(memory_format=torch.channels_last)), masks[0])
        for level, (stage, real) in enumerate(zip(self.down, masks, strict=True)):
            h = stage(h if level == 0 else self.shrink(h), real)
        mean, log_variance = self.code(h, masks[-1]).to(x.dtype).chunk(2, dim=1)
        return mean, log_variance.clamp(*LOG_VARIANCES)

    def decode(
        self, z: Float[Tensor, "b d i j"], mask: Mask | None = None, size: tuple[int, int] | None = None
    ) -> Float[Tensor, "b c h w"]:
        """Pictures of latents (not standardised), cut to `size` (H, W); None: s times the latents' sides.

        `mask` (B, 1, h, w) says which latents are real; the others are not read.
        """
        masks = [mask.to(self.uncode.weight.dtype)] if mask is not None else []
        for _ in range(len(self.up) - 1 if masks else 0):
            masks.append(self.grow(masks[-1]))
        h = z.to(self.uncode.weight.dtype)
        h = h if mask is None else h * masks[0]
        h = self.uncode(h.contiguous(memory_format=torch.channels_last))
        for level, stage in enumerate(self.up):
            h = stage(h if level == 0 else self.grow(h), masks[level] if masks else None)
        x = self.write(h, masks[-1] if masks else None).to(z.dtype)
        return x if size is None else x[..., : size[0], : size[1]]

    def _masks(self, shape: torch.Size, mask: Mask | None, like: Tensor) -> list[Tensor | None]:
        """What each level is multiplied by: the given mask, and the padding inside; None where all is real."""
        if mask is None and shape[-2] % self.stride == 0 and shape[-1] % self.stride == 0:
            return [None] * len(self.down)
        given = like.new_ones(1, 1, *shape[-2:]) if mask is None else mask.expand(-1, -1, *shape[-2:])
        masks = [fill(given.to(self.read.weight.dtype), self.stride)]
        while len(masks) < len(self.down):
            masks.append(coarser(masks[-1], 2))
        return list(masks)


class _Norm(nn.Module):
    """Each position's channels to zero mean and unit variance; without a shift, so that zero stays zero."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        last = x.permute(0, 2, 3, 1)
        return functional.layer_norm(last, last.shape[-1:], self.weight, None, 1e-5).permute(0, 3, 1, 2)


class _Block(nn.Module):
    """x + f(x), with f twice norm, SiLU, 3x3; the identity where it begins, up to the change of channels."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.first_norm, self.last_norm = _Norm(channels), _Norm(out_channels)
        self.first = nn.Conv2d(channels, out_channels, 3, padding=1)
        self.last = zeroed(nn.Conv2d(out_channels, out_channels, 3, padding=1))
        self.shortcut = nn.Identity() if channels == out_channels else nn.Conv2d(channels, out_channels, 1)

    def forward(self, x: Float[Tensor, "b c h w"], real: Tensor | None) -> Float[Tensor, "b d h w"]:
        h = _masked(self.first(functional.silu(self.first_norm(x))), real)
        return _masked(self.shortcut(x) + self.last(functional.silu(self.last_norm(h))), real)


class _Level(nn.Module):
    """The blocks of one level."""

    def __init__(self, channels: int, out_channels: int, blocks: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(_Block(channels if i == 0 else out_channels, out_channels) for i in range(blocks))

    def forward(self, x: Float[Tensor, "b c h w"], real: Tensor | None) -> Float[Tensor, "b d h w"]:
        x = _masked(x, real)
        for block in self.blocks:
            x = block(x, real)
        return x


class _Head(nn.Module):
    """Norm, SiLU, 3x3."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.norm, self.out = _Norm(channels), nn.Conv2d(channels, out_channels, 3, padding=1)

    def forward(self, x: Float[Tensor, "b c h w"], real: Tensor | None) -> Float[Tensor, "b d h w"]:
        return _masked(self.out(functional.silu(self.norm(x))), real)


def _masked(x: Tensor, real: Tensor | None) -> Tensor:
    return x if real is None else torch.where(real > 0, x, 0.0)
