"""`diffract evaluate`: sample for prompts that were held out, judge the samples, write metrics.json and pictures.

Of an autoencoder the reconstructions of held-out data are judged in their place.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig
from rich.console import Console

from experiments.configuration import allowed, plain
from experiments.errors import ConfigurationError
from experiments.models import HOW, chosen_device, load_run, sampling_choices
from experiments.show import sampling_bar

SHEET = 64  # samples on the sheet


def run(config: DictConfig | dict[str, Any]) -> dict[str, Any]:
    """Evaluate as the configuration says; returns the measurements by name."""
    from framework.build import build
    from framework.metrics.extra import measured_besides
    from framework.metrics.measurement import table, write_metrics

    settings = plain(config)
    if holds_autoencoder(settings):
        return run_autoencoder(settings)
    model = load_run(settings)
    modality = model.modality
    data = build(data_config(settings), allowed(settings))
    data.setup("fit")
    seed = settings["seed"]
    prompts = list(modality.evaluation_prompts(data, settings["n"], seed))
    out = Path(settings["out"] or Path(settings["run"]) / "evaluation")
    with sampling_bar(len(prompts)) as bar:
        samples = model.sample(
            prompts, seed=seed, batch_size=settings["batch_size"], progress=bar, **sampling_choices(settings)
        )
    more = build(settings["metrics"], allowed(settings))
    metrics = measured_besides(more, samples.samples, prompts, data, seed)
    metrics |= modality.evaluate(samples.samples, prompts, data, seed, settings["options"])
    metrics |= modality.assess(model, data, seed, settings["options"])
    write_metrics(out / "metrics.json", metrics)
    (out / "samples").mkdir(parents=True, exist_ok=True)
    sheet = modality.render(
        samples.samples[:SHEET], prompts[:SHEET], out / "samples", [{"prompt": str(p)} for p in prompts[:SHEET]]
    )[-1]
    console = Console()
    console.print(table(metrics))
    ledger = samples.ledger
    print(
        f"{len(samples)} samples in {ledger.seconds:.1f} s, "
        f"{ledger.evaluations_per_sample:.0f} network evaluations each\n"
        f"metrics: {out / 'metrics.json'}\nsheet:   {sheet}",
        flush=True,
    )
    return metrics


def holds_autoencoder(settings: dict[str, Any]) -> bool:
    """Whether the run trained an autoencoder."""
    from framework.store import AUTOENCODER, find_folder, kind, read

    return kind(read(find_folder(Path(settings["run"])))[0]) == AUTOENCODER


def run_autoencoder(settings: dict[str, Any]) -> dict[str, Any]:
    """Judge an autoencoder's reconstructions; returns the measurements by name.

    Raises:
        ConfigurationError: choices that are about sampling.
    """
    from framework.build import MODEL_FOLDER, build
    from framework.latents import load_autoencoder
    from framework.metrics.measurement import table, write_metrics
    from framework.reconstruction import evaluate_autoencoder

    if chosen := [key for key in (*HOW, "options") if settings[key]]:
        raise ConfigurationError(f"run={settings['run']} holds an autoencoder: it takes no {', '.join(chosen)}")
    allow = MODEL_FOLDER.plus(*(settings["allow"] or ()))
    model = load_autoencoder(settings["run"], chosen_device(settings), allow)
    data = build(data_config(settings), allowed(settings))
    data.setup("fit")
    out = Path(settings["out"] or Path(settings["run"]) / "evaluation")
    with sampling_bar(settings["n"]) as bar:
        metrics, sheet = evaluate_autoencoder(
            model, data, settings["n"], out / "reconstructions", seed=settings["seed"], progress=bar
        )
    write_metrics(out / "metrics.json", metrics)
    Console().print(table(metrics))
    print(f"metrics: {out / 'metrics.json'}\nsheet:   {sheet}", flush=True)
    return metrics


def data_config(settings: dict[str, Any]) -> dict[str, Any]:
    """The data of the run that trained the model, with `data.path` in place of where they lay then.

    Raises:
        ConfigurationError: the folder is a model alone, and no data was named.
    """
    saved = Path(settings["run"]) / "config.yaml"
    whole = yaml.safe_load(saved.read_text()) if saved.is_file() else {}
    if "data" not in whole:
        raise ConfigurationError(
            f"run={settings['run']} is not the folder of a training run (its config.yaml names no data), so there is "
            "nothing to compare with; evaluate the run's own folder"
        )
    chosen: dict[str, Any] = whole["data"]
    if settings["data"]["path"] is not None:
        if "path" not in chosen:
            raise ConfigurationError(f"{chosen['_target_']} makes its own data and takes no data.path")
        chosen["path"] = settings["data"]["path"]
    if "skipped_path" in chosen:
        chosen["skipped_path"] = None  # the training run has written it
    return chosen


if __name__ == "__main__":
    from experiments.cli import command_line

    command_line("evaluate")
