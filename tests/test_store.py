"""A model folder is data: it round-trips, it is checked, and what it may name is limited."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from framework.build import MODEL_FOLDER, BuildError
from framework.store import ModelFolderError, build_model, load, save
from tests.toy import point_config

ALLOW = MODEL_FOLDER.plus("tests")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    config = {**point_config(tmp_path), "defaults": {"steps": 7}}
    torch.manual_seed(3)
    return save(build_model(config, ALLOW), config, tmp_path / "run" / "model", "# a card\n")


def test_a_saved_model_samples_the_same(folder: Path) -> None:
    config = yaml.safe_load((folder / "config.yaml").read_text())
    torch.manual_seed(3)
    fresh = build_model(config, ALLOW)
    for path in (folder, folder.parent):
        loaded = load(path, allow=ALLOW)
        assert loaded.defaults.steps == 7
        assert torch.equal(loaded.sample(1, 5).samples, fresh.sample(1, 5).samples)


def test_saving_again_replaces_and_leaves_nothing_behind(folder: Path) -> None:
    config = yaml.safe_load((folder / "config.yaml").read_text())
    torch.manual_seed(4)
    save(build_model(config, ALLOW), config, folder, "# another card\n")
    assert [path.name for path in folder.parent.iterdir()] == ["model"]
    assert (folder / "README.md").read_text() == "# another card\n"
    load(folder, allow=ALLOW)


def test_a_kill_between_the_renames_leaves_the_old_model(folder: Path) -> None:
    os.rename(folder, folder.with_name("model.previous"))
    load(folder.parent, allow=ALLOW)


@pytest.mark.parametrize("name", ["config.yaml", "model.safetensors"])
def test_damage_is_found(folder: Path, name: str) -> None:
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(ModelFolderError, match=rf"{name} does not match its checksum"):
        load(folder, allow=ALLOW)
    (folder / name).unlink()
    with pytest.raises(ModelFolderError, match=rf"{name} is missing"):
        load(folder, allow=ALLOW)


def rewrite(folder: Path, config: dict[str, object]) -> None:
    """Change the configuration as an attacker would, checksum included."""
    from framework.files import sha256

    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["sha256"]["config.yaml"] = sha256(folder / "config.yaml")
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "builtins.eval",
        "torch.load",
        "framework.store.os.system",
        "framework.files.write_text",
        "pickle.loads",
    ],
)
def test_a_hostile_configuration_is_refused(folder: Path, target: str) -> None:
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config["schedule"] = {"_target_": target, "command": "touch /tmp/owned"}
    rewrite(folder, config)
    with pytest.raises(BuildError, match="schedule"):
        load(folder, allow=ALLOW)


def test_our_own_functions_cannot_be_turned_against_the_user(folder: Path, tmp_path: Path) -> None:
    """Allowed packages hold functions that write files; a model folder must not reach them."""
    config = yaml.safe_load((folder / "config.yaml").read_text())
    writers = ("framework.files.write_text", "framework.files.write_atomically", "modalities.images.render.save_png")
    for target in writers:
        config["schedule"] = {"_target_": target, "path": str(tmp_path / "owned"), "text": "x"}
        rewrite(folder, config)
        with pytest.raises(BuildError):
            load(folder, allow=ALLOW)
    assert not (tmp_path / "owned").exists()


def test_no_pickle_is_read(folder: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (os.system, ("touch /tmp/diffract_owned",))

    from framework.files import sha256

    (folder / "model.safetensors").write_bytes(pickle.dumps(Bomb()))
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["sha256"]["model.safetensors"] = sha256(folder / "model.safetensors")
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ModelFolderError, match="does not fit"):
        load(folder, allow=ALLOW)


def test_what_is_not_a_model_is_named(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(ModelFolderError, match="does not exist"):
        load(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelFolderError, match=r"neither a run nor a model folder: there is no manifest\.json"):
        load(tmp_path / "empty")
    (tmp_path / "young" / "checkpoints").mkdir(parents=True)
    with pytest.raises(ModelFolderError, match="diffract train resume="):
        load(tmp_path / "young")
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, "format": 99}))
    with pytest.raises(ModelFolderError, match="format 99"):
        load(folder)


def test_weights_are_plain_safetensors(folder: Path) -> None:
    assert all(w.dtype == torch.float32 for w in load_file(folder / "model.safetensors").values())
