"""What a sample says of how it was made, and the way back: the settings that make it again.

Every file of a single sample holds, as text beside its prompt, seed and index: solver, grid, steps and guidance by
name, the task with its settings, the model's folder and the SHA-256 of its weights, the version, and `settings`, the
values of conf/sample.yaml that were not the defaults, as JSON. `diffract sample from=FILE` reads them.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from experiments.configuration import compose, plain
from experiments.errors import ConfigurationError
from framework import __version__

MISSING = "???"
TOLD = ("negative", "solver", "grid", "steps", "guidance", "task", "adapter", "adapter_scale", "batch_size", "allow")


def facts(settings: dict[str, Any], task: dict[str, Any], model: Any) -> dict[str, str]:
    """The text that all samples of a call carry."""
    default = defaults()
    kept = {key: settings[key] for key in TOLD if settings.get(key) != default.get(key)}
    own = model.defaults
    return {
        "model": str(settings["run"]),
        "weights": weights(settings["run"]),
        "version": f"diffract {__version__}",
        "solver": named(settings["solver"], own.solver),
        "grid": named(settings["grid"], own.grid),
        "steps": str(settings["steps"] or own.steps),
        "guidance": named(settings["guidance"], own.guidance),
        **({} if settings["negative"] is None else {"negative": str(settings["negative"])}),
        **told(task),
        "settings": json.dumps(kept, ensure_ascii=False, separators=(",", ":")),
    }


def named(chosen: Any, own: Any) -> str:
    """A part and its values in one word: what was chosen, else the model's own."""
    if isinstance(chosen, dict):
        values = ", ".join(f"{key}={value}" for key, value in chosen.items() if key not in ("_target_", "_partial_"))
        return f"{str(chosen.get('_target_', '')).rpartition('.')[2]}({values})"
    return "none" if own is None else repr(own)


def told(task: dict[str, Any]) -> dict[str, str]:
    """A task and its settings; nothing of one that only generates."""
    name = str(task["_target_"]).rpartition(".")[2]
    if name == "Generate":
        return {}
    settings = {f"task.{key}": str(value) for key, value in task.items() if key != "_target_" and value is not None}
    return {"task": name, **settings}


def weights(run: Any) -> str:
    """The SHA-256 of a model's weights, as its manifest has it; of other software's folder, that of all its weights."""
    from framework.files import sha256
    from framework.store import MANIFEST, WEIGHTS, ModelFolderError, find_folder

    try:
        manifest = json.loads((find_folder(Path(run)) / MANIFEST).read_text())
    except ModelFolderError:
        sums = [sha256(file) for file in sorted(Path(run).rglob("*.safetensors"))]
        return hashlib.sha256("".join(sums).encode()).hexdigest()
    return str(manifest["sha256"][WEIGHTS])


def defaults() -> dict[str, Any]:
    """The settings of `diffract sample` where nothing is said."""
    return plain(compose("sample", ["run=x"]))


def recalled(settings: dict[str, Any]) -> tuple[dict[str, Any], int, int]:
    """The settings that make the sample in `from` again, changed where others are given now; its seed and its index.

    Raises:
        ConfigurationError: the file does not say how it was made, or its model is not the one that is at hand.
    """
    path = Path(str(settings["from"]))
    row = read(path)
    default = defaults()
    now = {key: value for key, value in settings.items() if value not in (default.get(key), MISSING)}
    run = row["model"] if settings["run"] in (None, MISSING) else settings["run"]
    prompt = None if row["prompt"] == "None" else row["prompt"]
    again = {**default, "prompt": prompt, **json.loads(row["settings"]), **now, "run": run, "n": 1, "from": str(path)}
    if not Path(run).exists():
        raise ConfigurationError(f"from={path} was made by the model {run}, which is not there; run= says where it is")
    if weights(run) != row["weights"]:
        raise ConfigurationError(
            f"from={path} was made by other weights ({row['weights'][:12]}) than those of {run} "
            f"({weights(run)[:12]}), which would make another sample; name the right model as run="
        )
    seed = settings["seed"] if settings["seed"] != default["seed"] else int(row["seed"])
    return again, seed, int(row["index"])


def read(path: Path) -> dict[str, str]:
    """The text that a sample's file carries; ConfigurationError where there is none of ours."""
    from framework.plugins import load_modality, modalities

    if not path.is_file():
        raise ConfigurationError(f"from={path}: there is no such file")
    for name, plugin in modalities().items():
        row = load_modality(name).told(path) if plugin.problem() is None else None  # type: ignore[attr-defined]
        if row is not None and {"settings", "model", "weights", "prompt", "seed", "index"} <= set(row):
            return dict(row)
    raise ConfigurationError(f"from={path} does not say how it was made: it is no sample of Diffract, or was rewritten")
