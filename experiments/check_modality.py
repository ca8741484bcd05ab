"""`diffract check-modality`: compose a training run, and hold its modality, data and backbone against the contract."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig
from rich.console import Console

from experiments.compositions import configuration
from experiments.configuration import allowed, compose, plain
from experiments.explain import choices
from framework.build import MODEL_FOLDER, Allow, build, check, find
from framework.errors import UserError
from framework.files import write_text

if TYPE_CHECKING:
    from framework.testing import Report
    from framework.testing.subject import Subject

WIDTH = 160
COARSE = 0.05  # the tolerance of adaptive solvers: at their own they would take thousands of evaluations
PARTS = ("modality", "backbone", "schedule", "parametrization", "noise_level", "processes")


def run(config: DictConfig | dict[str, Any]) -> Report:
    """Check as the configuration says; returns what was found, failures too.

    Raises:
        BuildError: a part cannot be made.
        UserError: `only` or `expected` names no check.
    """
    from framework.testing.check import check_subject

    settings = plain(config)
    report = check_subject(
        subject_of(settings, thorough=not settings["fast"], every_solver=not settings["fast"]),
        expected=settings["expected"],
        only=settings["only"],
        more={"configuration": configuration},
    )
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)  # a file has no width of its own
    console.print(report)
    if settings["out"] is not None:
        write_text(Path(settings["out"]) / "report.json", report.to_json())
        print(f"wrote {Path(settings['out']) / 'report.json'}", flush=True)
    return report


def subject_of(settings: dict[str, Any], *, thorough: bool = False, every_solver: bool = False) -> Subject:
    """What the kit looks at: the parts that a configuration names, as `diffract train` has them.

    Args:
        settings: a composed configuration of `train`; `items` and `out` are optional.
        thorough: judge real data with the modality's own metrics too.
        every_solver: sample with all solvers of the tree that can undo such states, and not with one of each family.

    Raises:
        BuildError: a part cannot be made.
    """
    import torch

    from framework.testing.subject import Subject
    from framework.testing.tokens import token_spaces

    allow = allowed(settings)
    torch.manual_seed(settings["seed"])
    settings, data = adapted(settings, allow)
    ready = [data]  # to make another may mean to read all the data once more
    parts = build({key: settings[key] for key in PARTS if settings.get(key) is not None}, allow)
    tokens = bool(token_spaces(parts["modality"].space))
    return Subject(
        parts["modality"],
        lambda: ready.pop() if ready else build(settings["data"], allow),
        parts["backbone"],
        **{key: parts[key] for key in PARTS[2:] if key in parts},
        objective=build(settings["objective"], allow),
        solvers=all_solvers(allow, tokens) if every_solver else None,
        config=settings,
        allow=MODEL_FOLDER.plus(*(settings["allow"] or ())),
        items=settings.get("items") or 8,
        thorough=thorough,
        folder=Path(settings["out"]) if settings.get("out") else None,
    )


def failed(report: Report) -> bool:
    """Whether a check failed that was not expected to: the command's exit code is 1 then."""
    return not report.passed


def adapted(settings: dict[str, Any], allow: Allow) -> tuple[dict[str, Any], Any]:
    """The configuration with what only the data can know filled in, as a training run has it, and the data module."""
    skipped = {"skipped_path": None} if "skipped_path" in settings["data"] else {}
    settings = {**settings, "data": {**settings["data"], **skipped}}  # there is no run in whose folder it would lie
    data = build(settings["data"], allow)
    data.setup("fit")
    settings = find(settings["modality"]["_target_"], allow).adapt(settings, data)  # type: ignore[attr-defined]
    if problems := check({key: settings[key] for key in PARTS if settings.get(key) is not None}, allow):
        raise UserError("\n".join(problems))
    return settings, data


def all_solvers(allow: Allow, tokens: bool = False) -> dict[str, Any]:
    """Every solver of the tree by its option's name, adaptive ones with large steps; those of Gaussian states, or, for
    states with tokens in them, all: the check says which cannot undo them.
    """
    from framework.certify.certificate import kind_of

    names = choices("solver", "certify")
    config = plain(compose("certify", [f"+solver@entries.{name}={name}" for name in names]))["entries"]
    loose = {name: {key: COARSE for key in ("rtol", "atol") if key in config[name]} for name in names}
    made = {name: build({**config[name], **loose[name]}, allow) for name in names}
    return {name: solver for name, solver in made.items() if tokens or kind_of(solver) == "continuous"}


if __name__ == "__main__":
    from experiments.cli import command_line

    command_line("check_modality")
