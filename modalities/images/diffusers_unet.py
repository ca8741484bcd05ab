"""The UNets of Hugging Face diffusers in the place of our own: the same call, the same conditions.

    forward(x_t, noise_level, condition)      UNet2DModel, UNet2DConditionModel
    noise_level (B,) in [0, 1000]             timestep (a real number; it is only embedded)
    condition["label"], num_classes = none    class_labels into num_classes + 1 embeddings
    text(tokens, text_mask).sequence          encoder_hidden_states with encoder_attention_mask

The library is https://github.com/huggingface/diffusers; it is imported when a network is made, not before.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jaxtyping import Float
from tensordict import TensorDict
from torch import Tensor, nn

from framework.backbones.text import TextModel
from framework.backbones.unet import check_canvas


class DiffusersUNet(nn.Module):
    """diffusers' UNet2DModel: unconditional, or conditioned on classes.

    Args:
        channels: colour channels C of the image.
        widths: channels of each level, the finest first; multiples of `norm_groups`.
        blocks: residual blocks a level (one more on the way up).
        attention: the levels that attend, 0 being the finest; the middle always does.
        head_width: channels of an attention head; divides the widths of the levels that attend.
        num_classes: reads the condition's `label` (B,) int64 in [0, num_classes], the last meaning "none".
        norm_groups: groups of every group norm.
        dropout: probability within each residual block.
    """

    def __init__(
        self,
        channels: int = 3,
        widths: Sequence[int] = (64, 128, 128),
        blocks: int = 2,
        attention: Sequence[int] = (1, 2),
        head_width: int = 32,
        num_classes: int | None = None,
        norm_groups: int = 32,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        from diffusers import UNet2DModel

        levels = _levels(widths, attention, norm_groups)
        self.stride, self.num_classes = 2 ** (len(widths) - 1), num_classes
        self.network: Any = UNet2DModel(
            in_channels=channels,
            out_channels=channels,
            down_block_types=tuple("AttnDownBlock2D" if attends else "DownBlock2D" for attends in levels),
            up_block_types=tuple("AttnUpBlock2D" if attends else "UpBlock2D" for attends in reversed(levels)),
            block_out_channels=tuple(widths),
            layers_per_block=blocks,
            attention_head_dim=head_width,
            num_class_embeds=None if num_classes is None else num_classes + 1,
            norm_num_groups=norm_groups,
            dropout=dropout,
        )

    def forward(
        self, x_t: Float[Tensor, "b c h w"], noise_level: Float[Tensor, " b"], condition: TensorDict
    ) -> Float[Tensor, "b c h w"]:
        """The raw output of the network; raises ValueError when the canvas does not divide into levels."""
        check_canvas(x_t, self.stride)
        label = None if self.num_classes is None else condition["label"]
        output = self.network(x_t.to(self.network.dtype), noise_level, class_labels=label, return_dict=False)[0]
        return output.to(x_t.dtype)


class DiffusersTextUNet(nn.Module):
    """diffusers' UNet2DConditionModel: cross-attention to text at the levels that attend, and classes if any.

    Args:
        text: the encoder of the condition's `tokens` (B, L) and `text_mask` (B, L).
        others: as in `DiffusersUNet`.
    """

    def __init__(
        self,
        text: TextModel,
        channels: int = 3,
        widths: Sequence[int] = (64, 128, 128),
        blocks: int = 2,
        attention: Sequence[int] = (1, 2),
        head_width: int = 32,
        num_classes: int | None = None,
        norm_groups: int = 32,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        from diffusers import UNet2DConditionModel

        levels = _levels(widths, attention, norm_groups)
        self.stride, self.num_classes = 2 ** (len(widths) - 1), num_classes
        self.text = text
        self.network: Any = UNet2DConditionModel(
            in_channels=channels,
            out_channels=channels,
            down_block_types=tuple("CrossAttnDownBlock2D" if attends else "DownBlock2D" for attends in levels),
            up_block_types=tuple("CrossAttnUpBlock2D" if attends else "UpBlock2D" for attends in reversed(levels)),
            block_out_channels=tuple(widths),
            layers_per_block=blocks,
            # diffusers reads attention_head_dim as the number of heads here, despite its name.
            attention_head_dim=tuple(width // head_width for width in widths),
            cross_attention_dim=text.width,
            num_class_embeds=None if num_classes is None else num_classes + 1,
            norm_num_groups=norm_groups,
            dropout=dropout,
        )

    def forward(
        self, x_t: Float[Tensor, "b c h w"], noise_level: Float[Tensor, " b"], condition: TensorDict
    ) -> Float[Tensor, "b c h w"]:
        """The raw output of the network; raises ValueError when the canvas does not divide into levels."""
        check_canvas(x_t, self.stride)
        mask = condition["text_mask"]
        words = self.text(condition["tokens"], mask).sequence
        output = self.network(
            x_t.to(self.network.dtype),
            noise_level,
            words.to(self.network.dtype),
            class_labels=None if self.num_classes is None else condition["label"],
            encoder_attention_mask=mask,
            return_dict=False,
        )[0]
        return output.to(x_t.dtype)


def _levels(widths: Sequence[int], attention: Sequence[int], norm_groups: int) -> list[bool]:
    """Whether each level attends; raises ValueError for levels or widths that diffusers would trip over."""
    if unknown := sorted(set(attention) - set(range(len(widths)))):
        raise ValueError(f"attention at levels {unknown}, but the levels are 0 to {len(widths) - 1}")
    if uneven := [width for width in widths if width % norm_groups]:
        raise ValueError(f"widths {uneven} are not multiples of norm_groups={norm_groups}")
    return [level in attention for level in range(len(widths))]
