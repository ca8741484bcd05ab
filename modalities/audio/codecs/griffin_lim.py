"""A waveform from magnitudes: fast Griffin-Lim (Griffin and Lim 1984; Perraudin, Balazs and Sondergaard 2013).

With P the projection onto the spectrograms of real signals (inverse and forward STFT) and S the given magnitudes,

    t_n = P(S e^{i angle(c_{n-1})}),        c_n = t_n + momentum (t_n - t_{n-1}).

Momentum 0 is the plain algorithm, whose inconsistency ||P(S e^{i angle}) - S e^{i angle}|| never grows. It starts with
zero phase at the centre of each frame, so that the result is a function of S; where the window vanishes, at the frame's
first sample, zero phase makes a worse start.

What keeps it fast: the window's overlap is summed once and not in each iteration, phases are never computed
(c / |c| by a reciprocal root), and frames overlap by sums of whole blocks.
"""

from __future__ import annotations

import torch
from jaxtyping import Complex64, Float, Int64
from torch import Tensor

from modalities.audio.codecs.stft import Framing

TINY = 1e-16


@torch.no_grad()
def griffin_lim(
    magnitude: Float[Tensor, "b l k"],
    framing: Framing,
    window: Float[Tensor, " n"],
    length: Int64[Tensor, " b"],
    iterations: int = 32,
    momentum: float = 0.99,
) -> Float[Tensor, "b t"]:
    """Clips of `length` samples, T = L hop, whose spectrogram has about these magnitudes.

    Args:
        magnitude: |DFT(w x_l)|, k from 0 to n_fft / 2. iterations: 0 takes the start as it is.
    """
    frames, size = magnitude.shape[1], framing.size
    magnitude = magnitude * framing.exist(frames, length)
    weights = framing.weights(window, frames, length)
    spectrum = _start(magnitude)
    previous: Complex64[Tensor, "b l k"] | None = None
    for _ in range(iterations):
        signal = framing.add(torch.fft.irfft(spectrum, size).mul_(window)).mul_(weights)
        consistent = torch.fft.rfft(signal.unfold(1, size, framing.hop) * window)
        # only the direction of c counts: c / (1 + momentum) saves a product
        ahead = consistent
        if previous is not None and momentum:
            ahead = torch.add(consistent, previous, alpha=-momentum / (1 + momentum))
        previous = consistent
        spectrum = _with_magnitude(ahead, magnitude)
    signal = framing.add(torch.fft.irfft(spectrum, size).mul_(window)).mul_(weights)
    return framing.crop(signal)


def _start(magnitude: Float[Tensor, "b l k"]) -> Complex64[Tensor, "b l k"]:
    """e^{i pi k}: a frame of even size that is symmetric about its centre."""
    signs = 1.0 - 2.0 * (torch.arange(magnitude.shape[2], device=magnitude.device) % 2)
    real = magnitude * signs.to(magnitude.dtype)
    return torch.complex(real, torch.zeros_like(real))


def _with_magnitude(c: Complex64[Tensor, "b l k"], magnitude: Float[Tensor, "b l k"]) -> Complex64[Tensor, "b l k"]:
    """magnitude * c / |c|."""
    parts = torch.view_as_real(c)
    real, imaginary = parts[..., 0], parts[..., 1]
    scale = torch.addcmul(real * real, imaginary, imaginary).add_(TINY).rsqrt_().mul_(magnitude)
    result = torch.empty_like(c)
    out = torch.view_as_real(result)
    torch.mul(real, scale, out=out[..., 0])
    torch.mul(imaginary, scale, out=out[..., 1])
    return result
