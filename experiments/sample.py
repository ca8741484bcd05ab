"""`diffract sample`: draw samples from a trained model and write them in the format of their field."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from experiments.configuration import allowed, plain
from experiments.errors import ConfigurationError
from experiments.models import load_run, sampling_choices
from experiments.record import facts, recalled
from experiments.show import sampling_bar

SHOWN = 64  # of a data set, on the sheet
GENERATE = {"_target_": "framework.editing.requests.Generate"}


def run(config: DictConfig | dict[str, Any]) -> None:
    """Sample as the configuration says; what is wrong with it is said before the model is loaded, where it can be."""
    from framework.build import build
    from framework.samples import Trajectory

    settings = plain(config)
    first = 0
    if settings["from"] is not None:
        settings, seed, first = recalled(settings)
        seeds = [seed]
    else:
        seeds = read_seeds(settings)
    prompts = read_prompts(settings)
    task = settings.get("task") or GENERATE
    request = build({"task": task}, allowed(settings))["task"]
    choices = sampling_choices(settings)
    out = Path(settings["out"] or next_folder(Path(settings["run"]) / "samples"))
    count = settings["n"] * len(prompts) * len(seeds)
    trajectory = Trajectory()
    check_watching(settings, count * int(task.get("particles", 1)))
    model = load_run(settings)
    if settings["dataset"] and prompts == [None]:
        prompts, settings = list(model.modality.examples(settings["n"])), settings | {"n": 1}
    place = out / "dataset"
    if settings["dataset"]:
        check_dataset(model.modality, place)
    tasks = request.tasks(model.modality)
    hooks = [trajectory] if settings["trajectory"] else []
    if settings["preview"]:
        hooks.append(preview(model.modality, out, int(settings["preview"])))
    parts: list[Any] = []
    with sampling_bar(count) as bar:
        for asked, seed in calls(prompts, seeds):
            finished = sum((len(part) for part in parts), 0)
            parts.append(
                model.sample(
                    [prompt for prompt in asked for _ in range(settings["n"])],
                    negative=settings["negative"],
                    seed=seed,
                    first=first,
                    batch_size=settings["batch_size"],
                    hooks=hooks,
                    progress=partial(_advance, bar, finished),
                    tasks=tasks,
                    **choices,
                )
            )
    shared = facts(settings, task, model)
    rows = [row for part in parts for row in part.rows(shared)]
    samples = model.modality.join([part.samples for part in parts])
    if settings["watermark"] is not None:
        samples = model.modality.marked(samples, str(settings["watermark"]))
    out.mkdir(parents=True, exist_ok=True)
    drawn = [prompt for part in parts for prompt in part.prompts]
    if settings["dataset"]:
        place.mkdir(parents=True)
        written = model.modality.dataset(samples, drawn, place, rows)
        print(f"wrote a data set of {len(written)} files: data.path={place}")
        samples, drawn, rows = samples[:SHOWN], drawn[:SHOWN], rows[:SHOWN]
    files = model.modality.render(samples, drawn, out, rows)
    if settings["trajectory"]:
        states = [model.modality.decode(state, parts[0].condition) for state in trajectory.cleans]
        files = [*model.modality.render_trajectory(states, drawn, out), *files]
    seconds = sum(part.ledger.seconds for part in parts)
    print(
        f"{count} samples in {seconds:.1f} s, "
        f"{parts[0].ledger.evaluations_per_sample:.0f} network evaluations each\n"
        f"wrote {len(files)} files to {out}; look at {files[-1]}",
        flush=True,
    )


def _advance(bar: Callable[[int], None], before: int, done: int) -> None:
    bar(before + done)


def calls(prompts: list[Any], seeds: list[int]) -> list[tuple[list[Any], int]]:
    """The calls of the model: all prompts at once, or, of several seeds, each prompt with each seed by itself, so that
    what stands below one seed has one noise.
    """
    if len(seeds) == 1:
        return [(prompts, seeds[0])]
    return [([prompt], seed) for prompt in prompts for seed in seeds]


def check_watching(settings: dict[str, Any], rows: int) -> None:
    """ConfigurationError where samples cannot be watched on their way as is asked for."""
    if settings["trajectory"] and (rows > settings["batch_size"] or settings["seeds"]):
        raise ConfigurationError(
            f"a trajectory is kept for one batch: {rows} samples are more than batch_size={settings['batch_size']}, or "
            "they have several seeds"
        )
    if settings["watermark"] is not None and (settings["trajectory"] or settings["preview"]):
        raise ConfigurationError(
            "a trajectory or a preview shows samples without their watermark; leave one of them out"
        )


def preview(modality: Any, out: Path, every: int) -> Any:
    """A hook that writes what samples look like, and says where when it does so for the first time."""
    from framework.previews import Preview

    said: list[Path] = []

    def done(files: list[Path]) -> None:
        if files and not said:
            said.extend(files)
            print(f"previews: {files[0]}", flush=True)

    return Preview(modality, out / "preview", every, done)


def check_dataset(modality: Any, place: Path) -> None:
    """ConfigurationError where there is a data set already, or this kind of data is not written as one."""
    from framework.exchange import Exchanged

    if type(modality).dataset is Exchanged.dataset:
        raise ConfigurationError(f"{modality.name} samples are not written as a data set; leave out dataset=true")
    if place.exists():
        raise ConfigurationError(f"{place} is there already; give another out=")


def next_folder(parent: Path) -> Path:
    """The first of parent/0001, parent/0002, ... that is not there yet, so that no call mixes with an earlier one."""
    number = 1
    while (parent / f"{number:04d}").exists():
        number += 1
    return parent / f"{number:04d}"


def read_seeds(settings: dict[str, Any]) -> list[int]:
    """The seeds of `seeds`, or `seed` alone.

    Raises:
        ConfigurationError: they are no whole numbers, or one comes twice.
    """
    seeds = settings["seeds"]
    if seeds is None:
        return [settings["seed"]]
    if not isinstance(seeds, list) or not seeds or not all(isinstance(seed, int) for seed in seeds):
        raise ConfigurationError(f"seeds={seeds}: give a list of whole numbers, as seeds=[0,1,2]")
    if len(set(seeds)) < len(seeds):
        raise ConfigurationError(f"seeds={seeds}: a seed stands there twice, which makes the same samples twice")
    return list(seeds)


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
