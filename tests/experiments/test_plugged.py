"""What plugins add to the configuration tree: found by name and by path, kept apart, and told when it is wrong."""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hydra.errors import ConfigCompositionException

from experiments import cli
from experiments.compositions import faults_of, presets_in
from experiments.configuration import allowed, compose, config_folder, plain
from experiments.explain import choices, explain
from experiments.plugged import PluginWarning, offered
from framework.build import build
from framework.metrics.extra import measured_besides
from framework.metrics.measurement import Measurement
from framework.plugins import PARTS

Install = Callable[..., Path]

# One class for each role that can be plugged in, and where a configuration chooses it.
SOURCE = """
from dataclasses import dataclass

from torch import nn

from framework.grids import UniformTime
from framework.guidance.off import Off
from framework.metrics.measurement import Measurement
from framework.solvers.ddim import DDIM


class Solver(DDIM):
    pass


class Grid(UniformTime):
    pass


class Guidance(Off):
    pass


class Backbone(nn.Module):
    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.width = width


@dataclass
class Codec:
    rate: int | None = None
    mean: float | None = None
    std: float | None = None


class Metric:
    def __call__(self, samples, prompts, data, seed):
        return Measurement(float(len(samples)), 0.0, 1.0, len(samples), seed)
"""
TRAIN = ("train", "experiment=images/shapes")
ROLES = {
    "diffract.solvers": ("Solver", ("sample", "run=x"), "solver={}", "solver"),
    "diffract.grids": ("Grid", ("sample", "run=x"), "grid={}", "grid"),
    "diffract.guidance": ("Guidance", TRAIN, "guidance@sampling.guidance={}", "sampling.guidance"),
    "diffract.backbones": ("Backbone", ("train", "modality=images/unconditional"), "backbone={}", "backbone"),
    "diffract.codecs": (
        "Codec",
        ("train", "modality=audio/unconditional"),
        "codec@modality.codec={}",
        "modality.codec",
    ),
    "diffract.metrics": ("Metric", ("evaluate", "run=x"), "+metric@metrics.count={}", "metrics.count"),
}


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Installs a distribution with entry points {group: {name: target}} and files {path: text}, as pip would."""
    before = set(sys.modules)

    def put(name: str, entries: dict[str, dict[str, str]], files: dict[str, str]) -> Path:
        site = tmp_path / name
        info = site / f"{name}-1.5.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.5\n")
        lines = [
            line for group, rows in entries.items() for line in (f"[{group}]", *(f"{k} = {v}" for k, v in rows.items()))
        ]
        (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
        for path, text in files.items():
            (site / path).parent.mkdir(parents=True, exist_ok=True)
            (site / path).write_text(text)
        monkeypatch.syspath_prepend(site)
        return site

    yield put
    for name in set(sys.modules) - before:
        if name.startswith(("my_", "weather", "aaa")):
            del sys.modules[name]


def made(command: tuple[str, ...], override: str, path: str, *more: str) -> object:
    """What a configuration builds at a path."""
    config = plain(compose(command[0], [*command[1:], override, *more]))
    allow = allowed(config)
    for key in path.split("."):
        config = config[key]
    return build(config, allow)


def test_there_is_a_role_for_each_group():
    assert set(ROLES) == set(PARTS)


@pytest.mark.parametrize("group", ROLES)
def test_a_part_is_chosen_by_its_import_path(group, install):
    install("mine", {}, {"my_parts.py": SOURCE})
    name, command, override, path = ROLES[group]
    found = made(command, override.format(f"my_parts.{name}"), path, "allow=[my_parts]")
    assert type(found).__module__ == "my_parts" and type(found).__name__ == name
    assert f"my_parts.{name}" not in choices(PARTS[group], command[0])  # nothing stays behind


@pytest.mark.parametrize("group", ROLES)
def test_a_part_is_chosen_by_the_name_of_its_entry_point(group, install):
    name, command, override, path = ROLES[group]
    install("mine", {group: {"special": f"my_parts:{name}"}}, {"my_parts.py": SOURCE})
    assert "special" in choices(PARTS[group], command[0])
    assert "my_parts" not in sys.modules
    found = made(command, override.format("special"), path)
    assert type(found).__module__ == "my_parts" and type(found).__name__ == name


def test_arguments_of_a_part_without_a_file_are_added(install):
    install("mine", {"diffract.backbones": {"special": "my_parts:Backbone"}}, {"my_parts.py": SOURCE})
    command = ("train", "modality=images/unconditional")
    assert made(command, "backbone=special", "backbone", "+backbone.width=16").width == 16  # type: ignore[attr-defined]


def test_a_file_of_the_same_distribution_says_the_arguments(install):
    install(
        "mine",
        {"diffract.backbones": {"special": "my_parts:Backbone"}, "diffract.configs": {"mine": "my_conf"}},
        {
            "my_parts.py": SOURCE,
            "my_conf/__init__.py": "",
            "my_conf/backbone/special.yaml": "_target_: my_parts.Backbone\nwidth: 3\n",
        },
    )
    assert offered(config_folder()).problems == []
    assert made(("train", "modality=images/unconditional"), "backbone=special", "backbone").width == 3  # type: ignore[attr-defined]


VIDEO = {"pkg/conf/__init__.py": "", "pkg/conf/modality/video.yaml": "_target_: framework.solvers.ddim.DDIM\n"}


def video(package: str) -> dict[str, str]:
    return {path.replace("pkg", package): text for path, text in VIDEO.items()} | {f"{package}/__init__.py": ""}


@pytest.fixture
def sound(install: Install) -> None:
    """A plugin without a fault, which has to go on whatever becomes of others."""
    install(
        "sound",
        {"diffract.configs": {"sound": "my_sound.conf"}},
        {"my_sound/conf/__init__.py": "", "my_sound/conf/solver/loud.yaml": "_target_: framework.solvers.ddim.DDIM\n"},
    )


def told(overrides: tuple[str, ...] = ("run=x", "solver=loud")) -> list[str]:
    """What composing says of plugins; the sound one works beside them."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert compose("sample", overrides).solver._target_.endswith("DDIM")
    return [str(each.message) for each in caught if issubclass(each.category, PluginWarning)]


