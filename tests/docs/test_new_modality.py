"""docs/new-modality.md, followed to the letter: from an empty folder to a plugin that is trained and judged."""

from __future__ import annotations

import importlib.util
import json
import os
import shlex
import subprocess
import sys
import sysconfig
from importlib import metadata
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, blocks

PAGE = ROOT / "docs" / "new-modality.md"
NAME = "weather"


def program(file: Path, text: str) -> None:
    file.write_text(text)
    file.chmod(0o755)


@pytest.fixture(scope="module")
def computer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a new environment that has Diffract; its programs are in bin/, and pip reaches no network."""
    try:
        metadata.distribution("diffract")
    except metadata.PackageNotFoundError:
        pytest.skip("Diffract is not installed here, so that pip would look for it elsewhere")
    home = tmp_path_factory.mktemp("computer")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", home / "env"], check=True)
    python = home / "env" / "bin" / "python"
    asked = [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    site = Path(subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip())
    (site / "lent.pth").write_text(f"{sysconfig.get_path('purelib')}\n{ROOT}\n")
    (home / "bin").mkdir()
    pip = f'exec {shlex.quote(sys.executable)} -m pip --python {python} "$@"'
    program(home / "bin" / "pip", f"#!/bin/sh\n{pip}\n")
    program(home / "bin" / "diffract", f"#!{python}\nfrom experiments.cli import main\n\nmain()\n")
    program(home / "bin" / "pytest", f"#!{python}\nimport sys\n\nimport pytest\n\nsys.exit(pytest.main())\n")
    return home


@pytest.fixture(scope="module")
def followed(computer: Path) -> Path:
    """The folder of the package, after all commands of the page."""
    environment = {
        **os.environ,
        "PATH": f"{computer / 'bin'}:{os.environ['PATH']}",
        "PIP_NO_INDEX": "1",
        "OMP_NUM_THREADS": "1",
        "DIFFRACT_CACHE": str(computer / "cache"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    environment.pop("PYTHONPATH", None)
    (computer / "work").mkdir()
    script = "set -e\n" + "".join(blocks(PAGE, "shell"))
    done = subprocess.run(
        ["bash", "-c", script], cwd=computer / "work", env=environment, capture_output=True, text=True, timeout=600
    )
    (computer / "said.txt").write_text(done.stdout)
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-4000:]}"
    return computer / "work" / f"diffract-{NAME}"


def test_all_commands_succeed_and_leave_what_the_page_says(followed: Path, computer: Path) -> None:
    said = (computer / "said.txt").read_text()
    assert "weather" in said and " loads " in said and "failed" not in said
    assert (followed / "outputs/toy/model/model.safetensors").is_file()
    assert len(list((followed / "outputs/toy/samples").glob("0001/sheet.png"))) == 1
    assert len(list((followed / "outputs/toy").glob("framework.solvers*/metrics.json"))) == 2
    assert "dpmpp_2m" in (followed / "outputs/study/report.html").read_text()


def test_the_trained_plugin_is_as_good_as_the_page_says(followed: Path) -> None:
    metrics = json.loads((followed / "outputs/toy/evaluation/metrics.json").read_text())
    assert metrics["shape_accuracy"]["value"] > 0.9
    assert metrics["ceiling/shape_accuracy"]["value"] > 0.99


def test_what_was_written_is_clean(followed: Path) -> None:
    """By the rules in its own pyproject.toml: formatting, lint and types."""
    for tool, words in (("ruff", ["format", "--check", "."]), ("ruff", ["check", "--no-cache", "."])):
        if importlib.util.find_spec(tool) is None:
            pytest.skip(f"{tool} is not installed")
        done = subprocess.run([sys.executable, "-m", tool, *words], cwd=followed, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout
