"""Images as a plugin: pixels survive, data fill in what only they know, presets compose, and all runs together."""

from __future__ import annotations

import importlib
import json
import shutil
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from experiments import evaluate, sample, train
from experiments.configuration import allowed, compose, plain
from experiments.errors import ConfigurationError
from experiments.explain import choices
from framework import load
from framework.backbones.text import WordTokenizer
from framework.build import check
from framework.conditions import ClassCondition, TextCondition, Unconditional
from framework.errors import DataError
from framework.guidance.off import Off
from framework.metrics.measurement import read_metrics
from framework.modality import drop
from framework.plugins import load_modality
from modalities.images.data import ShapesData
from modalities.images.digits import DIGIT_NAMES
from modalities.images.image_set import ImageSet
from modalities.images.modality import Images
from modalities.images.sources import list_path

ROOT = Path(__file__).parents[2]

PRESETS = [
    "images/cifar10",
    "images/cifar10_cpu",
    "images/cifar10_dit",
    "images/cifar10_latent",
    "images/cifar10_vae",
    "images/digits",
    "images/folder",
    "images/shapes",
    "images/shapes_double",
    "images/shapes_inpaint",
    "images/shapes_latent",
    "images/shapes_mmdit",
    "images/shapes_sr",
    "images/shapes_vae",
]


def test_images_are_found_as_a_plugin() -> None:
    assert load_modality("images") is Images


def test_pixels_survive_the_round_trip() -> None:
    images = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    modality = Images(Unconditional(), size=16, channels=1)
    state, condition = modality.encode({"image": images, "caption": [""], "label": torch.tensor([-1])})
    assert float(state.min()) == -1 and float(state.max()) == 1
    assert torch.equal(modality.decode(state, condition), images)
    assert (
        modality.decode(state * 3, condition)[0, 0, 0, 0] == 0
        and modality.decode(state * 3, condition)[0, 0, 15, 15] == 255
    )


def test_dropping_replaces_whole_conditions() -> None:
    for modality, batch in (
        (Images(ClassCondition(["a", "b"]), 8, 3), {"label": torch.tensor([0, 1])}),
        (Images(TextCondition(WordTokenizer(64, 4)), 8, 3), {"caption": ["red", "blue"]}),
    ):
        _, condition = modality.encode({"image": torch.zeros(2, 3, 8, 8, dtype=torch.uint8), **batch})
        null = modality.null(condition)
        mixed = drop(condition, null, torch.tensor([True, False]))
        for key in condition.keys():  # noqa: SIM118
            assert torch.equal(mixed[key][0], condition[key][0]) and torch.equal(mixed[key][1], null[key][1])


def test_data_fill_in_what_only_they_know() -> None:
    config: dict[str, Any] = {
        "modality": {"size": None, "channels": None, "condition": {"names": None}},
        "backbone": {"channels": None, "num_classes": None},
    }
    data = SimpleNamespace(size=16, channels=1, class_names=("zero", "one"))
    adapted = Images.adapt(config, data)
    assert adapted["modality"] == {"size": 16, "channels": 1, "condition": {"names": ["zero", "one"]}}
    assert adapted["backbone"] == {"channels": 1, "num_classes": 2}
    assert config["modality"]["size"] is None, "the configuration that was given is not changed"
    with pytest.raises(ValueError, match="has no classes"):
        Images.adapt(config, SimpleNamespace(size=16, channels=3, class_names=()))


def test_all_presets_are_there() -> None:
    assert [name for name in sorted(choices("experiment", "train")) if name.startswith("images/")] == PRESETS


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_compose_and_name_what_exists(preset: str) -> None:
    needs = {"images/folder": "data.path=x"}
    extra = [needs[preset]] if preset in needs else []
    config = compose("train", [f"experiment={preset}", "run=x", *extra])
    assert check(plain(config), allowed(config)) == []


def test_captions_of_one_and_two_objects_are_judged_apart() -> None:
    data = ShapesData(preset="single", train_length=8, validation_length=8)
    real = data.reference(20, seed=0)
    probes = data.probes(5, seed=0)
    assert data.probes(3, seed=0) == probes[:3]
    verdicts = data.judge(torch.cat([real.images, real.images[:5]]), [*real.captions, *probes])
    assert verdicts["single"]["all"].mean() == 1 and len(verdicts["single"]["all"]) == 20
    assert verdicts["double"]["all"].mean() == 0 and len(verdicts["double"]["all"]) == 5


def go(command: Any, name: str, *overrides: str) -> Any:
    return command.run(compose(name, list(overrides)))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the feature networks of these tests are kept, each trained once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "digits"
    go(train, "train", "experiment=images/digits", f"run={run}", "debug=fast", "logger=csv")
    return run


def test_digits_train_sample_and_are_judged(
    digits: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIFFRACT_CACHE", str(cache))
    go(
        sample,
        "sample",
        f"run={digits}",
        "prompt=seven",
        "n=3",
        "steps=2",
        f"out={tmp_path / 'sevens'}",
        "trajectory=true",
    )
    names = {path.name for path in (tmp_path / "sevens").iterdir()}
    assert names == {"00000.png", "00001.png", "00002.png", "sheet.png", "trajectory.png", "trajectory.gif"}
    with Image.open(tmp_path / "sevens" / "00001.png") as picture:
        assert picture.size == (16, 16)
        assert picture.text["prompt"] == "seven" and picture.text["index"] == "1"  # type: ignore[attr-defined]
    go(evaluate, "evaluate", f"run={digits}", "n=24", "steps=2", f"out={tmp_path / 'evaluation'}")
    metrics = read_metrics(tmp_path / "evaluation" / "metrics.json")
    assert {"frechet", "kid", "precision", "recall", "class_accuracy", "ceiling/frechet"} <= metrics.keys()
    assert all(m.n == 24 for name, m in metrics.items() if not name.startswith("ceiling/"))
    assert metrics["ceiling/class_accuracy"].value > 0.9
    assert (tmp_path / "evaluation" / "samples" / "sheet.png").is_file()


def test_classes_by_number_and_by_name_are_the_same(digits: Path) -> None:
    model = load(digits)
    assert torch.equal(model.sample(7, 2, steps=2).samples, model.sample("seven", 2, steps=2).samples)
    with pytest.raises(ValueError, match="did you mean 'seven'"):
        model.sample("sevn", 1)


def test_prompts_from_a_file(digits: Path, tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("one\n\ntwo\n")
    out = tmp_path / "out"
    go(sample, "sample", f"run={digits}", f"prompts_file={tmp_path / 'prompts.txt'}", "n=2", "steps=2", f"out={out}")
    assert len(list(out.glob("0*.png"))) == 4
    with pytest.raises(ConfigurationError, match="there is no such file"):
        go(sample, "sample", f"run={digits}", "prompts_file=nowhere.txt")


def test_samples_are_a_data_set_to_train_on(
    digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "many"
    go(sample, "sample", f"run={digits}", "dataset=true", "n=20", "steps=1", f"out={out}")
    listing = list_path(out / "dataset")
    assert set(listing.class_names) == set(DIGIT_NAMES) and not listing.bad
    assert Counter(item.label for item in listing.items) == dict.fromkeys(range(10), 2)
    assert (out / "sheet.png").is_file()
    with pytest.raises(ConfigurationError, match="is there already"):
        go(sample, "sample", f"run={digits}", "dataset=true", "n=20", "steps=1", f"out={out}")

    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    example = importlib.import_module("synthetic_data")
    words = ["--run", digits, "--synthetic", out / "dataset", "--real", 100, "--seeds", 2, "--steps", 40]
    accuracies = example.main([*map(str, words), "--out", str(tmp_path / "accuracies.json")])
    assert accuracies.keys() == {"20 synthetic", "100 real", "100 real and 20 synthetic"}
    # One step of a model that has hardly been trained makes noise, from which nothing is learnt.
    assert np.mean(accuracies["100 real"]) > 0.6 > 0.4 > np.mean(accuracies["20 synthetic"])
    assert json.loads((tmp_path / "accuracies.json").read_text()) == accuracies
    assert "100 real and 20 synthetic" in capsys.readouterr().out


def test_a_data_set_of_captions_and_of_classes_reads_back(tmp_path: Path) -> None:
    pixels = torch.randint(256, (3, 3, 8, 8), dtype=torch.uint8)
    captions = Images(TextCondition(WordTokenizer(length=8)), size=8, channels=3)
    prompts = ["a red, round thing", 'a "quoted" one', ""]
    rows: list[dict[str, str]] = [{"prompt": prompt} for prompt in prompts]
    captions.dataset(pixels, prompts, tmp_path / "captions", rows)
    read = ImageSet(list_path(tmp_path / "captions"), 8)
    assert [item["caption"] for item in read] == prompts  # type: ignore[attr-defined]
    assert torch.equal(torch.stack([read[i]["image"] for i in range(3)]), pixels)

    classes = Images(ClassCondition(["cat", "n/a"]), size=8, channels=3)
    classes.dataset(pixels, [1, "cat", None], tmp_path / "classes", rows)
    listing = list_path(tmp_path / "classes")
    names = [listing.class_names[item.label] if item.label >= 0 else None for item in listing.items]
    assert names == [None, "cat", "n/a"]
    with pytest.raises(DataError, match="cannot be the name of a folder"):
        Images(ClassCondition(["../cat"]), size=8, channels=3).dataset(pixels[:1], [0], tmp_path / "out", rows[:1])


@pytest.mark.parametrize("backbone", ["diffusers_text", "unet_text"])
def test_shapes_train_with_either_backbone(
    backbone: str, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIFFRACT_CACHE", str(cache))
    run = tmp_path / "run"
    go(train, "train", "experiment=images/shapes", *overrides_for(backbone), f"run={run}", "debug=fast")
    go(evaluate, "evaluate", f"run={run}", "n=16", "steps=2")
    metrics = read_metrics(run / "evaluation" / "metrics.json")
    assert metrics["caption_accuracy/single"].n == 16 and metrics["caption_accuracy/double"].n == 4
    assert metrics["ceiling/caption_accuracy/single"].value == 1.0


def overrides_for(backbone: str) -> list[str]:
    if backbone == "unet_text":
        return []
    return ["backbone=images/diffusers_text", "~backbone.patch", "backbone.widths=[32,32]", "backbone.attention=[1]"]


def test_broken_images_are_skipped_and_named(tmp_path: Path) -> None:
    """A folder with one truncated JPEG among 30 trains, and skipped.csv says which it was."""
    folder = tmp_path / "pictures"
    generator = np.random.default_rng(0)
    for kind in ("cats", "dogs"):
        (folder / kind).mkdir(parents=True)
        for i in range(15):
            pixels = generator.integers(0, 256, (20, 20, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / kind / f"{i}.jpg")
    broken = folder / "cats" / "3.jpg"
    broken.write_bytes(broken.read_bytes()[:200])
    run = tmp_path / "run"
    words = ["experiment=images/folder", "modality=images/classes", "backbone=images/unet_class", f"data.path={folder}"]
    go(train, "train", *words, "data.size=16", "backbone.width=32", "data.batch_size=8", f"run={run}", "debug=fast")
    skipped = (run / "skipped.csv").read_text()
    assert "cats/3.jpg" in skipped and len(skipped.splitlines()) == 2
    assert load(run).sample("dogs", 1, steps=2).samples.shape == (1, 3, 16, 16)


def test_a_pretrained_encoder_takes_the_place_of_ours(clip_folder: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = ["data=images/shapes", "modality=images/pretrained", "backbone=images/unet_pretrained", "schedule=flow"]
    path = [f"modality.condition.tokenizer.path={clip_folder}", "modality.condition.tokenizer.length=12"]
    go(train, "train", *words, *path, f"run={run}", "debug=fast", "data.batch_size=8", "sampling.every_n_steps=0")
    model = load(run)
    assert model.sample("a red circle", 2, steps=2).samples.shape == (2, 3, 16, 16)
    assert not [name for name in model.network.state_dict() if name.startswith("text.")]


def test_prompts_are_what_the_condition_reads(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Digits have classes; without a condition, or with captions, they are sampled and judged all the same."""
    monkeypatch.setenv("DIFFRACT_CACHE", str(cache))
    for choice in (["modality=images/unconditional"], ["modality=images/text", "backbone=images/unet_text"]):
        run = tmp_path / choice[0].rpartition("/")[2]
        go(train, "train", "experiment=images/digits", *choice, f"run={run}", "debug=fast")
        go(evaluate, "evaluate", f"run={run}", "n=16", "steps=2")
        metrics = read_metrics(run / "evaluation" / "metrics.json")
        assert metrics["frechet"].n == 16 and "class_accuracy" not in metrics


def test_a_negative_prompt_needs_guidance(digits: Path) -> None:
    model = load(digits)
    model.sample("seven", 1, steps=2, negative="one")
    with pytest.raises(ValueError, match="no effect without guidance"):
        model.sample("seven", 1, steps=2, negative="one", guidance=Off())


def test_unknown_options_of_evaluation_are_named(digits: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="images know no option inceptoin"):
        go(evaluate, "evaluate", f"run={digits}", "n=2", "steps=1", "+options.inceptoin=x", f"out={tmp_path}")


def test_a_moved_run_is_resumed_where_it_lies(digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(digits, moved)
    before = (digits / "metrics.csv").read_text()
    words = [f"resume={moved}", "trainer.max_steps=6"]
    monkeypatch.setattr(train, "given_overrides", lambda: words)  # as a job that Hydra runs has them
    go(train, "train", *words)
    assert (digits / "metrics.csv").read_text() == before
    assert (moved / "metrics.csv").read_text() != before
    config = yaml.safe_load((moved / "config.yaml").read_text())
    assert config["run"] == str(moved) and config["trainer"]["max_steps"] == 6
    assert "# resumed from step-00000004.ckpt" in (moved / "overrides.txt").read_text()
