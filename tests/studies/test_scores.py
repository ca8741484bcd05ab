"""Scores, features and pictures of single samples, as studies ask the modalities for them."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from framework.metrics.score import Score, verdicts
from tests.toy import Points


def test_a_score_is_one_number_a_sample() -> None:
    assert verdicts([True, False], "x").values.tolist() == [1.0, 0.0]
    with pytest.raises(ValueError, match="one number a sample"):
        Score(np.zeros((2, 2)), "x")
    with pytest.raises(ValueError, match="0 or 1"):
        Score(np.array([0.5]), "x", kind="binary")
    assert np.isnan(Score(np.array([np.nan, 1.0]), "x", kind="binary").values[0])


def test_a_stranger_is_asked_for_nothing(tmp_path: Path) -> None:
    stranger, data = Points(), None
    assert stranger.scores(torch.zeros(2, 2), [0, 1], data, 0) == {}  # type: ignore[arg-type]
    assert stranger.features(torch.zeros(2, 2), data) is None  # type: ignore[arg-type]
    assert stranger.real(data, 3, 0) is None  # type: ignore[arg-type]
    assert stranger.show(torch.zeros(2, 2), [0, 1]) == ["<code>points.json</code>"] * 2


def test_pictures_obey_the_captions_that_they_were_drawn_for_and_no_others() -> None:
    pytest.importorskip("PIL")
    from framework.conditions import TextCondition
    from modalities.images.data import ShapesData
    from modalities.images.modality import Images

    data = ShapesData(size=16, train_length=64, validation_length=16)
    data.setup("fit")
    images = Images(TextCondition(tokenizer=None), size=data.size, channels=3)  # type: ignore[arg-type]
    samples, captions = images.real(data, 6, 0)
    assert images.scores(samples, captions, data, 0)["caption"].values.tolist() == [1.0] * 6
    moved = captions[1:] + captions[:1]
    assert images.scores(samples, moved, data, 0)["caption"].values.mean() < 1
    assert all(re.match(r'<img alt=".*" src="data:image/png;base64,', each) for each in images.show(samples, captions))


def test_notes_are_as_high_as_their_captions_and_silence_is_an_octave_off() -> None:
    pytest.importorskip("torchaudio")
    from modalities.audio.notes_data import NotesData
    from modalities.audio.page import fragments
    from modalities.audio.waveforms import Waveforms

    data = NotesData(train_length=4, validation_length=4)
    data.setup("fit")
    real = data.reference(3, 0)
    found = data.scores(real.waveforms, real.captions)
    assert found["pitch"].values.max() < 50 and found["caption"].values.tolist() == [1.0] * 3
    clips = real.waveforms
    silence = Waveforms(torch.zeros_like(clips.samples), clips.lengths, clips.rate)
    assert data.scores(silence, real.captions)["pitch"].values.tolist() == [1200.0] * 3
    assert all("<audio controls" in each and "<img" in each for each in fragments(clips, real.captions))


def test_a_molecule_is_the_same_point_however_it_lies_and_is_counted() -> None:
    pytest.importorskip("rdkit")
    from modalities.molecules.features import features, moments, points
    from modalities.molecules.molecule import Molecule

    rng = np.random.default_rng(0)
    bonds = np.zeros((5, 5), np.int64)
    for i in range(1, 5):
        bonds[0, i] = bonds[i, 0] = 1
    methane = Molecule(np.array([6, 1, 1, 1, 1]), np.zeros(5, np.int64), bonds, rng.normal(size=(5, 3)))
    order = rng.permutation(5)
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    moved = Molecule(
        methane.elements[order], methane.charges, bonds[np.ix_(order, order)], methane.positions[order] @ turn + 3.0
    )
    one, two = points([methane, moved])
    np.testing.assert_allclose(one, two, atol=1e-9)
    assert one[:2].tolist() == [0.8, 0.2] and one[9] == 5 and one[10] == 0 and one[11] == 1
    broken = Molecule(methane.elements, methane.charges, np.zeros_like(bonds), methane.positions)
    assert points([broken])[0][11] == 5
    mean, std = moments([methane, broken])
    assert np.abs(features([methane, broken], mean, std).mean(0)).max() < 1e-6


def test_a_molecules_fragment_needs_nothing_and_shows_every_atom() -> None:
    pytest.importorskip("rdkit")
    from modalities.molecules.fragment import fragment
    from modalities.molecules.molecule import Molecule

    bonds = np.array([[0, 2], [2, 0]])
    pair = Molecule(np.array([6, 8]), np.zeros(2, np.int64), bonds, np.array([[0.0, 0, 0], [1.2, 0, 0]]))
    text = fragment(pair, 'a "C=O" <b>')
    assert text.count("<circle") == 3 and text.count("<path") == 2  # with the script's own words
    assert "http" not in text and "<b>" not in text
    lost = Molecule(pair.elements, pair.charges, bonds, np.array([[0.0, 0, 0], [np.nan, 0, 0]]))
    assert fragment(lost, "").count("<circle") == 2
