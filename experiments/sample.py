"""`diffract sample`: draw samples from a trained model and write them in the format of their field."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from experiments.configuration import allowed, plain
from experiments.errors import ConfigurationError
from experiments.models import HOW, load_run, sampling_choices
from experiments.show import sampling_bar

GENERATE = {"_target_": "framework.editing.requests.Generate"}


def run(config: DictConfig | dict[str, Any]) -> None:
    """Sample as the configuration says; what is wrong with it is said before the model is loaded, where it can be."""
    from framework.build import build
    from framework.model import Trajectory

    settings = plain(config)
    prompts = read_prompts(settings)
    task = settings.get("task") or GENERATE
    request = build({"task": task}, allowed(settings))["task"]
    choices = sampling_choices(settings)
    out = Path(settings["out"] or next_folder(Path(settings["run"]) / "samples"))
    trajectory = Trajectory()
    count = settings["n"] * len(prompts)
    rows = count * int(task.get("particles", 1))
    if settings["trajectory"] and rows > settings["batch_size"]:
        raise ConfigurationError(
            f"a trajectory is kept for one batch: {rows} samples are more than batch_size={settings['batch_size']}"
        )
    model = load_run(settings)
    tasks = request.tasks(model.modality)
    with sampling_bar(count) as bar:
        samples = model.sample(
            [prompt for prompt in prompts for _ in range(settings["n"])],
            negative=settings["negative"],
            seed=settings["seed"],
            batch_size=settings["batch_size"],
            hooks=[trajectory] if settings["trajectory"] else [],
            progress=bar,
            tasks=tasks,
            **choices,
        )
    how = {key: str(settings[key]) for key in HOW}
    files = samples.save(out, {"model": str(settings["run"]), **how, **told(task)})
    if settings["trajectory"]:
        states = [model.modality.decode(state, samples.condition) for state in trajectory.cleans]
        files = [*model.modality.render_trajectory(states, samples.prompts, out), *files]
    ledger = samples.ledger
    print(
        f"{len(samples)} samples in {ledger.seconds:.1f} s, "
        f"{ledger.evaluations_per_sample:.0f} network evaluations each\n"
        f"wrote {len(files)} files to {out}; look at {files[-1]}",
        flush=True,
    )


def told(task: dict[str, Any]) -> dict[str, str]:
    """A task and its settings as metadata of samples; nothing of one that only generates."""
    if task == GENERATE:
        return {}
    settings = {f"task.{key}": str(value) for key, value in task.items() if key != "_target_" and value is not None}
    return {"task": str(task["_target_"]).rpartition(".")[2], **settings}


def next_folder(parent: Path) -> Path:
    """The first of parent/0001, parent/0002, ... that is not there yet, so that no call mixes with an earlier one."""
    number = 1
    while (parent / f"{number:04d}").exists():
        number += 1
    return parent / f"{number:04d}"


def read_prompts(settings: dict[str, Any]) -> list[Any]:
    """The prompts of `prompt` or of the lines of `prompts_file`; [None] where nothing is said.

    Raises:
        ConfigurationError: both are given, or the file is missing or has no prompt in it.
    """
    if settings["prompts_file"] is None:
        return [settings["prompt"]]
    if settings["prompt"] is not None:
        raise ConfigurationError("give prompt= or prompts_file=, not both")
    path = Path(settings["prompts_file"])
    if not path.is_file():
        raise ConfigurationError(f"prompts_file={path}: there is no such file")
    prompts = [line.strip() for line in path.read_text().splitlines() if line.strip()]
    if not prompts:
        raise ConfigurationError(f"prompts_file={path} has no prompt in it; write one a line")
    return prompts


if __name__ == "__main__":
    from experiments.cli import command_line

    command_line("sample")