def test_two_strangers_that_offer_one_option_are_both_left_out(install, sound):
    install("video", {"diffract.configs": {"video": "my_video.conf"}}, video("my_video"))
    install("aaa", {"diffract.configs": {"aaa": "my_aaa.conf"}}, video("my_aaa"))
    words = told()
    assert len(words) == 2
    for name in ("video", "aaa"):
        assert any(f"plugin '{name}' of {name} 1.5" in line and "modality/video.yaml" in line for line in words)
    assert all("uninstall one of them" in line for line in words)
    assert "video" not in choices("modality", "train")


def test_a_file_of_diffract_itself_is_never_replaced(install, sound):
    install(
        "rogue",
        {"diffract.configs": {"rogue": "my_rogue.conf"}},
        {"my_rogue/conf/__init__.py": "", "my_rogue/conf/trainer/cpu.yaml": "accelerator: hijacked\n"},
    )
    [line] = told()
    assert "trainer/cpu.yaml is offered by diffract itself, and by plugin 'rogue' of rogue 1.5" in line
    with pytest.warns(PluginWarning):
        assert compose("train").trainer.accelerator == "cpu"


def test_an_entry_point_cannot_take_the_name_of_an_option(install, sound):
    install("rogue", {"diffract.solvers": {"heun": "my_parts:Solver"}}, {"my_parts.py": SOURCE})
    [line] = told()
    assert "solver/heun.yaml is offered by diffract itself" in line
    with pytest.warns(PluginWarning):
        assert compose("sample", ["run=x", "solver=heun"]).solver._target_ == "framework.solvers.edm.Heun"


def test_a_missing_package_is_told_and_nothing_else_suffers(install, sound):
    install("weather", {"diffract.modalities": {"weather": "my_w:W"}, "diffract.configs": {"weather": "my_w.conf"}}, {})
    words = told()
    assert len(words) == 2 and all("package 'my_w' is not installed" in line for line in words)


def test_a_folder_without_an_init_is_told_and_used(install, sound):
    files = video("my_video")
    del files["my_video/conf/__init__.py"]
    install("video", {"diffract.configs": {"video": "my_video.conf"}}, files)
    [line] = told()
    assert "there is no __init__.py in" in line and "add one" in line and "left out" not in line
    assert "video" in choices("modality", "train")


def test_a_preset_that_names_what_is_not_there_is_found(install):
    preset = "# @package _global_\ndefaults:\n  - images/shapes\n\nbackbone:\n  widht: 3\ndata:\n  path: ???\n"
    files = {
        "my_w/conf/__init__.py": "",
        "my_w/conf/experiment/my/a.yaml": preset,
        "my_w/conf/experiment/my/b.yaml": "",
    }
    files["my_w/conf/experiment/my/b.yaml"] = (
        "# @package _global_\ndefaults:\n  - override /solver@sampling.solver: huen\n"
    )
    install("weather", {"diffract.configs": {"weather": "my_w.conf"}}, files)
    assert presets_in(offered(config_folder()).folders["weather"]) == ["my/a", "my/b"]
    [first] = faults_of("my/a")
    assert first.startswith("experiment=my/a: backbone.widht:") and "did you mean 'width'" in first
    [second] = faults_of("my/b")
    assert "my/b does not compose" in second and "huen" in second


