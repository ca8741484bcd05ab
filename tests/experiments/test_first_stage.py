"""A run in latents makes its autoencoder first, encodes its data once, and goes on from wherever it was stopped."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from experiments import autoencoder, train
from experiments.autoencoder import FINISHED
from experiments.configuration import compose
from experiments.errors import ConfigurationError
from framework import load
from framework.metrics.feature_net import FeatureNet
from framework.store import ModelFolderError
from framework.training.latents import latent_data
from modalities.images.modality import Images

SMALL = [
    "experiment=images/shapes_latent",
    "debug=fast",
    "logger=csv",
    "backbone.width=8",
    "data.train_length=40",
    "data.validation_length=8",
    "data.batch_size=8",
    "sampling.every_n_steps=0",
    'autoencoder.overrides=["debug=fast","backbone.width=8","sampling.every_n_steps=0"]',
]


def go(*overrides: str) -> Any:
    return train.run(compose("train", list(overrides)))


def columns(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model" / "model.safetensors")


@pytest.fixture(scope="module")
def patched() -> Any:
    """A classifier of shapes that is not trained: its features are as good as any for a test."""
    with pytest.MonkeyPatch.context() as patch:
        torch.manual_seed(5)
        network = FeatureNet(3, 3, width=4).eval()
        patch.setattr(Images, "_classifier", lambda self, data: network)
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, patched: Any) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    go(*SMALL, f"run={folder}")
    return folder


def test_the_autoencoder_is_made_in_the_runs_own_folder(run: Path) -> None:
    assert (run / "autoencoder" / FINISHED).is_file() and (run / "autoencoder" / "metrics.csv").is_file()
    stage = yaml.safe_load((run / "autoencoder" / "config.yaml").read_text())
    assert stage["data"] == yaml.safe_load((run / "config.yaml").read_text())["data"] | {"batch_size": 32}
    assert stage["logger"]["csv"]["folder"] == str(run / "autoencoder")
    samples = load(run).sample("a red circle", 2, steps=2).samples
    assert samples.shape == (2, 3, 16, 16)


def test_training_never_runs_the_encoder(run: Path, tmp_path: Path, patched: Any) -> None:
    """The log says so; without a cache it counts every picture."""
    assert {row["train/pictures_encoded"] for row in columns(run) if row["train/pictures_encoded"]} == {"0.0"}
    plain = tmp_path / "plain"
    go(*SMALL, f"run={plain}", f"autoencoder.run={run / 'autoencoder'}", "autoencoder.cache=false")
    counts = [float(row["train/pictures_encoded"]) for row in columns(plain) if row["train/pictures_encoded"]]
    assert counts[0] == 8 and counts[-1] == 4 * 8 + 8  # one batch of validation
    for name, weight in weights(run).items():
        torch.testing.assert_close(weights(plain)[name], weight, atol=1e-4, rtol=1e-3)


def test_another_run_finds_the_latents(
    run: Path, tmp_path: Path, patched: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    again = tmp_path / "again"
    go(*SMALL, f"run={again}", f"autoencoder.run={run / 'autoencoder'}")
    said = capsys.readouterr().out
    assert "40 train items: 0 encoded, 40 from" in said and "8 validation items: 0 encoded" in said
    assert not (again / "autoencoder").exists()
    assert all(torch.equal(weight, weights(again)[name]) for name, weight in weights(run).items())


def stopped(run: Path, folder: Path) -> Path:
    """A run that was killed in its first stage, after the autoencoder's checkpoint of step 2."""
    shutil.copytree(run, folder)
    for name in ("model", "checkpoints", "autoencoder/latents"):
        shutil.rmtree(folder / name)
    (folder / "autoencoder" / FINISHED).unlink()
    for newer in (folder / "autoencoder" / "checkpoints").glob("step-00000004*"):
        newer.unlink()
    return folder


