"""The pages of the documentation, and how what stands in them is run.

Blocks marked `bash` are run line by line, blocks marked `python` of one page together, in an empty folder where a
model has been trained for a few steps at outputs/shapes. Blocks marked `text` need what a test has not: a network, a
GPU, data of one's own.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


def commands(page: Path) -> list[str]:
    text = "".join(blocks(page, "bash")).replace("\\\n", " ")
    return [line for line in text.splitlines() if line.strip() and not line.startswith("#")]


class Runner:
    """Runs commands and Python in a folder, each in a process of its own: see `warm`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("warm.py"))],
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def python(self, code: str) -> None:
        self._do("a piece of Python", {"code": code})

    def commands(self, lines: list[str]) -> None:
        for line in lines:
            self._do(line, {"words": shlex.split(line)[1:]})

    def end(self) -> None:
        self.process.communicate()

    def _do(self, name: str, what: dict[str, Any]) -> None:
        said = self.folder / "said.txt"
        said.unlink(missing_ok=True)
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps({"folder": str(self.folder), "said": str(said), **what}) + "\n")
        self.process.stdin.flush()
        code = self.process.stdout.readline().strip()
        assert code == "0", f"{name} ended with {code or 'the process'}:\n{said.read_text()[-6000:]}"


def with_a_model(place: Path) -> Iterator[Runner]:
    """A folder with a model of a few steps at outputs/shapes, which pages may use."""
    runner = Runner(place)
    runner.commands(["diffract train experiment=images/shapes run=outputs/shapes debug=fast"])
    yield runner
    runner.end()
