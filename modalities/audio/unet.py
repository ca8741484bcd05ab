"""The framework's UNet on spectrograms: channels x bands x frames, with features that say where on each axis one is.

Pitch and timbre depend on the absolute frequency, and convolutions do not know it: waves of the band's number go in as
channels beside the state (as CoordConv's do: Liu et al., arXiv 1807.03247). One more channel says which frames are
real, and so how long the clip is and how far its end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from tensordict import TensorDict
from torch import Tensor, nn
from torch.nn import functional

from framework.backbones.text import TextModel
from framework.backbones.unet import UNet


class SpectrogramUNet(nn.Module):
    """x_t (B, L, C, F), noise level (B,) in [0, 1000] and a condition -> a state, zero when fresh and where masked.

    Args:
        channels, bands: C and F of the state.
        waves: pairs of sines and cosines of the band's number, of 1/2, 1, 2, 4, ... periods over all bands.

    The others are those of `framework.backbones.unet.UNet`. The condition's `mask` (B, L) bool says which frames are
    real; bands and frames are padded up to what the UNet's levels divide.
    """

    places: Tensor

    def __init__(
        self,
        channels: int,
        bands: int,
        width: int = 32,
        multipliers: Sequence[int] = (1, 2, 2),
        blocks: int = 1,
        attention: Sequence[int] = (1, 2),
        heads: int = 4,
        labels: Mapping[str, int] | None = None,
        text: TextModel | None = None,
        patch: int = 2,
        dropout: float = 0.0,
        waves: int = 4,
    ) -> None:
        super().__init__()
        phases = torch.pi * (torch.arange(bands) + 0.5) / bands * 2.0 ** torch.arange(waves)[:, None]
        self.register_buffer("places", torch.cat([phases.sin(), phases.cos()]), persistent=False)  # (2 waves, F)
        self.unet = UNet(
            channels + 2 * waves + 1,
            width,
            multipliers,
            blocks,
            attention,
            heads,
            None,
            text,
            patch,
            dropout,
            labels,
            channels,
        )

    def forward(
        self, x_t: Float[Tensor, "b l c f"], noise_level: Float[Tensor, " b"], condition: TensorDict
    ) -> Float[Tensor, "b l c f"]:
        """The raw output of the network for B clips of L frames."""
        mask = condition["mask"]
        real = mask[:, None, None, :].expand(-1, 1, x_t.shape[3], -1)
        h = torch.where(real, x_t.permute(0, 2, 3, 1), 0.0)
        places = self.places.to(h.dtype)[None, :, :, None].expand(len(h), -1, -1, h.shape[3])
        h = torch.cat([h, places, real.to(h.dtype)], dim=1)
        more = [-n % self.unet.stride for n in h.shape[2:]]
        out = self.unet(functional.pad(h, (0, more[1], 0, more[0])), noise_level, condition)
        out = out[:, :, : x_t.shape[3], : x_t.shape[1]]
        return torch.where(real, out, 0.0).permute(0, 3, 1, 2)
