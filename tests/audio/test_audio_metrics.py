"""Metrics of sound: real clips are as good as themselves, and each fault shows where it should."""

import json
import math

import numpy as np
import pytest
import torch

pytest.importorskip("torchaudio")

from framework.errors import DataError, UserError
from framework.metrics.feature_net import train_features
from modalities.audio.embeddings import ClapEmbedding, TorchScriptEmbedding
from modalities.audio.metrics import (
    Clips,
    check_metrics,
    confidence,
    diversity,
    evaluate_audio,
    matching_rows,
    nearest,
    nearest_distances,
)
from modalities.audio.spectrogram_picture import spectrogram_pixels
from modalities.audio.waveforms import Waveforms

RATE = 8000
HEADS = ("pitch", "timbre")
# torch would rather have torch.export; what others have saved is TorchScript.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")


def notes(n, seed, transposed=1.0):
    """Tones of four pitches and two timbres in a little noise."""
    random = np.random.default_rng(seed)
    time = torch.arange(2400) / RATE
    clips, labels = [], []
    for i in range(n):
        pitch, timbre = i % 4, i // 4 % 2
        hertz = transposed * 300 * 2 ** (pitch / 2) * random.uniform(0.98, 1.02)
        clip = sum(math.exp(-k * (2 - 1.5 * timbre)) * torch.sin(2 * math.pi * hertz * k * time) for k in (1, 2, 3))
        clip = clip * torch.exp(-random.uniform(2, 8) * time) + torch.from_numpy(random.normal(0, 0.003, 2400)).float()
        clips.append(random.uniform(0.1, 0.9) * clip / clip.abs().max())
        labels.append((pitch, timbre))
    return Clips(Waveforms.of(clips, RATE), torch.tensor(labels))


def picture(waveforms):
    return spectrogram_pixels(waveforms, bands=24, frames=12)


@pytest.fixture(scope="module")
def clips():
    return notes(240, seed=0)


@pytest.fixture(scope="module")
def net(clips):
    return train_features(picture(clips.waveforms), clips.labels, seed=0, steps=45, width=8)


@pytest.fixture(scope="module")
def evaluate(clips, net):
    real = clips.rows(np.arange(160))
    held_out = clips.rows(np.arange(160, 240))

    def of(samples, **more):
        return evaluate_audio(
            samples, real, net, seed=3, heads=HEADS, held_out=held_out, training=real.waveforms, picture=picture, **more
        )

    return of


@pytest.fixture(scope="module")
def good(evaluate):
    return evaluate(notes(80, seed=1), codec=lambda waveforms: waveforms)


def test_real_clips_are_as_good_as_the_ceiling(good):
    for name in (
        "frechet",
        "kid",
        "precision",
        "recall",
        "diversity",
        "confidence/pitch",
        "nearest_training_clip/mean",
    ):
        measured, ceiling = good[name], good[f"ceiling/{name}"]
        assert measured.n == ceiling.n == 80 and measured.seed == 3
        assert measured.low <= ceiling.high and ceiling.low <= measured.high, name
    assert good["class_accuracy/pitch"].value > 0.95 and good["class_accuracy/timbre"].value > 0.9
    assert good["reference/matched"].value == 1
    assert {name for name in good if name.startswith("checks/")} == {"checks/silent", "checks/clipped", "checks/offset"}
    assert all(good[f"checks/{name}"].value == 0 for name in ("silent", "clipped", "offset"))


def test_a_codec_that_loses_nothing_gives_the_ceiling_and_one_that_mutes_does_not(evaluate, good):
    for name in ("frechet", "class_accuracy"):
        assert good[f"resynthesis/{name}"] == good[f"ceiling/{name}"]

    def muted(waveforms):
        return Waveforms(waveforms.samples * 0, waveforms.lengths, waveforms.rate)

    assert evaluate(notes(80, seed=1), codec=muted)["resynthesis/frechet"].value > good["ceiling/frechet"].high


def test_real_clips_against_themselves_are_no_distance_apart(clips, net):
    result = evaluate_audio(clips, clips, net, seed=0, heads=HEADS, training=clips.waveforms, picture=picture)
    assert result["frechet"].value == pytest.approx(0, abs=1e-6)
    assert result["precision"].value == result["recall"].value == 1
    assert result["nearest_training_clip/mean"].value == 0


def test_a_transposed_set_is_further_away_and_copies_are_nearer(evaluate, clips, good):
    transposed = evaluate(notes(80, seed=1, transposed=1.25))
    assert transposed["frechet"].low > good["frechet"].high
    assert transposed["nearest_training_clip/mean"].low > good["nearest_training_clip/mean"].high
    copies = evaluate(clips.rows(np.arange(8).repeat(10)))
    assert copies["nearest_training_clip/mean"].value == 0 < copies["ceiling/nearest_training_clip/smallest"].value
    assert copies["diversity"].high < copies["ceiling/diversity"].low
    assert copies["class_accuracy"].value > 0.9, "what accuracy does not see"


