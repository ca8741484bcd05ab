"""Latents as a codec of sound: their arithmetic, their ends, and a model that lives in them."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from experiments import evaluate, train
from experiments.configuration import compose
from framework import load
from framework.conditions import Unconditional
from framework.errors import UserError
from framework.latents import Autoencoder, TrainedAutoencoder, load_autoencoder
from framework.metrics.measurement import read_metrics
from framework.store import AUTOENCODER, save
from modalities.audio.codecs.latent import Latent
from modalities.audio.codecs.log_mel import LogMel
from modalities.audio.modality import Audio

MEL = {"n_fft": 128, "hop": 32, "bands": 16, "iterations": 2}


def go(command: Any, name: str, *overrides: str) -> Any:
    return command.run(compose(name, list(overrides)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An autoencoder that is not trained, none of whose layers is at its beginning."""
    from framework.backbones.autoencoder import KLAutoencoder

    backbone = {"channels": 1, "width": 4, "multipliers": [1, 2, 2], "latent_channels": 3}
    torch.manual_seed(0)
    network = KLAutoencoder(**backbone)  # type: ignore[arg-type]
    for parameter in network.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    network.latent_std.fill_(0.5)
    config = {
        "kind": AUTOENCODER,
        "modality": {
            "_target_": "modalities.audio.modality.Audio",
            "condition": {"_target_": "framework.conditions.Unconditional"},
            "codec": {"_target_": "modalities.audio.codecs.log_mel.LogMel", **MEL},
            "seconds": 0.256,
            "durations": [0.1, 0.256],
        },
        "backbone": {"_target_": "framework.backbones.autoencoder.KLAutoencoder", **backbone},
    }
    model = Autoencoder(Audio(Unconditional(), LogMel(**MEL), 0.256, [0.1, 0.256]), network)  # type: ignore[arg-type]
    return save(model, config, tmp_path_factory.mktemp("vae") / "model", "# a card\n")


@pytest.fixture
def latent(folder: Path) -> Latent:
    return Latent(TrainedAutoencoder(str(folder)))


