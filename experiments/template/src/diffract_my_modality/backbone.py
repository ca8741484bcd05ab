"""The network: curve, noise level, condition -> curve. REPLACE it, or name one of `framework.backbones` in yaml.

Its input is the noisy state, the noise level (B,) in [0, 1000] and the condition; its output has the state's shape.
What the output means (the clean state, the noise, a velocity) is the parametrisation's business, not the network's.
The last layer begins at zero, so that a fresh network says nothing.
"""

from __future__ import annotations

from framework.backbones.unet_blocks import NoiseEmbedding, group_norm, zeroed
from jaxtyping import Float
from tensordict import TensorDict
from torch import Tensor, nn
from torch.nn import functional


class Block(nn.Module):
    """x + convolution of silu(norm(x) + what the embedding says); circular, as periodic curves are."""

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.norm, self.told = group_norm(width), nn.Linear(width, width)
        self.mix = nn.Conv1d(width, width, 3, padding=dilation, dilation=dilation, padding_mode="circular")

    def forward(self, x: Float[Tensor, "b c n"], e: Float[Tensor, "b c"]) -> Float[Tensor, "b c n"]:
        return x + self.mix(functional.silu(self.norm(x) + self.told(e)[:, :, None]))


class CurveNet(nn.Module):
    """Residual convolutions, dilated by 1, 2, 4, ...

    Args:
        num_classes: of the condition's labels; one more means "not said".
        width: channels within.
        blocks: how many; the last sees 2^blocks points around.
    """

    def __init__(self, num_classes: int, width: int = 48, blocks: int = 4) -> None:
        super().__init__()
        self.noise, self.label = NoiseEmbedding(width, width), nn.Embedding(num_classes + 1, width)
        self.first = nn.Conv1d(1, width, 3, padding=1, padding_mode="circular")
        self.blocks = nn.ModuleList(Block(width, 2**i) for i in range(blocks))
        self.last = zeroed(nn.Conv1d(width, 1, 1))

    def forward(
        self, x_t: Float[Tensor, "b n"], noise_level: Float[Tensor, " b"], condition: TensorDict
    ) -> Float[Tensor, "b n"]:
        e = self.noise(noise_level) + self.label(condition["label"])
        h = self.first(x_t.to(self.first.weight.dtype)[:, None])
        for block in self.blocks:
            h = block(h, e)
        return self.last(h)[:, 0].to(x_t.dtype)
