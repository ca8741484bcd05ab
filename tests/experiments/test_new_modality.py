"""`diffract new-modality`: what it writes, under which names, and what it refuses. docs/new-modality.md runs it all."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from experiments import cli
from experiments.errors import ConfigurationError
from experiments.new_modality import create, template_files

LONG = "a_name_that_is_as_long_as_one_may_be_40"


@pytest.fixture(autouse=True)
def somewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_a_package_of_that_name_is_written():
    folder = create("sea_ice")
    assert folder == Path("diffract-sea-ice")
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    assert project["name"] == "diffract-sea-ice"
    assert project["entry-points"]["diffract.modalities"] == {"sea_ice": "diffract_sea_ice.modality:SeaIce"}
    package = folder / "src" / "diffract_sea_ice"
    for file in ("conf/__init__.py", "conf/experiment/sea_ice/toy.yaml", "modality.py", "data.py", "py.typed"):
        assert (package / file).is_file(), file
    assert (folder / "tests" / "test_sea_ice.py").is_file() and (folder / ".github/workflows/ci.yml").is_file()
    assert "class SeaIce(Modality):" in (package / "modality.py").read_text()


def test_nothing_of_the_templates_name_is_left_and_all_of_it_is_there():
    folder = create("sea_ice")
    written = [file for file in folder.rglob("*") if file.is_file()]
    assert len(written) == len(template_files())
    for file in written:
        text = f"{file} {file.read_text()}"
        assert "my_modality" not in text and "my-modality" not in text and "MyModality" not in text, file
        if file.suffix == ".py":
            ast.parse(file.read_text())


def test_what_is_written_is_formatted_whatever_the_name():
    pytest.importorskip("ruff")
    for name in ("a", LONG):
        folder = create(name)
        for words in (["format", "--check"], ["check", "--no-cache"]):
            done = subprocess.run([sys.executable, "-m", "ruff", *words, folder], capture_output=True, text=True)
            assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("Weather", "small letters"),
        ("sea-ice", "small letters"),
        ("sea__ice", "small letters"),
        ("2d", "small letters"),
        ("../evil", "small letters"),
        ("", "small letters"),
        ("class", "a meaning already"),
        ("images", "taken, by diffract"),
        (f"{LONG}_or_more", "40 are enough"),
    ],
)
def test_names_that_will_not_do(name, why):
    with pytest.raises(ConfigurationError, match=why):
        create(name)
    assert list(Path().iterdir()) == []


def test_a_package_that_is_there_takes_the_name(tmp_path, monkeypatch):
    (tmp_path / "diffract_sea_ice.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigurationError, match="there is a package diffract_sea_ice already"):
        create("sea_ice")


def test_a_folder_that_is_there_is_left_as_it_is():
    Path("mine").mkdir()
    Path("mine/notes.txt").write_text("precious")
    with pytest.raises(ConfigurationError, match="mine is there already"):
        create("sea_ice", "mine")
    assert [file.name for file in Path("mine").iterdir()] == ["notes.txt"]
    assert [file.name for file in Path().iterdir()] == ["mine"]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["sea_ice", "out=a/b"], 0, "wrote a/b"),
        ([], 2, "name the new kind of data"),
        (["one", "two"], 2, "is not understood"),
        (["one", "outt=x"], 2, "is not understood"),
        (["images"], 2, "taken, by diffract"),
    ],
)
def test_the_command(words, code, said, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["diffract", "new-modality", *words])
    ended = 0
    try:
        cli.main()
    except SystemExit as stop:
        ended = int(stop.code or 0)
    assert ended == code
    shown = capsys.readouterr()
    assert said in shown.out + shown.err
    assert (Path("a/b/pyproject.toml").is_file()) == (code == 0)
