"""A transformer of clips whose attention is factorised: over the patches of a frame, then over the frames of a patch.

    frames (B, T, C, H, W) -> patches (B, T, S, width) -> [space: B T rows of S tokens; time: B S rows of T tokens] x n
    -> frames -> + two convolutions of them and x_t: outlines run across patches, whose tokens know each its own pixels

The blocks are the diffusion transformer's (Peebles & Xie 2022, arXiv:2212.09748). That half of them see space and half
see time is "factorised self-attention" (Arnab et al. 2021, arXiv:2103.15691; in diffusion Ho et al. 2022,
arXiv:2204.03458): it costs O(S + T) a token in place of O(S T).
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from tensordict import TensorDict
from torch import Tensor, nn
from torch.nn import functional

from framework.backbones.rotary import turn, waves
from framework.backbones.text import TextModel
from framework.backbones.transformer_blocks import AdaptiveNorm, TransformerBlock
from framework.backbones.unet_blocks import NoiseEmbedding, TextEmbedding, zeroed
from framework.errors import UserError

PLACE = 16  # features of each distance to an end: of rows, columns and frames, from both sides
BASE = 100.0  # positions a radian of the slowest rotation


class SpaceTimeTransformer(nn.Module):
    """x_t (B, T, C, H, W), noise level (B,) in [0, 1000] and a captioned condition -> a clip, zero when fresh.

    Args:
        text: reads the condition's `tokens` and `text_mask`.
        channels: colour channels.
        patch: pixels along the side of a token; divides H and W.
        width: features of a token; `width / heads` is a multiple of 4.
        layers: pairs of a block over space and a block over time.
        heads: of attention.
        expansion: hidden features of the perceptrons, in units of `width`.
    """

    def __init__(
        self,
        text: TextModel,
        channels: int = 3,
        patch: int = 4,
        width: int = 64,
        layers: int = 3,
        heads: int = 4,
        expansion: float = 2.0,
    ) -> None:
        super().__init__()
        if width % (4 * heads):
            raise UserError(f"a width of {width} cannot have {heads} heads: it must be a multiple of {4 * heads}")
        self.patch, self.heads, size = patch, heads, channels * patch**2
        self.noise, self.text = NoiseEmbedding(width, width), text
        self.pooled, self.when = TextEmbedding(text.width, width), nn.Linear(2 * PLACE, width)
        self.mix = nn.Sequential(nn.SiLU(), nn.Linear(width, width), nn.SiLU())
        self.stem = nn.Linear(size + 6 * PLACE, width)
        hidden = round(expansion * width)
        self.space = nn.ModuleList(TransformerBlock(width, heads, hidden, text.width, 0.0) for _ in range(layers))
        self.time = nn.ModuleList(TransformerBlock(width, heads, hidden, None, 0.0) for _ in range(layers))
        self.norm, self.modulation = AdaptiveNorm(width), zeroed(nn.Linear(width, 2 * width))
        self.head = zeroed(nn.Linear(width, size))
        self.finish = nn.Sequential(
            nn.Conv2d(2 * channels, width // 2, 3, padding=1),
            nn.SiLU(),
            zeroed(nn.Conv2d(width // 2, channels, 3, padding=1)),
        )

    def forward(
        self, x_t: Float[Tensor, "b t c h w"], noise_level: Float[Tensor, " b"], condition: TensorDict
    ) -> Float[Tensor, "b t c h w"]:
        """The raw output of the network for B clips.

        Raises:
            UserError: `patch` does not divide the height and the width.
        """
        batch, frames, _, height, width = x_t.shape
        if height % self.patch or width % self.patch:
            raise UserError(f"frames of {height}x{width} pixels cannot be cut into squares of {self.patch}")
        rows, columns = height // self.patch, width // self.patch
        squares = functional.pixel_unshuffle(x_t, self.patch).flatten(3).transpose(2, 3)
        place = torch.cartesian_prod(*(torch.arange(n, device=x_t.device) for n in (frames, rows, columns)))
        far = torch.tensor([frames, rows, columns], device=x_t.device) - 1 - place
        places = waves(torch.cat([place, far], 1), PLACE, BASE).flatten(1).unflatten(0, (frames, rows * columns))
        h = self.stem(torch.cat([squares, places.to(x_t.dtype).expand(batch, -1, -1, -1)], dim=3))
        words, pooled = self.text(condition["tokens"], condition["text_mask"])
        e = self.noise(noise_level) + self.pooled(pooled)
        moments = self.when(waves(torch.cat([place, far], 1)[:: rows * columns, [0, 3]], PLACE, BASE).flatten(1))
        e_frame, e = self.mix(e[:, None] + moments).flatten(0, 1), self.mix(e)
        in_space = turn(place[: rows * columns, 1:], h.shape[3] // self.heads, BASE)
        in_time = turn(place[:: rows * columns, :1], h.shape[3] // self.heads, BASE)
        each_frame = [part.repeat_interleave(frames, 0) for part in (words, condition["text_mask"])]
        e_square = e.repeat_interleave(rows * columns, 0)
        for space, time in zip(self.space, self.time, strict=True):
            h = space(h.flatten(0, 1), e_frame, in_space, None, *each_frame).unflatten(0, (batch, frames))
            h = time(h.transpose(1, 2).flatten(0, 1), e_square, in_time, None, None, None)
            h = h.unflatten(0, (batch, rows * columns)).transpose(1, 2)
        out = self.head(self.norm(h.flatten(1, 2), *self.modulation(e).chunk(2, dim=1))).unflatten(1, (frames, -1))
        drawn = functional.pixel_shuffle(out.transpose(2, 3).unflatten(3, (rows, columns)), self.patch)
        both = torch.cat([drawn, x_t], dim=2).flatten(0, 1)
        return drawn + self.finish(both).unflatten(0, (batch, frames))
