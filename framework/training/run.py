"""A training run from a plain configuration: build everything, train, and leave a folder that explains itself.

<run>/config.yaml       the resolved configuration
<run>/overrides.txt     what was asked for on the command line
<run>/environment.json  versions, git commit, device, seed
<run>/metrics.csv       losses; TensorBoard files beside it if that logger is chosen
<run>/checkpoints/      to resume from
<run>/samples/          pictures of progress
<run>/model/            the averaged model, written with each checkpoint
"""

from __future__ import annotations

import datetime
import json
import logging
import platform
import subprocess
import warnings
from collections.abc import Sequence
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import lightning as L
import torch
import yaml

from framework.adapters import adapt, merged, save_adapter
from framework.build import Allow, build, check, find
from framework.errors import UserError
from framework.files import write_text
from framework.objectives.autoencoder import AutoencoderObjective
from framework.store import AUTOENCODER, build_model, located, save
from framework.training.autoencoder import (
    AutoencoderTraining,
    ReconstructionPreviews,
    autoencoder_card,
    autoencoder_training,
)
from framework.training.beginning import begin
from framework.training.card import provenance
from framework.training.checkpoints import Checkpoints, DurableCheckpointIO, latest, step_of
from framework.training.interruption import Interruption
from framework.training.latents import EncoderWatch, latent_data
from framework.training.module import DiffusionTraining
from framework.training.previews import Previews
from framework.training.progress import TrainingProgress
from framework.training.run_logger import RunLogger
from framework.training.shift import is_auto, measured_shift

# What Lightning says of a healthy run of ours: an endless loader has no length, validation has no workers on a small
# machine.
EXPECTED_WARNINGS = (
    ".*does not have many workers.*",
    ".*module\\(s\\) in eval mode at the start of training.*",
    ".*Checkpoint directory .* exists and is not empty.*",
    ".*isinstance\\(treespec, LeafSpec\\).*",
    ".*find_unused_parameters=True was specified.*",
    ".*Experiment logs directory .* exists and is not empty.*",
)


class RunExistsError(UserError):
    """A new run was asked for in the folder of another."""


def train(
    config: dict[str, Any], allow: Allow, overrides: Sequence[str] = (), callbacks: Sequence[L.Callback] = ()
) -> float:
    """Run a configuration to its end; returns the last validation loss (NaN if there was no validation).

    What is trained, the objective says: a diffusion model, or an autoencoder for the latents of others.

    Args:
        config: resolved plain values with the keys of conf/train.yaml; `resume` names a run to go on with.
        allow: what its `_target_`s may name.
        overrides: what was given on the command line, for the record.
        callbacks: more of Lightning's callbacks.

    Raises:
        BuildError: something in the configuration cannot be built; nothing has been started.
        TrainingDivergedError: the loss stopped being finite; the last good checkpoint is kept.
    """
    run = Path(config["run"])
    resuming = config.get("resume") is not None
    if not resuming:
        check_fresh(run)
    torch.set_float32_matmul_precision(config["matmul_precision"])
    torch.manual_seed(config["seed"])
    data = build(config["data"], allow)
    data.setup("fit")
    config = find(config["modality"]["_target_"], allow).adapt(config, data)  # type: ignore[attr-defined]
    config = located(config, lambda path: placed(path, run))
    if _is_autoencoder(config, allow):
        config["kind"] = AUTOENCODER
    else:
        config["defaults"] = {key: config["sampling"].get(key) for key in ("solver", "grid", "steps", "guidance")}
    if problems := check(config, allow):
        raise ValueError("\n".join(problems))
    latents = config.get("autoencoder") or {}
    with torch.random.fork_rng(devices=[]):  # the network begins as it would without a cache
        source = latent_data(config, allow, data) if "kind" not in config and latents.get("cache") else data
        if is_auto(config):
            loader = source.train_dataloader()
            config["schedule"]["shift"] = shift = measured_shift(config, allow, loader)
            print(f"schedule.shift={shift}, as the data's redundancy is", flush=True)
    if "kind" in config:
        module: AutoencoderTraining | DiffusionTraining = autoencoder_training(config, allow, data)
    else:
        module = _diffusion_training(config, allow, fresh=not resuming)
    checkpoint = latest(run) if resuming else None
    last = config["trainer"].get("max_steps", -1)
    if checkpoint is not None and 0 < last <= step_of(checkpoint):
        print(f"{run} is already at step {step_of(checkpoint)} of {last}; raise trainer.max_steps to go on", flush=True)
        return float("nan")
    trainer = _trainer(config, allow, run, module, data, callbacks)
    if trainer.is_global_zero:
        _write_record(run, config, overrides, checkpoint)
    for logger in trainer.loggers:
        if checkpoint is not None and isinstance(logger, RunLogger):
            logger.resume_at(step_of(checkpoint))
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    with warnings.catch_warnings():
        for message in EXPECTED_WARNINGS:
            warnings.filterwarnings("ignore", message)
        trainer.fit(module, datamodule=source, ckpt_path=checkpoint)
    return float(trainer.callback_metrics.get("val/loss", torch.tensor(float("nan"))))


def check_fresh(run: Path) -> None:
    """Raise RunExistsError where the folder of a new run holds one already."""
    if any((run / "checkpoints").glob("*.ckpt")):
        raise RunExistsError(
            f"{run} already holds a run: go on with it (diffract train resume={run}), choose another folder "
            "(run=...), or delete it first"
        )


def placed(path: str, run: Path) -> str:
    """A folder so named that the run can be resumed from anywhere: in full, or, inside the run, as the run is."""
    return path if Path(path).is_relative_to(run) else str(Path(path).resolve())


