"""Distances: zero for the same clip, closed forms for gains, tones and noise, and blind to padding."""

import math
import sys

import pytest
import torch

from framework.errors import UserError
from modalities.audio.distances import log_spectral_distance, mel_error, si_sdr, stoi
from modalities.audio.waveforms import Waveforms

DISTANCES = [log_spectral_distance, mel_error]


def noise(batch=2, samples=4000, seed=0):
    return 0.1 * torch.randn(batch, samples, generator=torch.Generator().manual_seed(seed))


def clips(samples, lengths=None, rate=8000):
    lengths = [samples.shape[1]] * len(samples) if lengths is None else lengths
    return Waveforms(samples, torch.tensor(lengths), rate)


@pytest.mark.parametrize("distance", DISTANCES)
def test_the_same_clip_is_at_zero(distance):
    assert (distance(clips(noise()), clips(noise())) == 0).all()


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("gain_db", [6.0, -6.0])
def test_a_gain_is_that_many_db(distance, gain_db):
    found = distance(clips(10 ** (gain_db / 20) * noise()), clips(noise()), floor_db=200.0)
    torch.testing.assert_close(found, torch.full((2,), abs(gain_db)), rtol=1e-3, atol=0)


@pytest.mark.parametrize("distance", DISTANCES)
def test_what_lies_below_the_floor_does_not_count(distance):
    quiet = 1e-4 * noise(seed=1)
    assert (distance(clips(noise() + quiet * 1e-3), clips(noise()), floor_db=40.0) < 0.05).all()
    silent = distance(clips(torch.zeros(2, 4000)), clips(noise()), floor_db=40.0)
    louder = distance(clips(torch.zeros(2, 4000)), clips(noise()), floor_db=60.0)
    torch.testing.assert_close(louder - silent, torch.full((2,), 20.0), rtol=0.1, atol=0)


def test_no_distance_hears_a_sign_or_the_padding_or_other_clips():
    x = noise(3)
    x[1, 1500:] = 0
    lengths = [4000, 1500, 4000]
    y = -x + 0.01 * noise(3, seed=1)
    y[1, 1500:] = 0
    x[1], y[1] = 1e-3 * x[1], 1e-3 * y[1]  # a floor that clips shared would swallow it
    for distance in (log_spectral_distance, mel_error, si_sdr):
        together = distance(clips(y, lengths), clips(x, lengths))
        torch.testing.assert_close(together, distance(clips(-y, lengths), clips(x, lengths)), rtol=1e-4, atol=1e-4)
        alone = distance(clips(y[1:2, :1500]), clips(x[1:2, :1500]))
        torch.testing.assert_close(together[1:2], alone, rtol=1e-3, atol=1e-3)


def test_si_sdr_is_the_ratio_of_orthogonal_parts():
    time = torch.arange(4000) / 8000
    signal, error = (torch.sin(2 * math.pi * f * time)[None] for f in (400, 1000))
    for db in (-20.0, 0.0, 30.0):
        found = si_sdr(clips(signal + 10 ** (-db / 20) * error + 0.3), clips(signal))
        assert float(found) == pytest.approx(db, abs=1e-3)
    assert float(si_sdr(clips(3 * signal), clips(signal))) > 80
    assert float(si_sdr(clips(error), clips(signal))) < -80


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pystoi", None)
    with pytest.raises(UserError, match="pip install pystoi"):
        stoi(clips(noise()), clips(noise()))


def test_intelligibility_falls_with_noise():
    pytest.importorskip("pystoi")
    time = torch.arange(16000) / 8000
    speech = torch.sin(2 * math.pi * 500 * time) * torch.sin(2 * math.pi * 3 * time).square() + 0.05 * noise(1, 16000)
    clear, poor = (stoi(clips(speech + level * noise(1, 16000, 1)), clips(speech)) for level in (0.0, 30.0))
    assert clear == pytest.approx(1, abs=1e-6) and poor < 0.8


@pytest.mark.parametrize("distance", [log_spectral_distance, mel_error, si_sdr, stoi])
def test_clips_that_do_not_go_together_are_refused(distance):
    x = noise()
    for other in (clips(x, rate=16000), clips(x, [4000, 100]), clips(x[:1])):
        with pytest.raises(UserError, match="same number, lengths and rate"):
            distance(other, clips(x))
    with pytest.raises(UserError, match="no clips"):
        distance(clips(x[:0]), clips(x[:0]))
