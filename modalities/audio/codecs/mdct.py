"""The modified discrete cosine transform: real, orthonormal, one number a sample (Princen, Johnson and Bradley 1987).

A frame of 2 M samples at a hop of M becomes M numbers,

    X(k) = sqrt(2 / M) sum_n w(n) x(n) cos(pi / M (n + 1/2 + M/2) (k + 1/2)),       w(n) = sin(pi (n + 1/2) / (2 M)).

Its inverse is the transpose. A frame alone returns x with a mirror image of itself; neighbours' mirror images cancel.
Frames begin M/2 before the clip: at its edges the image is of silence, so that no further frame is needed there.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor

from framework.errors import UserError
from modalities.audio.codecs.codec import Codec, check_scale
from modalities.audio.codecs.stft import Framing, check_power, compress, expand, sine, table


@table
def cosines(bands: int, device: torch.device) -> Float32[Tensor, "n k"]:
    """sqrt(2 / M) cos(pi / M (n + 1/2 + M/2) (k + 1/2)), (2 M, M)."""
    n, k = (torch.arange(size, dtype=torch.float64) for size in (2 * bands, bands))
    angle = torch.pi / bands * (n[:, None] + 0.5 + bands / 2) * (k + 0.5)
    return ((2 / bands) ** 0.5 * torch.cos(angle)).to(device, torch.float32)


@dataclass(frozen=True)
class MDCT(Codec):
    """sign(X) |X|^power of the MDCT as one channel, exactly invertible, with as many values as samples.

    Args:
        rate: Hz. bands: M, even; also the hop. power: compression of the amplitudes.
        mean, std: of the features; the defaults are those of speech at 8 kHz with a peak of 0.95.

    Raises:
        UserError: settings that cannot be met.
    """

    rate: int = 8000
    bands: int = 128
    power: float = 0.5
    mean: float = 0.0
    std: float = 0.22

    def __post_init__(self) -> None:
        if self.bands < 2 or self.bands % 2:
            raise UserError(f"an MDCT has an even number of bands; got {self.bands}")
        check_power(self.power)
        check_scale(self.std)

    @cached_property
    def framing(self) -> Framing:
        """Frames of 2 M samples, M/2 before the clip."""
        return Framing(2 * self.bands, self.bands, self.bands // 2)

    @property
    def hop(self) -> int:
        return self.bands

    @property
    def channels(self) -> int:
        return 1

    @property
    def frequencies(self) -> Float32[Tensor, " f"]:
        return (torch.arange(self.bands) + 0.5) * (self.rate / (2 * self.bands))

    def analyse(self, waveform: Float[Tensor, "b t"]) -> Float[Tensor, "b l 1 f"]:
        windowed = self.framing.split(waveform) * sine(2 * self.bands, waveform.device)
        return compress(windowed @ cosines(self.bands, waveform.device), self.power)[:, :, None]

    def synthesise(self, features: Float[Tensor, "b l 1 f"], length: Int64[Tensor, " b"]) -> Float[Tensor, "b t"]:
        frames = expand(features[:, :, 0], self.power) @ cosines(self.bands, features.device).T
        return self.framing.join(frames, sine(2 * self.bands, features.device), length)
