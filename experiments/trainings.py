"""The trainings that a study compares: each variant of an experiment with each training seed, at equal budget.

They are trained in the study's own folder by `diffract train`, one after the other, and gone on with where they were
interrupted. All variants of one training seed are one run of the study, so that what is compared is the variant.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.errors import ConfigurationError
from experiments.evaluate import data_config
from experiments.models import chosen_device

if TYPE_CHECKING:
    from framework.studies.runs import RunSpec


def trained(settings: Mapping[str, Any], out: Path, part: tuple[int, int]) -> list[RunSpec]:
    """Train what is not trained yet; the runs to compare.

    Args:
        settings: of the command.
        out: the study's folder.
        part: (k, n): only every n-th training is done here.

    Raises:
        ConfigurationError: runs are given too, there is no preset or no variant, a training failed, or
            another part has to train.
    """
    from framework.studies.runs import spec_of

    if settings["runs"]:
        raise ConfigurationError("study.trainings makes the runs that are compared: leave out runs=")
    asked = settings["study"]["trainings"]
    if asked["experiment"] in (None, "???"):
        raise ConfigurationError("study.trainings.experiment is the preset that is trained: name one of experiment=")
    variants = {name: changes for name, changes in asked["variants"].items() if changes is not None}
    if not variants:
        raise ConfigurationError("study.trainings.variants names what is compared, as {cosine: [schedule=cosine]}")
    folders = {(name, seed): out / "runs" / f"{name}-{seed}" for seed in asked["seeds"] for name in variants}
    for i, ((name, seed), folder) in enumerate(folders.items()):
        if i % part[1] == part[0] - 1 and not _is_done(folder):
            train(folder, asked["experiment"], [*asked["overrides"], *variants[name], f"seed={seed}"])
    missing = [f"{name} with seed {seed}" for (name, seed), folder in folders.items() if not _is_done(folder)]
    if missing:
        raise ConfigurationError(f"other parts have to train {', '.join(missing)}; start this part again then")
    base = str(asked["experiment"]).rpartition("/")[2]
    return [
        spec_of(
            folder,
            name=f"{base} (training seed {seed})",
            data=data_config({"run": str(folder), "data": {"path": None}}),
            variant=name,
            device=chosen_device(dict(settings)),
            allow=settings["allow"] or (),
        )
        for (name, seed), folder in folders.items()
    ]


def _is_done(folder: Path) -> bool:
    return (folder / "model" / "manifest.json").is_file() and (folder / ".trained").is_file()


def train(folder: Path, experiment: str, overrides: list[str]) -> None:
    """One training, or the rest of it.

    Raises:
        ConfigurationError: it failed.
    """
    begun = any((folder / "checkpoints").glob("*.ckpt"))
    words = [f"resume={folder}"] if begun else [f"experiment={experiment}", f"run={folder}", *overrides]
    print(f"training {folder.name}: diffract train {' '.join(words)}", flush=True)
    done = subprocess.run([sys.executable, "-m", "experiments.train", *words], check=False)
    if done.returncode != 0:
        raise ConfigurationError(f"training {folder} failed (exit code {done.returncode}); see above")
    (folder / ".trained").touch()
