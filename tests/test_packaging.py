"""An installed Diffract carries its configuration with it, whatever lies where it is called from."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from experiments.new_modality import template_files

ROOT = Path(__file__).parents[1]
PACKAGES = ("framework", "modalities", "experiments")
LEFT_OUT = shutil.ignore_patterns(".git", ".venv", "outputs", "build", "dist", "__pycache__", "*.egg-info", ".*_cache")


def run(command: Sequence[str | Path], cwd: Path) -> subprocess.CompletedProcess[str]:
    clean = {"PATH": "/usr/bin:/bin", "HOME": str(cwd)}
    return subprocess.run(list(map(str, command)), cwd=cwd, capture_output=True, text=True, env=clean)


def must(command: Sequence[str | Path], cwd: Path) -> str:
    result = run(command, cwd)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository, so that building leaves nothing in it."""
    return shutil.copytree(ROOT, tmp_path_factory.mktemp("source") / "diffract", ignore=LEFT_OUT)


@pytest.fixture(scope="module")
def wheel(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    build = ["-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", out, "."]
    must([sys.executable, *build], checkout)
    [built] = out.glob("diffract-*.whl")
    return built


@pytest.fixture(scope="module", params=["wheel", "editable"])
def installed(request, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin/ of a new environment with Diffract in it. The one that runs the tests lends dependencies."""
    if request.param == "wheel":
        source = [request.getfixturevalue("wheel")]
    else:
        source = ["--no-build-isolation", "--editable", request.getfixturevalue("checkout")]
    home = tmp_path_factory.mktemp(request.param) / "venv"
    must([sys.executable, "-m", "venv", "--without-pip", home], home.parent)
    python = home / "bin" / "python"
    site = Path(must([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], home).strip())
    # A plain path in a .pth lends packages, but not an editable install of Diffract that may be among them.
    (site / "lent.pth").write_text(sysconfig.get_path("purelib") + "\n")
    must([sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", *source], home)
    return home / "bin"


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A folder whose owner has a conf/ too, with files of the same names."""
    for name in ("conf", "conf/trainer", "conf/experiment"):
        (tmp_path / name).mkdir()
    (tmp_path / "conf" / "__init__.py").write_text("raise RuntimeError('not this one')\n")
    (tmp_path / "conf" / "train.yaml").write_text("defaults: [trainer: cpu]\nhijacked: true\n")
    (tmp_path / "conf" / "trainer" / "cpu.yaml").write_text("accelerator: hijacked\n")
    return tmp_path


def test_the_wheel_holds_every_module_and_every_configuration(wheel):
    held = set(zipfile.ZipFile(wheel).namelist())
    ours = {path.relative_to(ROOT).as_posix() for name in PACKAGES for path in (ROOT / name).rglob("*.py")}
    assert ours <= held
    assert {path.relative_to(ROOT).as_posix() for path in template_files()} <= held
    conf = {path.relative_to(ROOT).as_posix() for path in (ROOT / "conf").rglob("*.yaml")}
    plugins = {path.relative_to(ROOT).as_posix() for path in (ROOT / "modalities").rglob("*.yaml")}
    assert {f"framework/{name}" for name in conf} | plugins <= held
    assert {name.partition("/")[0].partition("-")[0] for name in held} == {*PACKAGES, "diffract"}
    assert any(name.endswith("/licenses/LICENSE") for name in held)


def test_the_command_works_from_a_hostile_folder(installed, hostile):
    diffract = installed / "diffract"
    assert "trainer: cpu, ddp, ddp_cpu, gpu" in must([diffract, "train", "--help"], hostile)
    config = must([diffract, "train", "--cfg", "job", "trainer=gpu"], hostile)
    assert "accelerator: gpu" in config
    assert "hijacked" not in config
    wrong = run([diffract, "train", "trainer=gpuu"], hostile)
    assert (wrong.returncode, "did you mean 'gpu'?" in wrong.stderr) == (2, True)
    assert "images" in must([diffract, "modalities"], hostile)
    assert not (hostile / "outputs").exists()


def test_the_modules_work_from_a_hostile_folder(installed, hostile):
    python = installed / "python"
    assert "did you mean" in run([python, "-m", "experiments.cli", "train", "trainer=gpuu"], hostile).stderr
    code = "import experiments.configuration as c, framework; print(c.compose('train').trainer.accelerator)"
    assert must([python, "-c", code], hostile) == "cpu\n"


def test_the_code_is_the_installed_one(installed, hostile):
    origin = must([installed / "python", "-c", "import framework; print(framework.__file__)"], hostile).strip()
    assert not Path(origin).is_relative_to(ROOT)


def test_completion_is_installed_for_the_command(installed, hostile):
    script = must([installed / "diffract", "-sc", "install=bash"], hostile)
    assert script.rstrip().endswith("hydra_bash_completion diffract")


def test_a_checkout_works_without_being_installed(checkout, hostile):
    code = f"import sys; sys.path.insert(0, {str(checkout)!r}); from experiments.cli import main; main()"
    shown = must([sys.executable, "-c", code, "modalities"], hostile)
    assert "images" in shown
