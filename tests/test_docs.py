"""Every command and every piece of Python in the README and in docs/ runs as it stands there.

Blocks marked `bash` are run line by line, blocks marked `python` of one page together, in an empty folder where a
model has been trained for a few steps at outputs/shapes. Blocks marked `text` need what a test has not: a network, a
GPU, data of one's own.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
CLI = "from experiments.cli import main; main()"

pytestmark = pytest.mark.slow


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


def commands(page: Path) -> list[str]:
    text = "".join(blocks(page, "bash")).replace("\\\n", " ")
    return [line for line in text.splitlines() if line.strip() and not line.startswith("#")]


def run(words: list[str], folder: Path) -> None:
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{shlex.join(words)}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("docs")
    run(
        [sys.executable, "-c", CLI, "train", "experiment=images/shapes", "run=outputs/shapes", "debug=fast"],
        place,
    )
    return place


@pytest.mark.parametrize("page", [p for p in PAGES if commands(p)], ids=lambda p: p.name)
def test_commands(page: Path, folder: Path) -> None:
    for line in commands(page):
        program, *words = shlex.split(line)
        assert program == "diffract", (
            f"{page.name}: {line!r} is not a command that a test can run; mark its block `text`"
        )
        run([sys.executable, "-c", CLI, *words], folder)


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p, "python")], ids=lambda p: p.name)
def test_python(page: Path, folder: Path) -> None:
    run([sys.executable, "-c", "\n".join(blocks(page, "python"))], folder)


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        for link in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            assert (page.parent / link).exists() or "://" in link, f"{page.name}: {link} does not exist"
