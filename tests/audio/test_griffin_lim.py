"""Griffin-Lim: equal to its definition, never worse with iterations, and better with momentum."""

import math
from itertools import pairwise

import pytest
import torch

from modalities.audio.codecs.griffin_lim import griffin_lim
from modalities.audio.codecs.stft import Framing, hann

FRAMING = Framing(32, 8, 12)
WINDOW = hann(32, torch.device("cpu")).double()


def spectrum(signal, framing=FRAMING, window=WINDOW):
    return torch.fft.rfft(framing.split(signal) * window)


def speechlike(samples=512, seed=0):
    generator = torch.Generator().manual_seed(seed)
    time = torch.arange(samples).double()
    return torch.sin(0.3 * time + 2e-4 * time**2)[None] + 0.1 * torch.randn(2, samples, generator=generator).double()


def naive(magnitude, length, iterations, momentum):
    """The algorithm as it is written, with loops over samples, sums for transforms, and angles."""
    frames, bins = magnitude.shape
    size, hop, lead = FRAMING.size, FRAMING.hop, FRAMING.lead
    w = WINDOW.tolist()
    n = torch.arange(size).double()
    waves = torch.exp(2j * math.pi * torch.outer(torch.arange(size).double(), n) / size)  # [k, n]

    def inverse(c):
        full = torch.zeros(frames, size, dtype=torch.complex128)
        full[:, :bins] = c
        full[:, bins:] = c[:, 1 : bins - 1].flip(1).conj()
        full[:, 0], full[:, size // 2] = full[:, 0].real + 0j, full[:, size // 2].real + 0j
        y = (full @ waves / size).real
        x = torch.zeros(frames * hop, dtype=torch.float64)
        for t in range(length):
            hits = [
                (i, t - i * hop + lead) for i in range(frames) if 0 <= t - i * hop + lead < size and i * hop < length
            ]
            x[t] = sum(w[m] * float(y[i, m]) for i, m in hits) / sum(w[m] ** 2 for _, m in hits)
        return x

    def forward(x):
        y = torch.zeros(frames, size, dtype=torch.float64)
        for i in range(frames):
            for m in range(size):
                t = i * hop - lead + m
                y[i, m] = w[m] * float(x[t]) if 0 <= t < len(x) else 0.0
        return (y + 0j) @ waves.conj().T[:, :bins]

    angle = math.pi * torch.arange(bins).double() * torch.ones(frames, 1)
    before = None
    for _ in range(iterations):
        t = forward(inverse(magnitude * torch.exp(1j * angle)))
        c = t if before is None else t + momentum * (t - before)
        before, angle = t, c.angle()
    return inverse(magnitude * torch.exp(1j * angle))


@pytest.mark.parametrize("momentum", [0.0, 0.99])
@pytest.mark.parametrize("length", [96, 83])
def test_it_is_what_it_is_defined_to_be(momentum, length):
    signal = speechlike(96)
    signal[:, length:] = 0
    magnitude = spectrum(signal).abs()
    ours = griffin_lim(magnitude, FRAMING, WINDOW, torch.tensor([length, length]), 4, momentum)
    for i in range(2):
        torch.testing.assert_close(ours[i], naive(magnitude[i], length, 4, momentum), rtol=0, atol=1e-9)


def inconsistency(magnitude, iterations, momentum=0.0):
    signal = griffin_lim(magnitude, FRAMING, WINDOW, torch.tensor([512, 512]), iterations, momentum)
    return (
        ((spectrum(signal).abs() - magnitude).flatten(1).norm(dim=1) / magnitude.flatten(1).norm(dim=1)).mean().item()
    )


def test_plain_iterations_never_make_it_worse():
    errors = [inconsistency(spectrum(speechlike()).abs(), n) for n in range(0, 40, 4)]
    assert all(later <= earlier + 1e-12 for earlier, later in pairwise(errors))
    assert errors[-1] < 0.5 * errors[0]


def test_momentum_gets_further_in_as_many_iterations():
    magnitude = spectrum(speechlike()).abs()
    assert inconsistency(magnitude, 32, 0.99) < inconsistency(magnitude, 64, 0.0)


def test_it_stays_where_it_should():
    """The signal that is symmetric about each frame's centre in its magnitudes' eyes: a fixed point of zero phase."""
    impulse = torch.zeros(1, 8, dtype=torch.float64)
    impulse[0, 4] = 1.0
    framing = Framing(32, 8, 12)  # one frame, whose centre is sample 4
    found = griffin_lim(spectrum(impulse).abs(), framing, WINDOW, torch.tensor([8]), 5)
    torch.testing.assert_close(found, impulse, rtol=0, atol=1e-12)


def test_levels_scale_and_single_precision_is_enough():
    magnitude = spectrum(speechlike()).abs()
    length = torch.tensor([512, 400])
    exact = griffin_lim(magnitude, FRAMING, WINDOW, length, 8)
    torch.testing.assert_close(griffin_lim(1e-3 * magnitude, FRAMING, WINDOW, length, 8), 1e-3 * exact)
    single = griffin_lim(magnitude.float(), FRAMING, WINDOW.float(), length, 8)
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), exact, rtol=0, atol=1e-3)
    assert (exact[1, 400:] == 0).all()


def test_silence_stays_silent():
    assert (griffin_lim(torch.zeros(1, 4, 17), FRAMING, WINDOW.float(), torch.tensor([32])) == 0).all()
