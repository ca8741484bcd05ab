"""Arrows between packages run one way: experiments -> modalities -> framework; and costs stay put."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def imports(package: str) -> Iterator[tuple[Path, str]]:
    """(file, imported module) for each import statement below a package, those inside functions too."""
    for path in sorted((ROOT / package).rglob("*.py")):
        file = path.relative_to(ROOT)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(file))):
            if isinstance(node, ast.Import):
                yield from ((file, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                home = ".".join(file.parts[: len(file.parts) - node.level]) if node.level else ""
                yield file, ".".join(filter(None, (home, node.module)))


def offenders(package: str, *forbidden: str, but: tuple[str, ...] = ()) -> list[str]:
    return [
        f"{file} imports {name}"
        for file, name in imports(package)
        if name.partition(".")[0] in forbidden and not any(str(file).startswith(place) for place in but)
    ]


def test_there_is_something_to_look_at():
    assert sum(1 for _ in imports("framework")) > 50


def test_framework_knows_no_modality_and_no_application():
    assert offenders("framework", "modalities", "experiments", "conf", "tests") == []


def test_modalities_know_no_application():
    assert offenders("modalities", "experiments", "conf", "tests") == []


def test_modalities_do_not_know_each_other():
    for file, name in imports("modalities"):
        if name.startswith("modalities."):
            assert name.split(".")[1] == file.parts[1], f"{file} imports {name}"


def test_hydra_stays_in_the_applications():
    assert offenders("framework", "hydra", "omegaconf") == []
    assert offenders("modalities", "hydra", "omegaconf") == []


def test_framework_plots_only_in_studies():
    assert offenders("framework", "matplotlib", "plotly", but=("framework/studies/",)) == []


@pytest.mark.parametrize(
    "statement",
    [
        "import framework",
        "import framework.plugins, framework.build",
        "import experiments.cli, experiments.configuration, experiments.explain",
        "import modalities, modalities.images.conf",
        "from experiments.configuration import compose; compose('train'); compose('sample')",
    ],
)
def test_what_comes_before_work_imports_no_torch(statement):
    code = f"{statement}\nimport sys\nprint({{'torch', 'lightning', 'matplotlib', 'numpy'}} & set(sys.modules))"
    shown = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "set()"