def test_presets_choose_options_in_folders_by_lists():
    """Hydra 1.4 takes `override /backbone: images/unet` for an override of a group backbone/images.

    And an option that is chosen from a list looks for what it builds on in its own folder, unless told from where.
    """
    root = Path(__file__).parents[2]
    unread = re.compile(r"^ *- (?:[^#\n]*: *\w+/|\w+[^#\n]*@_here_)", re.MULTILINE)
    assert unread.search("  - override /backbone: images/unet") and not unread.search("  - override /backbone: [a/b]")
    assert unread.search("  - a/b@_here_") and not unread.search("  - /backbone/a/b@_here_")
    places = ("conf", "modalities/*/conf", "examples/*/*/conf", "experiments/template/src/*/conf")
    trees = [tree for place in places for tree in root.glob(f"{place}/**/*.yaml")]
    assert len(trees) > 200
    assert [str(tree) for tree in trees if unread.search(tree.read_text())] == []


def test_an_option_that_builds_on_another_is_the_same_alone_and_in_a_list(install):
    files = {
        "my_w/conf/__init__.py": "",
        "my_w/conf/solver/my/slow.yaml": "_target_: framework.solvers.ddim.DDIM\neta: 0.5\n",
        "my_w/conf/solver/my/slower.yaml": "defaults:\n  - /solver/my/slow@_here_\n\neta: 0.25\n",
    }
    install("weather", {"diffract.configs": {"weather": "my_w.conf"}}, files)
    alone, listed = (
        compose("train", ["run=x", f"solver@sampling.solver={option}"]).sampling.solver
        for option in ("my/slower", "[my/slower]")
    )
    assert alone == listed == {"_target_": "framework.solvers.ddim.DDIM", "eta": 0.25}


def test_an_option_in_a_folder_without_brackets_is_answered_with_them():
    said = "In 'experiment/my/toy': Invalid Defaults List override '/backbone/my: small'.\nNo earlier Group Default"
    words = explain(ConfigCompositionException(said), "train", [])
    assert words.startswith("experiment/my/toy.yaml: write 'override /backbone: [my/small]'")


@pytest.fixture
def diffract(tmp_path, monkeypatch, capfd):
    """Runs `diffract WORDS` in an empty folder."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("COLUMNS", "400")

    def call(*words: str) -> SimpleNamespace:
        monkeypatch.setattr(sys, "argv", ["diffract", *words])
        code = 0
        with warnings.catch_warnings():
            try:
                cli.main()
            except SystemExit as stop:
                code = stop.code if isinstance(stop.code, int) else 1
        out, err = capfd.readouterr()
        return SimpleNamespace(code=code, out=out, err=err)

    return call


def test_the_commands_say_what_is_wrong_and_go_on(install, sound, diffract):
    install("weather", {"diffract.modalities": {"weather": "my_w:W"}}, {"my_w.py": "import not_there_at_all"})
    install("video", {"diffract.configs": {"video": "my_video.conf"}}, video("my_video"))
    install("aaa", {"diffract.configs": {"aaa": "my_aaa.conf"}}, video("my_aaa"))
    listed = diffract("modalities", "--load")
    assert listed.code == 0 and listed.out.count("loads") == 3
    assert "No module named 'not_there_at_all'" in listed.out
    assert listed.out.count("modality/video.yaml is offered by") == 2
    shown = diffract("sample", "run=x", "solver=loud", "--cfg", "job")
    assert shown.code == 0 and "DDIM" in shown.out
    assert shown.err.count("diffract: plugin 'aaa' of aaa 1.5") == 1


def test_metrics_besides_have_a_name_of_their_own():
    value = Measurement(1.0, 0.0, 2.0, 3, 0)
    found = measured_besides({"a": lambda *_: value, "b": lambda *_: {"x": value}}, torch.zeros(3), [None] * 3, None, 0)
    assert set(found) == {"a", "b/x"}
    with pytest.raises(ValueError, match=r"metrics\.a: a is a float"):
        measured_besides({"a": lambda *_: 1.0}, torch.zeros(3), [None] * 3, None, 0)  # type: ignore[dict-item,return-value]
