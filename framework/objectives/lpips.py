r"""LPIPS, the distance that a network trained on ImageNet sees, from weights that are at hand as files.

    d(x, y) = sum_l mean_ij  w_l . (u_l(x) - u_l(y))^2,

u_l the features of layer l of AlexNet or VGG-16 with the channels at each position scaled to unit length, w_l >= 0 one
weight a channel. Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", arXiv
1801.03924.

Nothing is downloaded: `features` is torchvision's file of the classifier (alexnet-owt-7be5be79.pth,
vgg16-397923af.pth), `linear` that of the channels' weights from the authors (lpips/weights/v0.1/alex.pth, vgg.pth).
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from framework.backbones.latent_coder import Mask
from framework.errors import UserError

# Of torchvision's `features`: the layers after whose ReLU the distance is taken, and the channels there.
LAYERS = {"alex": (1, 4, 7, 9, 11), "vgg": (3, 8, 15, 22, 29)}
WIDTHS = {"alex": (64, 192, 384, 256, 256), "vgg": (64, 128, 256, 512, 512)}
MEAN, STD = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # of pictures in [-1, 1]
SMALLEST = 32  # pixels along a side: smaller pictures are enlarged, or nothing would be left of them


class LPIPS(nn.Module):
    """See the module's docstring; frozen.

    Args:
        features: the file of the classifier's weights.
        linear: the file of the channels' weights.
        network: "alex" or "vgg".

    Raises:
        UserError: another network, a file is missing or holds other weights, or torchvision is not installed.
    """

    channels = 3
    mean: Tensor
    std: Tensor

    def __init__(self, features: str, linear: str, network: str = "alex") -> None:
        super().__init__()
        if network not in LAYERS:
            raise UserError(f"LPIPS knows the networks {', '.join(LAYERS)}, not {network!r}")
        self.stages = _stages(network, _read(features))
        weights = _read(linear)
        try:
            found = [weights[f"lin{i}.model.1.weight"] for i in range(len(LAYERS[network]))]
        except KeyError as error:
            raise UserError(f"{linear} has no weights {error} of LPIPS's linear layers") from error
        if wrong := [w.shape for w, n in zip(found, WIDTHS[network], strict=True) if w.numel() != n]:
            raise UserError(f"{linear} is of another network than {network}: it has weights of shape {tuple(wrong[0])}")
        for i, weight in enumerate(found):
            self.register_buffer(f"weight_{i}", weight.reshape(1, -1, 1, 1).clone())
        self.register_buffer("mean", torch.tensor(MEAN).reshape(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(STD).reshape(1, 3, 1, 1))
        self.eval().requires_grad_(False)

    def forward(
        self, x: Float[Tensor, "b 3 h w"], y: Float[Tensor, "b 3 h w"], mask: Mask | None = None
    ) -> Float[Tensor, " b"]:
        """The distance of pictures in [-1, 1].

        Raises:
            UserError: a mask: the networks were trained on whole pictures.
        """
        if mask is not None:
            raise UserError("LPIPS compares whole pictures, and these states have padding; set objective.lpips=null")
        h = torch.cat([x, y])
        if (factor := -(-SMALLEST // min(h.shape[-2:]))) > 1:
            h = nn.functional.interpolate(h, scale_factor=factor, mode="bilinear")
        h = (h - self.mean) / self.std
        total = x.new_zeros(len(x))
        for i, stage in enumerate(self.stages):
            h = stage(h)
            unit = h / (h.square().sum(1, keepdim=True).sqrt() + 1e-10)
            difference = (unit[: len(x)] - unit[len(x) :]).square()
            total = total + (difference * getattr(self, f"weight_{i}")).sum(1).mean((1, 2))
        return total

    def train(self, mode: bool = True) -> LPIPS:
        return super().train(False)


def _stages(network: str, weights: Mapping[str, Tensor]) -> nn.ModuleList:
    """The classifier's convolutions, cut after the layers that are compared."""
    try:
        from torchvision import models
    except ImportError as error:
        raise UserError("LPIPS needs torchvision: pip install torchvision") from error
    made: Any = (models.alexnet if network == "alex" else models.vgg16)(weights=None).features
    own = {name.removeprefix("features."): w for name, w in weights.items() if name.startswith("features.")}
    try:
        made.load_state_dict(own)
    except RuntimeError as error:
        raise UserError(f"the weights given as features are not those of torchvision's {network}: {error}") from error
    layers = [nn.ReLU() if isinstance(layer, nn.ReLU) else layer for layer in made]  # not in place: features are kept
    ends = [0, *(last + 1 for last in LAYERS[network])]
    return nn.ModuleList(nn.Sequential(*layers[a:b]) for a, b in pairwise(ends))


def _read(path: str) -> Mapping[str, Tensor]:
    """Tensors by name, from a file of PyTorch's without code or a safetensors file."""
    if not Path(path).is_file():
        raise UserError(f"{path} is not there: LPIPS's weights are given as files (see framework/objectives/lpips.py)")
    if path.endswith(".safetensors"):
        from safetensors.torch import load_file

        return load_file(path)
    loaded = torch.load(path, map_location="cpu", weights_only=True)
    assert isinstance(loaded, Mapping)
    return loaded
