"""Levels: closed forms of sines, invariances, and the loudness that the standard prescribes for its test tones."""

import math

import numpy as np
import pytest
import torch
from scipy.signal import lfilter

from framework.errors import DataError
from modalities.audio.levels import (
    FILTERS,
    TARGETS,
    clipped_share,
    is_silent,
    loudness,
    peak_db,
    remove_mean,
    rms_db,
    set_level,
    trim_silence,
)


def sine(frequency=997.0, seconds=3.0, rate=48_000, amplitude=1.0):
    return (
        amplitude * torch.sin(2 * torch.pi * frequency * torch.arange(round(seconds * rate)).double() / rate)
    ).float()


def test_levels_of_a_sine():
    assert peak_db(sine(amplitude=0.5)) == pytest.approx(20 * math.log10(0.5), abs=1e-3)
    assert rms_db(sine(amplitude=0.5)) == pytest.approx(20 * math.log10(0.5) - 3.0103, abs=1e-3)
    assert peak_db(torch.zeros(9)) == rms_db(torch.zeros(9)) == loudness(torch.zeros(9_000), 8_000) == -math.inf


RATES = [4_000, 8_000, 11_025, 16_000, 22_050, 44_100, 48_000, 96_000]


@pytest.mark.parametrize("rate", RATES)
def test_loudness_of_the_reference_tone(rate):
    """BS.1770-4: a sine of 997 Hz at 0 dBFS in one channel is -3.01 LUFS."""
    assert loudness(sine(rate=rate), rate) == pytest.approx(-3.01, abs=0.01)


@pytest.mark.parametrize("frequency", [30, 100, 1_500])
def test_loudness_does_not_depend_on_the_rate(frequency):
    levels = [loudness(sine(frequency, rate=rate), rate) for rate in RATES]
    assert max(levels) - min(levels) < 0.03


def test_weighting_has_the_power_of_the_standards_recursion():
    """Noise through the two filters of the standard, sample by sample at 48 kHz, has the loudness that is measured."""
    noise = 0.1 * np.random.default_rng(0).standard_normal(48_000 * 2)
    filtered = noise
    for numerator, denominator in FILTERS:
        filtered = lfilter(numerator, denominator, filtered)
    expected = -0.691 + 10 * math.log10(np.mean(filtered**2))
    assert loudness(torch.from_numpy(noise), 48_000) == pytest.approx(expected, abs=0.02)


def test_loudness_follows_gain_and_ignores_pauses():
    tone = sine(rate=16_000)
    assert loudness(tone / 10, 16_000) == pytest.approx(loudness(tone, 16_000) - 20, abs=1e-3)
    paused = torch.cat([tone, torch.zeros(160_000)])  # blocks that straddle the end count a little less
    assert loudness(paused, 16_000) == pytest.approx(loudness(tone, 16_000), abs=0.3)
    # Silence is gated absolutely, a murmur 25 dB below relatively.
    assert loudness(torch.cat([tone, tone / 18, tone / 18, tone / 18]), 16_000) > loudness(tone, 16_000) - 0.3


def test_blocks_overlap_by_three_quarters():
    """A burst as long as a block, on the blocks' grid, fills 1/4, 2/4, 3/4, 4/4, 3/4, 2/4, 1/4 of seven blocks."""
    silence = torch.zeros(16_000)
    burst = torch.cat([silence, sine(rate=16_000, seconds=0.4), silence])
    assert loudness(burst, 16_000) == pytest.approx(-3.01 + 10 * math.log10(4 / 7), abs=0.02)


def test_a_clip_shorter_than_a_block_has_a_loudness():
    assert loudness(sine(rate=8_000, seconds=0.2), 8_000) == pytest.approx(-3.01, abs=0.05)


def test_a_mean_is_removed():
    assert torch.allclose(remove_mean(sine() + 0.3), sine() - sine().mean(), atol=1e-6)


@pytest.mark.parametrize(("level", "measure"), [("peak", peak_db), ("rms", rms_db), ("loudness", None)])
@pytest.mark.parametrize("target", [None, -30.0])
def test_a_clip_is_brought_to_its_level_whatever_it_was(level, measure, target):
    for amplitude in (0.001, 0.2, 1.0):
        clip = set_level(sine(rate=16_000, amplitude=amplitude), 16_000, level, target)
        measured = loudness(clip, 16_000) if measure is None else measure(clip)
        assert measured == pytest.approx(TARGETS[level] if target is None else target, abs=0.01)


def test_no_level_clips():
    """A click among quiet noise cannot be made loud: its peak stays at 1."""
    click = 1e-3 * torch.randn(16_000, generator=torch.Generator().manual_seed(0))
    click[8_000] = 1.0
    for level in ("rms", "loudness"):
        clip = set_level(click, 16_000, level)
        assert clip.abs().max() == pytest.approx(1.0) and rms_db(clip) < TARGETS[level]
    assert set_level(sine(amplitude=3.0), 48_000, "none").abs().max() == pytest.approx(1.0)
    assert torch.equal(set_level(sine(amplitude=0.3), 48_000, "none", -20.0), sine(amplitude=0.3))


def test_what_is_too_quiet_for_its_loudness_is_refused():
    with pytest.raises(DataError, match="too quiet"):
        set_level(sine(amplitude=1e-5), 48_000, "loudness")


def test_silence():
    assert is_silent(torch.zeros(10)) and is_silent(sine(amplitude=0.0009)) and not is_silent(sine(amplitude=0.0011))
    assert is_silent(sine(amplitude=0.05), threshold_db=-20) and not is_silent(sine(amplitude=0.2), threshold_db=-20)


def test_clipping_is_seen_and_loudness_is_not_clipping():
    tone = sine(300, rate=8_000, amplitude=2.0)
    assert clipped_share(sine(300, rate=8_000)) == 0 == clipped_share(torch.randn(1_000))
    # A sine of amplitude 2 is beyond 1 for two thirds of its period.
    assert clipped_share(tone.clamp(-1, 1)) == pytest.approx(2 / 3, abs=0.02)
    assert clipped_share(0.1 * tone.clamp(-1, 1)) == clipped_share(tone.clamp(-1, 1))
    assert clipped_share(tone.clamp(max=1)) == pytest.approx(1 / 3, abs=0.02)
    assert clipped_share(torch.zeros(10)) == 1


def test_silence_at_the_ends_is_cut_off():
    tone = sine(rate=8_000, seconds=0.5)
    padded = torch.cat([torch.zeros(4_000), tone, torch.full((3_000,), 1e-3)])
    trimmed = trim_silence(padded, 8_000)
    assert len(tone) <= len(trimmed) <= len(tone) + 2 * 160
    assert torch.equal(trim_silence(padded, 8_000, margin=10.0), padded)
    assert torch.equal(trim_silence(0.1 * padded, 8_000), 0.1 * trimmed)
    assert len(trim_silence(padded, 8_000, threshold_db=-70)) > 7_000
