"""The plugins under examples/ work as a stranger's do: installed apart, found by their entry points, trained, sampled.

Each folder there is a package of its own. It is copied, so that building leaves nothing in the repository, and
installed into a folder that is put on the path; nothing is fetched. Its toy experiment is examples/NAME: `NAME/toy`.
"""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = sorted(file.parent for file in (ROOT / "examples").glob("*/pyproject.toml"))
MADE = ("build", "*.egg-info", "__pycache__", ".*_cache", "outputs")
ASIDE = ("data", "files", "made", "shapes", "clips", "grammar", "render")  # modules that make data, or pictures
LINES = 400


class Installed:
    """An example in a folder of its own, and a place to work in."""

    def __init__(self, source: Path, place: Path) -> None:
        self.name, self.source, self.site, self.work = source.name, place / "source", place / "site", place / "work"
        subprocess.run(["cp", "-r", source, self.source], check=True)
        for pattern in MADE:
            for path in self.source.rglob(pattern):
                subprocess.run(["rm", "-r", path], check=True)
        self.work.mkdir()
        install = ["install", "--quiet", "--no-index", "--no-build-isolation", "--no-deps", "--target", self.site]
        self.run(sys.executable, "-m", "pip", *install, self.source)

    def run(self, *words: str | Path) -> str:
        """What a command prints that must not fail; diffract comes from where these tests have it from."""
        path = os.pathsep.join(map(str, (self.site, ROOT)))
        own = {"PYTHONPATH": path, "DIFFRACT_CACHE": str(self.work / "cache"), "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
        done = subprocess.run(
            list(map(str, words)), cwd=self.work, capture_output=True, text=True, env={**os.environ, **own}
        )
        assert done.returncode == 0, f"{' '.join(map(str, words))}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
        return done.stdout

    def diffract(self, *words: str) -> str:
        return self.run(sys.executable, "-c", "from experiments.cli import main; main()", *words)


@pytest.fixture(scope="module", params=FOLDERS, ids=lambda folder: folder.name)
def example(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    yield Installed(request.param, tmp_path_factory.mktemp(request.param.name))


def package(folder: Path) -> Path:
    """The folder of its one package."""
    [found] = [file.parent for file in folder.glob("diffract_*/__init__.py")]
    return found


def test_there_are_examples():
    assert FOLDERS


def test_it_is_found_and_trains_two_steps_and_samples(example):
    assert example.name in example.diffract("modalities")
    run = f"run={example.work / 'run'}"
    small = ("data.train_length=64", "data.validation_length=64", "data.batch_size=8")
    example.diffract("train", f"experiment={example.name}/toy", run, "debug=fast", "trainer.max_steps=2", *small)
    out = example.work / "samples"
    example.diffract("sample", run, "n=2", "steps=2", f"out={out}")
    assert len(list(out.iterdir())) >= 3  # two samples and a picture of both


@pytest.mark.slow
def test_it_joins_a_study_beside_what_is_built_in(example):
    """Tokens and images have no solver in common: each run has those that apply to it."""
    small = ("data.train_length=64", "data.validation_length=64", "data.batch_size=8")
    mine, digits = example.work / "mine", example.work / "digits"
    example.diffract("train", f"experiment={example.name}/toy", f"run={mine}", "debug=fast", *small)
    example.diffract("train", "experiment=images/digits", f"run={digits}", "debug=fast")
    asked = ("study.solvers=[ddim,categorical_ancestral]", "study.budgets=[2,4]", "study.seeds=[0,1]", "study.n=4")
    out = example.work / "study"
    said = example.diffract("compare", f"runs=[{mine},{digits}]", f"out={out}", *asked, "study.tolerance=0.1")
    cells = [json.loads(file.read_text()) for file in (out / "cells").glob("*.json")]
    for run in ("mine", "digits"):
        ended = sorted(cell["status"] for cell in cells if cell["run"] == run)
        assert ended == ["not applicable"] * 4 + ["ok"] * 4, [cell.get("reason") for cell in cells]
    scores = pd.read_csv(out / "tables" / "scores.csv").dropna(subset=["value"])
    assert {"mine", "digits"} == set(scores["run"])
    assert "report:" in said and example.name in (out / "report.html").read_text()


def test_its_own_tests_pass(example):
    """The conformance kit is one of them."""
    tests = sorted((example.source / "tests").glob("test_*.py"))
    assert tests and any("Suite" in file.read_text() or "check_modality" in file.read_text() for file in tests)
    out = example.run(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", example.source / "tests")
    assert " passed" in out


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_it_uses_nothing_that_a_stranger_has_not(folder):
    """Imports of the framework alone, never of a modality; no configuration without __init__.py; a README."""
    for file in package(folder).rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {name.partition(".")[0] for name in names} & {"modalities", "experiments", "tests"}, file
    assert (package(folder) / "conf" / "__init__.py").is_file()
    assert len((folder / "README.md").read_text()) > 500


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_it_declares_what_it_is_by_entry_points(folder):
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    own = package(folder).name
    assert project["entry-points"]["diffract.modalities"][folder.name].startswith(f"{own}.")
    assert project["entry-points"]["diffract.configs"] == {folder.name: f"{own}.conf"}
    assert "diffract" in {word.split(">")[0].split("[")[0] for word in project["dependencies"]}


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_it_is_small(folder):
    """At most 400 lines that are not empty, data and pictures aside, and no six in a row that the core has."""
    own = [file for file in package(folder).rglob("*.py") if file.stem not in ASIDE]
    assert sum(1 for file in own for line in file.read_text().splitlines() if line.strip()) <= LINES
    core = {run for file in (ROOT / "framework").rglob("*.py") for run in runs(file)}
    for file in own:
        assert not (copied := runs(file) & core), f"{file} copies: {copied}"


def runs(file: Path, count: int = 6) -> set[tuple[str, ...]]:
    """All runs of so many lines of code, without what all files have: imports, signatures, closing brackets."""
    lines = [line.strip() for line in file.read_text().splitlines()]
    lines = [
        line for line in lines if len(line) > 12 and not line.startswith(("import ", "from ", "#", "def ", "class "))
    ]
    return {tuple(lines[i : i + count]) for i in range(len(lines) - count + 1)}
