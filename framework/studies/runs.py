"""A trained model in a study: where it lies, what it is called, and what it samples for and is judged by."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
import yaml

from framework.build import MODEL_FOLDER, USER_CONFIG, build
from framework.errors import UserError
from framework.files import sha256
from framework.judged import JudgeData
from framework.model import Model
from framework.store import CONFIG, WEIGHTS, find_folder, load, read
from framework.studies.cell import digest


@dataclass(frozen=True)
class RunSpec:
    """A run, as plain values that other processes can be sent.

    Attributes:
        name: what tables call it; several folders may share one if they are `variant`s that are compared.
        folder: of the run, or of a model.
        experiment, training_seed: runs of one experiment are repetitions of it.
        variant: what was trained differently, where trainings are compared.
        data: the configuration of its data, with which it is judged; None: it is not judged.
        device: where it runs.
        allow: packages of the user's own that it may name.
    """

    name: str
    folder: str
    experiment: str
    training_seed: int | None = None
    variant: str = ""
    data: Mapping[str, Any] | None = None
    device: str = "cpu"
    allow: tuple[str, ...] = ()

    @property
    def model_hash(self) -> str:
        """The hash of the model's configuration and weights."""
        return _model_hash(str(find_folder(Path(self.folder)).resolve()))

    @property
    def file(self) -> str:
        """What the run's files begin with."""
        return digest([self.name, self.variant, self.model_hash])

    @property
    def defaults(self) -> dict[str, Any]:
        """What the model samples with when nothing is said, as configurations."""
        return _defaults(str(find_folder(Path(self.folder)).resolve()), self.model_hash)


@lru_cache(maxsize=64)
def _defaults(folder: str, model_hash: str) -> dict[str, Any]:
    return dict((yaml.safe_load((Path(folder) / CONFIG).read_text()) or {}).get("defaults") or {})


@lru_cache(maxsize=64)
def _model_hash(folder: str) -> str:
    parts = [sha256(Path(folder) / name) for name in (CONFIG, WEIGHTS)]
    return hashlib.sha256("".join(parts).encode()).hexdigest()[:16]


def spec_of(
    folder: str | Path,
    *,
    name: str | None = None,
    data: Mapping[str, Any] | None = None,
    variant: str = "",
    device: str = "cpu",
    allow: Sequence[str] = (),
) -> RunSpec:
    """A run by its folder; what the folder's config.yaml says of experiment and seed is taken from there.

    Raises:
        ModelFolderError: there is no model.
    """
    path = Path(folder)
    find_folder(path)
    saved = path / "config.yaml"
    whole = yaml.safe_load(saved.read_text()) if saved.is_file() else {}
    called = name or path.name
    experiment = str(whole.get("name") or called)
    return RunSpec(called, str(path), experiment, whole.get("seed"), variant, data, device, tuple(allow))


@dataclass
class Opened:
    """A run's model and its data; prompts are kept once they are asked for."""

    spec: RunSpec
    model: Model
    data: JudgeData | None
    _prompts: dict[tuple[int, int], list[Any]] = field(default_factory=dict, repr=False)

    @property
    def domain(self) -> str:
        return self.model.modality.name

    def prompts(self, n: int, seed: int) -> list[Any]:
        """The prompts of a seed's n samples: of the data, or examples where there are none."""
        if (n, seed) not in self._prompts:
            modality = self.model.modality
            found = modality.examples(n) if self.data is None else modality.prompts(self.data, n, seed)
            self._prompts[n, seed] = list(found)
        return self._prompts[n, seed]

    def prompts_hash(self, n: int, seed: int) -> str:
        """Tells prompts apart."""
        return digest([str(prompt) for prompt in self.prompts(n, seed)])


def open_run(spec: RunSpec) -> Opened:
    """Load a run's model and set up its data; once a process for each folder.

    Raises:
        ModelFolderError: there is no model, or it is damaged.
        BuildError: it names what it may not.
    """
    known = _OPENED.get((spec.folder, spec.device))
    if known is None or known.spec.model_hash != spec.model_hash:
        if read(find_folder(Path(spec.folder)))[0].get("kind") == "autoencoder":
            raise UserError(f"{spec.folder} holds an autoencoder, which is not sampled")
        model = load(spec.folder, spec.device, MODEL_FOLDER.plus(*spec.allow))
        data = None if spec.data is None else build(dict(spec.data), USER_CONFIG.plus(*spec.allow))
        if data is not None:
            data.setup("fit")
        known = _OPENED[spec.folder, spec.device] = Opened(spec, model, data)
    return Opened(spec, known.model, known.data, known._prompts)


_OPENED: dict[tuple[str, str], Opened] = {}


def use_threads(count: int) -> None:
    """Let torch work in so many threads."""
    if torch.get_num_threads() != count:
        torch.set_num_threads(count)