def _is_autoencoder(config: dict[str, Any], allow: Allow) -> bool:
    """Whether the objective is an autoencoder's."""
    target = config["objective"].get("_target_")
    found = None if target is None else find(target, allow)
    return isinstance(found, type) and issubclass(found, AutoencoderObjective)


def _diffusion_training(config: dict[str, Any], allow: Allow, fresh: bool) -> DiffusionTraining:
    model = build_model(config, allow)
    if config.get("init") is not None and fresh:  # what is resumed has its weights in its checkpoint
        begin(model, config, Path(config["init"]))
    if config.get("tune") is not None:
        adapt(model.network, build(config["tune"], allow))
    return DiffusionTraining(
        model,
        build(config["objective"], allow),
        build(config["optimizer"], allow),
        half_life=config["ema"]["half_life"],
        ramp=config["ema"]["ramp"],
        condition_dropout=config["condition_dropout"],
        drawn=bool((config.get("autoencoder") or {}).get("drawn")),
        seed=config["seed"],
        compile=config["compile"],
    )


def _trainer(
    config: dict[str, Any],
    allow: Allow,
    run: Path,
    module: DiffusionTraining | AutoencoderTraining,
    data: Any,
    more: Sequence[L.Callback],
) -> L.Trainer:
    settings = config["checkpoint"]
    card = autoencoder_card if isinstance(module, AutoencoderTraining) else model_card
    checkpoints = Checkpoints(
        run,
        settings["every_n_steps"],
        settings["keep"],
        export=lambda step: _export(module, config, run, card(config, step) + provenance(config, module, step)),
    )
    callbacks: list[L.Callback] = [TrainingProgress(), checkpoints, Interruption(checkpoints), *more]
    if (config.get("autoencoder") or {}).get("run"):
        callbacks.append(EncoderWatch())
    previews = config["sampling"]
    every = previews["every_n_steps"]
    if every and isinstance(module, AutoencoderTraining):
        callbacks.insert(1, ReconstructionPreviews(run, data.val_dataloader, previews["n"], every))
    elif every and isinstance(module, DiffusionTraining):
        prompts = previews["prompts"] or list(module.model.modality.prompts(data, previews["n"], seed=0))
        callbacks.insert(1, Previews(run, prompts, previews["n"], every))
    loggers = [build(logger, allow) for logger in (config["logger"] or {}).values()]
    make = build(config["trainer"], allow)
    trainer: L.Trainer = make(
        callbacks=callbacks,
        logger=loggers,
        plugins=[DurableCheckpointIO()],
        default_root_dir=str(run),
        enable_progress_bar=False,
        enable_checkpointing=False,
        enable_model_summary=False,
    )
    return trainer


def _export(module: DiffusionTraining | AutoencoderTraining, config: dict[str, Any], run: Path, card: str) -> None:
    """Write the averaged model; where an adapter was trained, that alone and the model with it merged."""
    model: Any = module.averaged_model()
    if config.get("tune") is not None:
        save_adapter(model.network, run / "adapter", card, str(config.get("init") or ""))
        model = replace(model, network=merged(model.network))
    save(model, config, run / "model", card)


def _write_record(run: Path, config: dict[str, Any], overrides: Sequence[str], checkpoint: Path | None) -> None:
    write_text(run / "config.yaml", yaml.safe_dump(config, sort_keys=False))
    words = "".join(f"{override}\n" for override in overrides)
    if checkpoint is not None:  # a resumed run adds to what is there
        record = run / "overrides.txt"
        words = (record.read_text() if record.exists() else "") + f"# resumed from {checkpoint.name}\n" + words
    write_text(run / "overrides.txt", words)
    write_text(run / "environment.json", json.dumps(environment(config["seed"]), indent=2) + "\n")


def environment(seed: int) -> dict[str, Any]:
    """What a result depends on besides its configuration."""
    packages = ("diffract", "torch", "lightning", "numpy", "tensordict", "safetensors", "hydra-core")
    versions: dict[str, str | None] = {}
    for package in packages:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = None
    cuda = torch.cuda.is_available()
    return {
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": versions,
        "git_commit": _git_commit(),
        "device": torch.cuda.get_device_name() if cuda else f"cpu ({torch.get_num_threads()} threads)",
        "seed": seed,
    }


def _git_commit() -> str | None:
    """The commit of the code in a checkout, with a `+` if files differ from it; None where git does not know."""
    folder = Path(__file__).resolve().parent
    try:
        commit = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, check=True
        ).stdout.strip()
        changed = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no"],
            cwd=folder,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit + ("+" if changed else "")


def model_card(config: dict[str, Any], step: int) -> str:
    """The card of a model folder, in Markdown."""

    def name(part: str) -> str:
        return str(config[part]["_target_"]).rpartition(".")[2]

    defaults = yaml.safe_dump(config["defaults"], sort_keys=False)
    return f"""# {config["name"]}

A diffusion model trained with Diffract for {step} steps (averaged weights).

| part | choice |
|---|---|
| modality | {name("modality")} |
| backbone | {name("backbone")} |
| schedule | {name("schedule")} |
| prediction | {name("parametrization")} |
| data | {name("data")} |
| seed | {config["seed"]} |

Sampling, unless something else is asked for:

```yaml
{defaults}```

Use it with `diffract sample run=<this folder>` or `framework.load("<this folder>").sample(...)`. The weights are
safetensors, the configuration names classes of Diffract and installed plugins only, and `manifest.json` holds the
files' SHA-256.
"""
