"""Faults are found where they were put and nowhere else."""

import math

import numpy as np
import pytest
import torch

from modalities.audio.checks import clipped, loudness, offset, peaks, silent
from modalities.audio.waveforms import Waveforms

RATE = 8000
TIME = torch.arange(RATE // 2) / RATE
SINE = torch.sin(2 * math.pi * 220 * TIME)


def of(*clips):
    return Waveforms.of([torch.as_tensor(clip).float() for clip in clips], RATE)


def test_silence_is_found_and_a_short_sound_in_it_is_none():
    click = torch.zeros(4000)
    click[2000:2200] = 0.01 * SINE[:200]
    clips = of(torch.zeros(4000), torch.zeros(0), 1e-4 * SINE, click, 0.01 * SINE, torch.full((5,), 0.5))
    assert silent(clips).tolist() == [1, 1, 1, 0, 0, 0]
    assert silent(clips, threshold=-30).tolist() == [1, 1, 1, 1, 1, 0]


def test_clipping_is_found_and_a_full_sine_is_none():
    cut = (2 * SINE).clamp(-1, 1)
    above = 0.5 * SINE
    above[7] = 1.01
    low = torch.sin(2 * math.pi * 30 * TIME)
    touching = torch.tensor([0.0, 1, 1, 0, -1, -1, 1, 1, 0])
    clips = of(cut, cut.clamp_min(-0.5), above, SINE, low, touching, 0.9 * cut, torch.zeros(0))
    assert clipped(clips).tolist() == [1, 1, 1, 0, 0, 0, 0, 0]


def test_padding_is_no_part_of_a_clip():
    clip = 0.005 + 0.02 * torch.ones(100)
    clips = of(clip, SINE, 0.3 * SINE, torch.zeros(0))
    assert offset(clips).tolist() == [1, 0, 0, 0], "100 samples are not averaged with 3900 of padding"
    assert offset(clips, threshold=0.1).tolist() == [0, 0, 0, 0]
    assert loudness(of(SINE[:800], SINE))[0] == pytest.approx(loudness(of(SINE[:800]))[0])


def test_levels_are_those_of_the_closed_forms():
    clips = of(SINE, 0.1 * SINE, 0.1 * SINE + 0.5, torch.zeros(9), torch.zeros(0))
    assert np.allclose(loudness(clips), [-3.01, -23.01, -23.01, -120, -120], atol=0.01)
    assert np.allclose(peaks(clips), [0, -20, 20 * math.log10(0.6), -120, -120], atol=0.02)
