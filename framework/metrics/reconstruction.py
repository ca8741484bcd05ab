r"""How close reconstructions are to their originals, pair by pair.

psnr    dB    10 log10(peak^2 / mean squared error)
ssim    0..1  structural similarity under a Gaussian window (Wang et al. 2004, "Image Quality Assessment")
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from framework.metrics.intervals import mean_interval
from framework.metrics.measurement import Measurement
from framework.state import masked_sum

MOST_DB = 100.0  # of a reconstruction that equals its original
WINDOW, DEVIATION = 11, 1.5
STABLE = (0.01, 0.03)


def psnr(
    original: Float[Tensor, "b ..."], other: Float[Tensor, "b ..."], peak: float, mask: Tensor | None = None
) -> Float[Tensor, " b"]:
    """In dB, at most 100, over the elements where the mask (first axes of the others) is True."""
    squared, count = masked_sum((original.double() - other.double()).square(), mask)
    error = (squared / count.clamp(min=1) / peak**2).clamp(min=10 ** (-MOST_DB / 10))
    return -10 * error.log10()


def ssim(original: Float[Tensor, "b c h w"], other: Float[Tensor, "b c h w"], peak: float) -> Float[Tensor, " b"]:
    """The mean over all places of the window that lie within the picture, and over channels; smaller pictures than the
    window have a smaller window."""
    x, y = original.double(), other.double()
    size = min(WINDOW, *x.shape[-2:])
    offsets = torch.arange(size, dtype=x.dtype, device=x.device) - (size - 1) / 2
    line = torch.exp(-0.5 * (offsets / DEVIATION).square())
    line = line / line.sum()
    channels = x.shape[1]
    window = (line[:, None] * line).expand(channels, 1, size, size)

    def local(values: Tensor) -> Tensor:
        return functional.conv2d(values, window, groups=channels)

    mean_x, mean_y = local(x), local(y)
    var_x, var_y = local(x * x) - mean_x**2, local(y * y) - mean_y**2
    covariance = local(x * y) - mean_x * mean_y
    c1, c2 = ((k * peak) ** 2 for k in STABLE)
    likeness = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    return (likeness / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))).flatten(1).mean(1)


def measured(values: Float[Tensor, " b"], seed: int) -> Measurement:
    """The mean over samples with its bootstrap interval."""
    return Measurement(*mean_interval(values.double().cpu().numpy(), seed=seed), n=len(values), seed=seed)
