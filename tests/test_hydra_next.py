"""The next Hydra: what presets, plugins and commands rest on holds with its latest release or release candidate."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.nightly
def test_the_commands_hold_with_hydra_1_4(tmp_path: Path) -> None:
    """Installed beside this environment and found first, so that nothing else of it changes."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--pre", "--target", str(tmp_path)]
    # The release candidates ask for one of OmegaConf, whose own requirements are met here.
    subprocess.run([*pip, "--no-deps", "hydra-core>=1.4.0rc3,<1.5", "omegaconf>=2.4.1rc1,<2.5"], check=True)
    paths = os.pathsep.join([str(tmp_path), str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": paths}
    version = [sys.executable, "-c", "import hydra; print(hydra.__version__)"]
    assert subprocess.run(version, env=environment, capture_output=True, text=True).stdout.startswith("1.4")
    composed = [str(file) for file in ROOT.glob("tests/*/test_*modality.py")]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/experiments", *composed]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:]