@pytest.mark.parametrize("how", ["the same line", "resume"])
def test_a_run_that_was_killed_in_its_first_stage_goes_on_there(
    how: str, run: Path, tmp_path: Path, patched: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = stopped(run, tmp_path / "stopped")
    go(f"resume={folder}") if how == "resume" else go(*SMALL, f"run={folder}")
    assert "goes on" in capsys.readouterr().out
    for part in (Path(), Path("autoencoder")):
        assert all(torch.equal(w, weights(folder / part)[name]) for name, w in weights(run / part).items())


def test_a_run_that_was_killed_in_its_second_stage_keeps_the_first(run: Path, tmp_path: Path, patched: Any) -> None:
    folder = tmp_path / "moved"
    shutil.copytree(run, folder)
    for newer in (folder / "checkpoints").glob("step-00000004*"):
        newer.unlink()
    hidden = run.rename(run.with_name("hidden"))  # what was moved does not look for where it was
    try:
        go(f"resume={folder}")
    finally:
        hidden.rename(run)
    assert all(torch.equal(w, weights(folder)[name]) for name, w in weights(run).items())


def test_what_an_encoded_item_depends_on_is_in_its_key(run: Path, tmp_path: Path) -> None:
    from framework.build import USER_CONFIG, build

    def key(**changes: Any) -> set[str]:
        config = yaml.safe_load((run / "config.yaml").read_text())
        config["autoencoder"]["cache_folder"] = str(tmp_path / "latents")
        for name, value in changes.items():
            part, _, last = name.rpartition("__")
            config[part][last] = value
        data = build(config["data"], USER_CONFIG)
        data.setup("fit")
        before = {path.name for path in (tmp_path / "latents").glob("*")}
        latent_data(config, USER_CONFIG, data)
        return {path.name for path in (tmp_path / "latents").glob("*")} - before

    assert len(key()) == 2 and key() == set()
    assert key(data__batch_size=4, trainer__max_steps=9) == set()
    assert len(key(data__seed=1)) == 2 and len(key(data__train_length=41)) >= 1


def test_latents_drawn_from_the_posterior(run: Path, tmp_path: Path, patched: Any) -> None:
    """Keyed noise: two runs agree, and differ from one on the mean."""
    words = [*SMALL, f"autoencoder.run={run / 'autoencoder'}", "autoencoder.drawn=true"]
    for name in ("a", "b"):
        go(*words, f"run={tmp_path / name}")
    one, two, mean = weights(tmp_path / "a"), weights(tmp_path / "b"), weights(run)
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not all(torch.equal(one[name], mean[name]) for name in one)


def test_a_measured_shift_is_written_as_a_number(run: Path, tmp_path: Path, patched: Any) -> None:
    words = [*SMALL, f"autoencoder.run={run / 'autoencoder'}", "schedule=flow_shifted", "schedule.shift=auto"]
    go(*words, f"run={tmp_path / 'run'}")
    saved = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["schedule"]["shift"]
    assert isinstance(saved, float) and saved >= 1
    assert load(tmp_path / "run").schedule.shift == saved  # type: ignore[attr-defined]


def test_people_are_told_what_is_missing(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelFolderError, match="does not exist"):
        go(*SMALL, f"run={tmp_path / 'run'}", f"autoencoder.run={tmp_path / 'nowhere'}")
    with pytest.raises(ConfigurationError, match=r"autoencoder\.run=FOLDER"):
        go(*SMALL, f"run={tmp_path / 'run'}", "autoencoder.experiment=null")


def test_other_processes_wait_for_the_first(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"run": str(tmp_path), "autoencoder": {"run": str(tmp_path / "autoencoder"), "experiment": "x"}}
    monkeypatch.setattr(autoencoder, "_first_process", lambda: False)
    looks = []

    def look(seconds: float) -> None:
        looks.append(seconds)
        (tmp_path / "autoencoder").mkdir(exist_ok=True)
        if len(looks) == 3:
            (tmp_path / "autoencoder" / FINISHED).touch()

    monkeypatch.setattr(autoencoder.time, "sleep", look)
    autoencoder.first_stage(settings)
    assert len(looks) == 3
