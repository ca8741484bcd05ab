"""`diffract check-modality`: what it composes, prints and writes, and how it ends."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from experiments import cli
from experiments.check_modality import all_solvers
from experiments.configuration import compose, plain
from framework.build import USER_CONFIG

SMALL = (
    "experiment=images/shapes",
    "backbone.width=8",
    "backbone.multipliers=[1]",
    "backbone.text.width=8",
    "data.train_length=32",
    "data.validation_length=8",
    "data.batch_size=8",
)
QUICK = "only=[contract,encoding,null_condition,rendering]"
BROKEN = """
from modalities.images.modality import Images


class Deaf(Images):
    def render(self, samples, prompts, folder, metadata):
        return []
"""


@pytest.fixture
def diffract(tmp_path, monkeypatch, capfd):
    """Runs `diffract WORDS` in an empty folder beside a modality of one's own that renders nothing."""
    (tmp_path / "modality_of_mine.py").write_text(BROKEN)
    monkeypatch.chdir(tmp_path)

    def call(*words: str) -> SimpleNamespace:
        monkeypatch.setattr(sys, "argv", ["diffract", *words])
        code = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 1
        out, err = capfd.readouterr()
        sys.modules.pop("modality_of_mine", None)
        return SimpleNamespace(code=code, out=out, err=err)

    return call


def test_it_composes_what_training_composes():
    ours, theirs = (plain(compose(command, SMALL)) for command in ("check_modality", "train"))
    own = {"out", "fast", "items", "only", "expected"}
    assert set(ours) - set(theirs) == own
    assert all(ours[key] == theirs[key] for key in ("modality", "data", "backbone", "schedule", "objective"))
    assert ours["backbone"]["width"] == 8


def test_a_sound_modality_ends_with_0_and_leaves_what_was_asked_for(diffract):
    result = diffract("check-modality", *SMALL, QUICK, "out=here")
    assert result.code == 0, result.err
    assert "4 passed" in result.out and "rendering" in result.out
    report = json.loads(Path("here/report.json").read_text())
    assert report["passed"] and report["checks"][0]["name"] == "contract"
    assert (Path("here") / "rendered" / "sheet.png").is_file()
    assert sorted(path.name for path in Path().iterdir()) == ["here", "modality_of_mine.py"]


def test_a_fault_ends_with_1_unless_it_was_expected(diffract):
    mine = ("modality._target_=modality_of_mine.Deaf", "allow=[modality_of_mine]")
    result = diffract("check-modality", *SMALL, QUICK, *mine)
    assert result.code == 1
    assert "render wrote nothing" in result.out and "1 failed" in result.out
    result = diffract("check-modality", *SMALL, QUICK, *mine, "+expected.rendering='not written yet'")
    assert result.code == 0, result.err
    assert "not written yet" in result.out and "1 failed as expected" in result.out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "experiment="),
        (("experiment=images/shaps",), "did you mean 'images/shapes'"),
        ((*SMALL, "only=[encodin]"), "did you mean 'encoding'"),
        ((*SMALL, "backbone.widht=8"), "did you mean 'backbone.width'"),
    ],
)
def test_wrong_words_end_with_2(diffract, words, said):
    result = diffract("check-modality", *words)
    assert result.code == 2
    assert said in result.err and "Traceback" not in result.err
    assert [path.name for path in Path().iterdir()] == ["modality_of_mine.py"]


def test_help_is_there(diffract):
    shown = diffract("check-modality", "--help").out
    assert shown.startswith("diffract check-modality: ")
    assert "diffract check-modality experiment=KIND/NAME" in shown and "expected: {}" in shown


def test_all_solvers_are_those_of_gaussian_states():
    solvers = all_solvers(USER_CONFIG)
    assert {"ddim", "dpmpp_2m", "heun", "rk45"} <= set(solvers)
    assert not {"remdm", "tau_leaping", "splitting"} & set(solvers)
