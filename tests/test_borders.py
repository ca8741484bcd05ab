"""Arrows between packages run one way: experiments -> modalities -> framework; and costs stay put."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import tomllib
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


def declared() -> dict[str, str]:
    """The kinds of data that this repository declares, and the package of each."""
    entries = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["diffract.modalities"]
    return {name: target.partition(":")[0].rpartition(".")[0] for name, target in entries.items()}


@pytest.mark.parametrize("package", ["framework", "experiments", "conf"])
def test_no_name_of_a_modality_is_in(package):
    """Neither a package, nor a value, nor an option; a common word in prose, or a key that is one, is no name."""
    names = "|".join(declared())
    named = re.compile(rf"modalities\.({names})\b|['\"]({names})['\"](?!:)|\b({names})/\w")
    files = [file for kind in ("*.py", "*.yaml") for file in (ROOT / package).rglob(kind)]
    assert len(files) > 10
    found = [f"{file}: {hit[0]}" for file in files for hit in named.finditer(file.read_text(encoding="utf-8"))]
    assert found == []


WITHOUT = """
import sys

sys.meta_path = [finder for finder in sys.meta_path if "editable" not in repr(finder)]  # it knows where the folder was
from framework.plugins import config_packages, modalities, problems
from experiments.compositions import faults_of, presets_in
from experiments.plugged import offered
from experiments.configuration import config_folder

gone, kept = sys.argv[1], sys.argv[2:]
assert [p.plugin.name for p in problems()] == [gone, gone], problems()
folders = offered(config_folder()).folders
assert set(folders) == set(kept), folders
for name in kept:
    modalities()[name].load()
    preset = presets_in(folders[name])[0]
    assert faults_of(preset) == [], faults_of(preset)
assert not any(module.startswith(f"modalities.{gone}") for module in sys.modules)
"""


@pytest.mark.parametrize("gone", declared())
def test_the_others_stand_without(gone, tmp_path):
    """The tree without the folder of one kind of data: the others load, and their presets are sound."""
    left_out = shutil.ignore_patterns("__pycache__", "template")
    for package in ("framework", "experiments", "conf"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=left_out)
    shutil.copytree(ROOT / "modalities", tmp_path / "modalities", ignore=shutil.ignore_patterns("__pycache__", gone))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    kept = [name for name in declared() if name != gone]
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n{WITHOUT}"
    done = subprocess.run([sys.executable, "-c", code, gone, *kept], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.nightly
@pytest.mark.parametrize("gone", declared())
def test_the_tests_of_the_others_stand_without(gone, tmp_path):
    """All tests of the framework and of the other kinds, on a tree without one."""
    left_out = shutil.ignore_patterns("__pycache__", ".git", ".venv", "outputs", "*.egg-info", ".*_cache", gone)
    shutil.copytree(ROOT, tmp_path / "tree", ignore=left_out)
    folders = [f"tests/{name}" for name in declared() if name != gone]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/laws", "tests/metrics", *folders]
    done = subprocess.run(command, cwd=tmp_path / "tree", capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:]