def test_noise_and_silence_show(evaluate):
    noise = Waveforms(
        torch.randn(80, 2400, generator=torch.Generator().manual_seed(0)) * 0.1, torch.full((80,), 2400), RATE
    )
    quiet = Waveforms(noise.samples * 1e-5, noise.lengths, RATE)
    labels = notes(80, seed=1).labels
    noisy, mute = evaluate(Clips(noise, labels)), evaluate(Clips(quiet, labels))
    assert noisy["frechet"].low > noisy["ceiling/frechet"].high
    assert noisy["class_accuracy"].high < 0.6
    assert noisy["loudness/mean"].value == pytest.approx(-20, abs=0.1)
    assert mute["checks/silent"].value == 1 and noisy["checks/silent"].value == 0
    assert math.isnan(mute["loudness/mean"].value) and mute["loudness/mean"].n == 0


def test_matching_rows_have_the_mix_that_was_asked_for():
    asked = np.array([[0, 0]] * 3 + [[1, 0]] * 1)
    available = np.array([[0, 0]] * 10 + [[1, 0]] * 4 + [[1, 1]] * 50)
    rows, missing = matching_rows(asked, available, seed=0)
    assert missing == {} and len(set(rows)) == len(rows) == 12, "three whole mixes, each row once"
    for mix in available[rows].reshape(3, 4, 2):
        assert sorted(mix.tolist()) == sorted(asked.tolist())
    assert not np.array_equal(rows, matching_rows(asked, available, seed=1)[0])


def test_what_is_not_said_is_met_by_any_and_what_lacks_is_named():
    available = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    rows, missing = matching_rows(np.array([[0, -1], [0, 0]]), available, seed=0)
    assert missing == {} and sorted(rows.tolist()) == [0, 1], "who says less takes what the other leaves"
    rows, missing = matching_rows(np.array([[-1, -1]]), available, seed=0)
    assert sorted(rows.tolist()) == [0, 1, 2, 3]
    rows, missing = matching_rows(np.array([[2, 0], [1, 1], [1, 1]]), available, seed=0)
    assert rows.tolist() == [3] and missing == {(2, 0): 1, (1, 1): 1}


def test_missing_combinations_are_said_and_no_match_at_all_is_refused(clips, net):
    samples = clips.rows(np.arange(40))
    few = clips.rows(np.flatnonzero(clips.labels[:, 0].numpy() != 2)[:60])
    with pytest.warns(UserWarning, match=r"for 10 of 40 samples there is no reference clip.*\(2, 0\): 5 too few"):
        result = evaluate_audio(samples, few, net, seed=0, heads=HEADS, picture=picture)
    assert result["reference/matched"].value == 0.75
    other = Clips(few.waveforms, few.labels + 10)
    with pytest.raises(DataError, match="none of the 60 reference clips"):
        evaluate_audio(samples, other, net, seed=0, heads=HEADS, picture=picture)


def test_diversity_is_the_mean_over_pairs_of_one_kind():
    rows = np.random.default_rng(0).normal(size=(60, 3))
    labels = torch.arange(60).reshape(-1, 1) % 7
    pairs = [np.linalg.norm(rows[i] - rows[j]) for i in range(60) for j in range(i) if (labels[i] == labels[j]).all()]
    measured = diversity(rows, labels, seed=0)
    assert measured.value == pytest.approx(np.mean(pairs))
    assert measured.low < measured.value < measured.high
    assert diversity(2 * rows, labels, seed=0).value == pytest.approx(2 * measured.value)
    assert diversity(rows, None, seed=0).value != pytest.approx(measured.value)
    assert math.isnan(diversity(rows, torch.arange(60)[:, None], seed=0).value), "no two of one kind"
    assert math.isnan(diversity(rows[:5], None, seed=0).value)


def test_the_nearest_picture_is_the_nearest_in_decibels():
    random = np.random.default_rng(0)
    training = torch.from_numpy(random.integers(0, 256, (300, 1, 6, 5), dtype=np.uint8))
    images = torch.cat([training[:2], torch.from_numpy(random.integers(0, 256, (5, 1, 6, 5), dtype=np.uint8))])
    images[1, 0, 0, 0] ^= 1
    by_hand = [
        min(math.sqrt(((image - other) ** 2).mean()) * 80 / 255 for other in training.double())
        for image in images.double()
    ]
    assert np.allclose(nearest_distances(images, training), by_hand, atol=1e-5)
    result = nearest(images, training, seed=0)
    assert result["nearest_training_clip/smallest"].value == 0
    assert result["nearest_training_clip/mean"].value == pytest.approx(np.mean(by_hand), abs=1e-5)


