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
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# Each command in a process of its own, which has the packages already: to import them takes longer than most commands.
COMMANDS = """
import json, os, shlex, sys
import experiments.train, framework.store, framework.training.run, lightning, torch
from experiments.cli import main

for words in json.loads(sys.argv[1]):
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        sys.argv = ["diffract", *words]
        code = 1
        try:
            main()
            code = 0
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0:
        sys.exit("failed: diffract " + shlex.join(words))
"""


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


def commands(page: Path) -> list[str]:
    text = "".join(blocks(page, "bash")).replace("\\\n", " ")
    return [line for line in text.splitlines() if line.strip() and not line.startswith("#")]


def run(code: str, folder: Path, *words: str) -> None:
    done = subprocess.run([sys.executable, "-c", code, *words], cwd=folder, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"


def run_commands(lines: list[str], folder: Path) -> None:
    run(COMMANDS, folder, json.dumps([shlex.split(line)[1:] for line in lines]))


def with_a_model(place: Path) -> Path:
    """The folder with a model of a few steps at outputs/shapes, which pages may use."""
    run_commands(["diffract train experiment=images/shapes run=outputs/shapes debug=fast"], place)
    return place