def clips(*lengths: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    waveform = 0.2 * torch.randn(len(lengths), 2048, generator=generator)
    return torch.where(torch.arange(2048) < torch.tensor(lengths)[:, None], waveform, 0.0)


def test_the_arithmetic_of_frames(latent: Latent) -> None:
    assert (latent.rate, latent.hop, latent.channels, latent.bands) == (8000, 128, 3, 4)
    assert latent.frames(2048) == 16 and latent.frames(2049) == 17 and latent.samples(16) == 2048
    assert latent.frequencies.shape == (4,) and bool((latent.frequencies.diff() > 0).all())
    inner = LogMel(**MEL)  # type: ignore[arg-type]
    torch.testing.assert_close(latent.frequencies[0], inner.frequencies[:4].mean())
    states = latent.encode(clips(2048, 500))
    assert states.shape == (2, 16, 3, 4)
    assert latent.decode(states, torch.tensor([2048, 500])).shape == (2, 2048)


def test_latents_are_those_that_the_autoencoder_was_trained_on(latent: Latent, folder: Path) -> None:
    """The frames of the modality, masked as in training, give the same latents and the same way back."""
    modality = Audio(Unconditional(), LogMel(**MEL), 0.256, [0.1, 0.256])  # type: ignore[arg-type]
    lengths = torch.tensor([2048, 501])
    batch = {"waveform": clips(2048, 501), "length": lengths, "caption": ["", ""]}
    x, condition = modality.encode(batch)
    mask = condition["mask"][:, None, :, None].expand(-1, 1, -1, 16)
    network = load_autoencoder(folder).network
    expected = network.to_latents(x.transpose(1, 2), mask).transpose(1, 2)
    states = latent.encode(batch["waveform"])
    torch.testing.assert_close(states, expected)
    back = load_autoencoder(folder).reconstruct(x, condition)
    torch.testing.assert_close(latent.decode(states, lengths), modality.codec.decode(back, lengths), atol=1e-4, rtol=0)


def test_a_clip_does_not_depend_on_its_canvas(latent: Latent) -> None:
    alone, padded = latent.encode(clips(501)[:, :501]), latent.encode(clips(501))
    torch.testing.assert_close(alone, padded[:, :4])
    assert not bool(padded[:, 4:].any())
    length = torch.tensor([501])
    clip = latent.decode(padded, length)[:, :501]
    torch.testing.assert_close(latent.decode(alone, length)[:, :501], clip)
    beyond = padded.clone()
    beyond[:, 4:] = 9.0
    torch.testing.assert_close(latent.decode(beyond, length)[:, :501], clip)


def test_silence_at_the_end_is_part_of_a_clip_that_is_not_padded(folder: Path) -> None:
    whole = Latent(TrainedAutoencoder(str(folder)), padded=False).encode(clips(501))
    assert bool(whole[:, 8:].any())


def test_the_codec_is_the_one_that_it_was_trained_on(folder: Path, latent: Latent) -> None:
    autoencoder = TrainedAutoencoder(str(folder))
    assert Latent(autoencoder, codec=LogMel(**MEL)) == latent  # type: ignore[arg-type]
    assert Latent(autoencoder).fingerprint() == latent.fingerprint()
    assert Latent(autoencoder, padded=False).fingerprint() != latent.fingerprint()
    with pytest.raises(UserError, match="was trained on frames of"):
        Latent(autoencoder, codec=LogMel(**{**MEL, "bands": 12}))  # type: ignore[arg-type]
    with pytest.raises(UserError, match="trained at 8000 Hz"):
        Latent(autoencoder, rate=16000)


def test_notes_are_coded_and_then_diffused(tmp_path: Path) -> None:
    small = ["debug=fast", "logger=csv", "data.train_length=16", "data.validation_length=8", "data.batch_size=4"]
    vae, run = tmp_path / "vae", tmp_path / "run"
    mel = ["modality.codec.iterations=2", "backbone.width=4"]
    go(train, "train", "experiment=audio/notes_vae", *small, *mel, f"run={vae}")
    go(evaluate, "evaluate", f"run={vae}", "n=6")
    metrics = read_metrics(vae / "evaluation" / "metrics.json")
    assert metrics["psnr"].n == 6
    assert (vae / "evaluation" / "reconstructions" / "sheet.png").is_file()
    words = ["codec@modality.codec=audio/latent", f"modality.codec.autoencoder.path={vae}", "backbone.width=16"]
    go(train, "train", "experiment=audio/notes", *words, "backbone.layers=1", *small, f"run={run}")
    config = yaml.safe_load((run / "model" / "config.yaml").read_text())
    assert config["modality"]["codec"]["autoencoder"]["path"] == "autoencoder"
    assert (config["backbone"]["channels"], config["backbone"]["bands"]) == (4, 16)
    vae.rename(tmp_path / "elsewhere")
    made = load(run).sample("a soft hollow C4", 2, steps=2).samples
    assert made.samples.shape == (2, 8192) and bool(torch.isfinite(made.samples).all())


def test_a_run_in_latents_makes_its_autoencoder_and_never_encodes_again(tmp_path: Path) -> None:
    """The first stage, the cache under masks, a drawn posterior and the measured shift, all at once."""
    run = tmp_path / "run"
    small = ["debug=fast", "logger=csv", "data.train_length=40", "data.validation_length=8", "data.batch_size=4"]
    first = 'autoencoder.overrides=["debug=fast","modality.codec.iterations=2","backbone.width=4"]'
    words = ["autoencoder.drawn=true", "schedule=flow_shifted", "schedule.shift=auto", "sampling.every_n_steps=0"]
    go(train, "train", "experiment=audio/notes_latent", *small, *words, first, "backbone.layers=1", f"run={run}")
    with (run / "metrics.csv").open(newline="") as file:
        assert {row["train/pictures_encoded"] for row in csv.DictReader(file)} <= {"", "0.0"}
    assert yaml.safe_load((run / "config.yaml").read_text())["schedule"]["shift"] >= 1
    clip = load(run).sample("a soft hollow C4", 1, steps=2).samples
    assert bool(torch.isfinite(clip.samples).all())


def test_the_posterior_of_padding_is_certain(latent: Latent) -> None:
    """Where a clip has ended its latents are zero, and no noise is drawn there."""
    mean, deviation = latent.posterior(clips(2048, 500))
    torch.testing.assert_close(mean, latent.encode(clips(2048, 500)))
    assert deviation is not None and bool((deviation[0] > 0).all())
    assert not deviation[1, 4:].any() and bool((deviation[1, :3] > 0).all())
