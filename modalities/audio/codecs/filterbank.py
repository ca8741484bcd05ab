"""Mel filters: triangles that are evenly spaced on a scale of pitch, and magnitudes back from their readings.

Band j rises from edge f_j to its centre f_{j+1} and falls to f_{j+2}. The scales are Slaney's (Auditory Toolbox, 1998:
linear to 1 kHz, logarithmic above) and HTK's (2595 log10(1 + f/700)); norm "slaney" makes triangles of unit area (Hz).

The way back is underdetermined. Magnitudes s >= 0 with A s = m come from multiplicative updates (Lee and Seung 2001) of
the divergence sum m log(m / A s) - m + A s, which weighs loud and quiet bands by their ratios:

    s <- s * A^T(m / A s) / A^T 1,          s_0 = A^T(m / A 1) / A^T 1, the bands' means spread over their bins.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float32, Float64
from torch import Tensor

from framework.errors import UserError
from modalities.audio.codecs.stft import table

SCALES = ("slaney", "htk")
NORMS = ("slaney", None)
UPDATES = 10  # twice as many change the log-spectral distance of speech by less than 0.01 dB
TINY = 1e-12
LEAST_SINGULAR = 1e-6
BREAK, STEP = 1000.0, math.log(6.4) / 27  # Slaney's scale: where it bends, and its logarithmic step


@dataclass(frozen=True)
class MelProfile:
    """All that decides what a mel spectrogram's numbers mean, down to the last convention.

    Attributes:
        rate: Hz. n_fft: samples a frame and its Hann window. hop: samples between frames. bands: how many.
        low, high: the lowest and highest edge in Hz. scale: "slaney" or "htk". norm: "slaney" or None (peaks of one).
        lead: how many samples before the clip the first frame begins; (n_fft - hop) / 2: frames centred on blocks of
            hop, n_fft / 2: on multiples of hop (what others call center=True).
        power: of the magnitudes that are summed.
    """

    rate: int
    n_fft: int
    hop: int
    bands: int
    low: float
    high: float
    scale: str
    norm: str | None
    lead: int
    power: float = 1.0

    def differences(self, wanted: MelProfile) -> dict[str, tuple[object, object]]:
        """What would have to change: name -> (here, wanted)."""
        pairs = {f.name: (getattr(self, f.name), getattr(wanted, f.name)) for f in dataclasses.fields(self)}
        return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}

    def edges(self) -> Float64[Tensor, " e"]:
        """The bands + 2 edges in Hz; the inner ones are the centres."""
        low, high = (hertz_to_mel(f, self.scale) for f in (self.low, self.high))
        return mel_to_hertz(torch.linspace(low, high, self.bands + 2, dtype=torch.float64), self.scale)

    def filters(self, device: torch.device | str = "cpu") -> Float32[Tensor, "f k"]:
        """A: readings = A magnitudes, k from 0 to n_fft / 2."""
        return _filters(self, torch.device(device))

    def check(self) -> None:
        """Raise UserError for values out of range, and for filters that do not tell their bands apart."""
        if self.scale not in SCALES or self.norm not in NORMS:
            raise UserError(
                f"mel filters know the scales {', '.join(SCALES)} and the norms slaney and null; "
                f"got scale={self.scale!r}, norm={self.norm!r}"
            )
        if not 0 <= self.low < self.high <= self.rate / 2:
            raise UserError(
                f"mel filters lie between 0 and half the rate ({self.rate / 2:g} Hz); "
                f"got low={self.low:g}, high={self.high:g}"
            )
        if self.bands < 1:
            raise UserError(f"a mel spectrogram has bands; got bands={self.bands}")
        if not _full_rank(self):
            fewer = (dataclasses.replace(self, bands=n) for n in range(self.bands - 1, 0, -1))
            most = next((profile.bands for profile in fewer if _full_rank(profile)), 0)
            raise UserError(
                f"{self.bands} mel bands share too few frequency bins at n_fft={self.n_fft} and {self.rate} Hz: some "
                f"bands would repeat what others say; choose bands={most} or fewer, or a larger n_fft"
            )


def _full_rank(profile: MelProfile) -> bool:
    if profile.bands > profile.n_fft // 2 + 1:
        return False
    values = torch.linalg.svdvals(profile.filters().double())
    return bool(values[-1] > LEAST_SINGULAR * values[0])


@table
def _filters(profile: MelProfile, device: torch.device) -> Tensor:
    bins = torch.arange(profile.n_fft // 2 + 1, dtype=torch.float64) * (profile.rate / profile.n_fft)
    edges = profile.edges()[:, None]
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    triangles = torch.minimum((bins - left) / (centre - left), (right - bins) / (right - centre)).clamp_min(0)
    if profile.norm == "slaney":
        triangles = triangles * 2 / (right - left)
    return triangles.to(device, torch.float32)


def hertz_to_mel(frequency: float, scale: str) -> float:
    """A frequency in Hz on the scale of pitch."""
    if scale == "htk":
        return 2595 * math.log10(1 + frequency / 700)
    linear = frequency * 3 / 200
    return linear if frequency < BREAK else BREAK * 3 / 200 + math.log(frequency / BREAK) / STEP


def mel_to_hertz(mel: Float64[Tensor, " n"], scale: str) -> Float64[Tensor, " n"]:
    """The inverse."""
    if scale == "htk":
        return 700 * (10 ** (mel / 2595) - 1)
    bend = BREAK * 3 / 200
    return torch.where(mel < bend, mel * 200 / 3, BREAK * torch.exp(STEP * (mel - bend)))


def magnitudes(mel: Float[Tensor, "... f"], filters: Float[Tensor, "f k"]) -> Float[Tensor, "... k"]:
    """Magnitudes >= 0 that the filters read as `mel`, as nearly as UPDATES updates come; 0 in bins that none reads."""
    read = filters.sum(0).clamp_min(TINY)
    s = (mel / filters.sum(1)) @ filters / read
    for _ in range(UPDATES):
        s = s * ((mel / (s @ filters.T).clamp_min(TINY)) @ filters) / read
    return s