def test_confidence_is_high_on_what_was_learned_and_lower_on_noise(clips, net):
    images = picture(clips.waveforms)
    noise = torch.randint(0, 256, images.shape, generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    known, unknown = confidence(images, net, HEADS, seed=0), confidence(noise, net, HEADS, seed=0)
    assert set(known) == {"confidence", "confidence/pitch", "confidence/timbre"}
    assert unknown["confidence/timbre"].value >= 0.5, "of two"
    assert known["confidence"].low > unknown["confidence"].high


def test_checks_count_shares():
    clip = 0.5 * torch.sin(torch.arange(4000) * 0.3)
    result = check_metrics(Waveforms.of([clip, 3 * clip, clip * 0, clip + 0.2], RATE), seed=0)
    assert [result[f"checks/{name}"].value for name in ("silent", "clipped", "offset")] == [0.25, 0.25, 0.25]
    assert result["loudness/mean"].n == 3


@pytest.fixture
def spectral(tmp_path):
    """A TorchScript network: energies of the lowest bins of each frame."""

    class Bins(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.fft.rfft(x.unfold(1, 400, 400)).abs()[:, :, :12]

    torch.jit.save(torch.jit.script(Bins()), tmp_path / "net.pt")
    return TorchScriptEmbedding(tmp_path / "net.pt", rate=4000, min_seconds=0.5)


def test_a_torchscript_network_gives_features_clip_by_clip(spectral, evaluate, good):
    tones = [torch.sin(2 * math.pi * 10 * k * torch.arange(8000) / RATE) for k in (2, 5)]
    features = spectral.features(Waveforms.of([*tones, torch.zeros(0)], RATE))
    assert features.argmax(1)[:2].tolist() == [2, 5], "bins of 10 Hz after resampling"
    assert not features[2].any()
    assert np.allclose(features[1:2], spectral.features(Waveforms.of(tones[1:], RATE)))
    result = evaluate(notes(80, seed=1), embeddings={"bins": spectral})
    assert result["bins/frechet"].n == result["ceiling/bins/frechet"].n == 80
    assert result["frechet"] == good["frechet"]


def test_a_wrong_network_is_refused_in_words(tmp_path):
    with pytest.raises(UserError, match="no embedding network"):
        TorchScriptEmbedding(tmp_path / "none.pt", rate=RATE)
    (tmp_path / "text.pt").write_text("no network")
    with pytest.raises(UserError, match="not a TorchScript file"):
        TorchScriptEmbedding(tmp_path / "text.pt", rate=RATE)
    torch.jit.save(torch.jit.script(torch.nn.Flatten(0)), tmp_path / "flat.pt")
    with pytest.raises(UserError, match=r"got \(8000,\)"):
        TorchScriptEmbedding(tmp_path / "flat.pt", rate=RATE).features(Waveforms.of([torch.zeros(5)], RATE))


def test_clap_from_a_folder_gives_unit_features_that_no_other_clip_changes(tmp_path):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    text = {
        "vocab_size": 30,
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
    }
    audio = {
        "hidden_size": 16, "patch_embeds_hidden_size": 8, "depths": [1, 1], "num_attention_heads": [1, 2],
        "num_hidden_layers": 2, "window_size": 4, "spec_size": 32, "num_mel_bins": 16, "patch_stride": [4, 4],
    }  # fmt: skip
    config = transformers.ClapConfig(text_config=text, audio_config=audio, projection_dim=12)
    transformers.ClapModel(config).save_pretrained(tmp_path)
    transformers.ClapFeatureExtractor(
        feature_size=16, sampling_rate=8000, hop_length=160, max_length_s=1, fft_window_size=256, frequency_max=4000,
        truncation="rand_trunc",
    ).save_pretrained(tmp_path)  # fmt: skip
    embedding = ClapEmbedding(tmp_path)
    clips = Waveforms.of([torch.sin(torch.arange(24000) * 0.3), 0.1 * torch.randn(4000), torch.zeros(0)], 16000)
    features = embedding.features(clips)
    assert features.shape == (3, 12)
    assert np.allclose(np.linalg.norm(features, axis=1), 1, atol=1e-5)
    assert np.allclose(features, np.concatenate([embedding.features(clips[i]) for i in range(3)]), atol=1e-5)
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "clap"
    with pytest.raises(UserError, match="no CLAP at"):
        ClapEmbedding(tmp_path / "nothing")
