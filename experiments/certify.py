"""`diffract certify`: measure solvers on problems whose answers are known, print the table and write certify.json."""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Column, Table

from experiments.configuration import allowed, compose, current_folder_importable, plain
from experiments.errors import ConfigurationError
from experiments.explain import choices
from framework.build import Allow, build
from framework.files import write_text
from framework.plugins import nearest

if TYPE_CHECKING:
    from framework.certify.certificate import Certificate

ALL = "all"
NARROW = ("solver", "measured")
WIDTH = 150


def run(config: DictConfig | dict[str, Any]) -> dict[str, Certificate]:
    """Certify as the configuration says; returns the certificates by the solvers' names, failed ones too.

    Raises:
        ConfigurationError: a name is not there; the message has the nearest ones.
        BuildError: a solver cannot be made.
    """
    settings = plain(config)
    allow = allowed(settings)
    with current_folder_importable():
        nodes = chosen_solvers(settings)
        own = [node["_target_"].partition(".")[0] for name, node in nodes.items() if "." in name]
        solvers = {name: build(node, allow.plus(*own)) for name, node in nodes.items()}
        effort = _effort(settings, allow)
        certificates = _certify(solvers, effort, settings["workers"])
    out = Path(settings["out"])
    _write(out, settings["table"], certificates)
    _show(certificates)
    if alone := [n for n, c in certificates.items() if effort.paths and not _on_paths(solvers[n], c)]:
        print(f"on no other schedule and grid than the base's: {', '.join(alone)}")
    print(f"wrote {out / 'certify.json'}" + (f" and {settings['table']}" if settings["table"] else ""), flush=True)
    return certificates


def _on_paths(solver: Any, certificate: Certificate) -> bool:
    """Whether its order is measured on other schedules and grids too."""
    return certificate.kind == "continuous" and not getattr(solver, "adaptive", False)


def failed(certificates: Mapping[str, Certificate]) -> bool:
    """Whether any solver did not pass: the command's exit code is 1 then."""
    return not all(certificate.passed for certificate in certificates.values())


def chosen_solvers(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of each solver that is asked for, by name; a solver of the user's own by its import path.

    Raises:
        ConfigurationError: there is no solver of that name.
    """
    if settings["solver"] is not None:
        return {str(settings["solver"].get("_target_", "solver")): settings["solver"]}
    wanted = _words(settings["solvers"])
    shipped, variants = choices("solver", "certify"), settings["variants"] or {}
    known = [*shipped, *variants]
    names: list[str] = []
    for word in wanted:
        found = known if word == ALL else fnmatch.filter(known, word)
        if not found and "." not in word:
            raise ConfigurationError(
                f"there is no solver '{word}'{nearest(word, [*known, ALL])}\nsolver can be: {ALL}, {', '.join(known)}, "
                "or the import path of a class of your own (my_package.Mine)"
            )
        names += found or [word]
    names = list(dict.fromkeys(names))
    bases = {name: _base(name, variants, shipped) for name in names if name in variants}
    files = _files("solver", [name for name in names if name in shipped] + list(bases.values()))
    nodes = {}
    for name in names:
        if name in bases:
            nodes[name] = {**files[bases[name]], **variants[name][bases[name]]}
        else:
            nodes[name] = files.get(name, {"_target_": name})
    return nodes


def _base(name: str, variants: Mapping[str, Any], shipped: Sequence[str]) -> str:
    """The solver that a variant changes."""
    [base] = variants[name] if len(variants[name]) == 1 else [""]
    if base not in shipped:
        raise ConfigurationError(f"variants.{name}: a variant is {{solver: changes}}, of one of {', '.join(shipped)}")
    return str(base)


def _effort(settings: Mapping[str, Any], allow: Allow) -> Any:
    """What is measured: the schedules and grids that are asked for beside the base."""
    from framework.certify.certificate import Effort
    from framework.certify.paths import BASE, Path

    schedules = {name: build(node, allow) for name, node in _files("schedule", choices("schedule", "certify")).items()}
    grids = {name: build(node, allow) for name, node in _chosen("grid", settings["grids"]).items()}
    fitted = [name for name, grid in grids.items() if not callable(grid)]
    if fitted and ALL not in _words(settings["grids"]):
        raise ConfigurationError(
            f"{', '.join(fitted)}: orders are measured on fixed grids, not on those fitted to a model"
        )
    if fitted:
        print(f"{', '.join(fitted)}: fitted to a model, and left out")
    paths = [
        Path(schedule, grid, schedules[schedule], grids[grid])
        for schedule in _chosen("schedule", settings["schedules"])
        for grid in grids
        if grid not in fitted and (schedule, grid) != (BASE.schedule_name, BASE.grid_name)
    ]
    return Effort(points=settings["points"], paths=paths, schedules=schedules)


def _chosen(group: str, value: Any) -> dict[str, Any]:
    """The configurations of the options of a group that are asked for."""
    known, names = choices(group, "certify"), _words(value)
    for name in names:
        if name != ALL and name not in known:
            raise ConfigurationError(
                f"there is no {group} '{name}'{nearest(name, [*known, ALL])}\n{group} can be: {ALL}, {', '.join(known)}"
            )
    return _files(group, known if ALL in names else names)


def _files(group: str, names: Sequence[str]) -> dict[str, Any]:
    """The configuration of each option of a group, plugins' too."""
    unique = list(dict.fromkeys(names))
    config = compose("certify", [f"+{group}@entries.e{i}={name}" for i, name in enumerate(unique)])
    entries = plain(config).get("entries", {})
    return {name: entries[f"e{i}"] for i, name in enumerate(unique)}


def _words(value: Any) -> list[str]:
    return [str(word).strip() for word in (value if isinstance(value, list) else str(value).split(","))]


def _certify(solvers: Mapping[str, Any], effort: Any, workers: int) -> dict[str, Certificate]:
    """The certificates; a bar on a terminal, and a line for each that is finished elsewhere."""
    from framework.certify.pool import certify_all

    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    certificates, terminal = {}, Console().is_terminal
    with Progress(*columns, disable=not terminal) as bar:
        task = bar.add_task("certifying", total=len(solvers))
        for name, certificate in certify_all(solvers, effort, workers):
            certificates[name] = certificate
            verdict = f"{name} {'passed' if certificate.passed else 'FAILED'}"
            bar.update(task, advance=1, description=verdict)
            if not terminal:
                print(f"{len(certificates)}/{len(solvers)} {verdict} ({certificate.seconds:.0f} s)", flush=True)
    return certificates


def _write(out: Path, table: str | None, certificates: Mapping[str, Certificate]) -> None:
    from framework.certify.report import markdown, plain_numbers

    text = json.dumps(plain_numbers(certificates), indent=1, allow_nan=False)
    write_text(out / "certify.json", text + "\n")
    if table is not None:
        write_text(Path(table), markdown(certificates))


def _show(certificates: Mapping[str, Certificate]) -> None:
    from framework.certify.report import HEADINGS, rows

    table = Table(*(Column(heading, no_wrap=heading in NARROW) for heading in HEADINGS))
    for row in rows(certificates):
        table.add_row(*row, style=None if certificates[row[0]].passed else "red")
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)  # a file has no width of its own
    console.print(table)
    for name, certificate in sorted(certificates.items()):
        for check in certificate.checks.values():
            if check.passed is False:
                console.print(f"[red]{name}: {check.name}: {check.detail}[/red]")


if __name__ == "__main__":
    from experiments.cli import command_line

    command_line("certify")
