"""From the configuration of `diffract compare` to a study: names of solvers, grids and guidance to what they mean.

solvers: [heun, {ddim: {eta: 0.5}}, my_package.Mine]     an option of conf/solver, one with changes, one's own class
runs: [outputs/shapes, {run: outputs/fsdd, data: /data/fsdd, name: speech}]
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.configuration import compose, plain
from experiments.errors import ConfigurationError
from experiments.evaluate import data_config
from experiments.explain import choices
from experiments.models import chosen_device
from framework.plugins import nearest

if TYPE_CHECKING:
    from framework.studies.cell import Choice
    from framework.studies.plan import Study, Tuning
    from framework.studies.runs import RunSpec

COMMAND = "compare"


def study_of(settings: Mapping[str, Any]) -> Study:
    """The study that a configuration asks for.

    Raises:
        ConfigurationError: a name is not there; the message has the nearest ones.
    """
    from framework.studies.cell import Protocol
    from framework.studies.plan import Study

    asked = settings["study"]
    metrics = asked["metrics"]
    protocol = Protocol(
        n=asked["n"],
        unit=_unit(asked["budget_unit"]),
        batch_size=settings["batch_size"],
        brownian=asked["brownian"],
        tolerance=asked["tolerance"],
        metrics=None if metrics in (None, "all") else tuple(listed(metrics)),
        shown=asked["shown"],
        real=asked["real"],
    )
    return Study(
        name=str(asked["name"]),
        axis=str(asked["axis"]),
        solvers=chosen("solver", asked["solvers"]),
        grids=chosen("grid", asked["grids"]),
        guidance=chosen("guidance", asked["guidance"]),
        budgets=sorted(float(budget) for budget in listed(asked["budgets"])),
        seeds=[int(seed) for seed in listed(asked["seeds"])],
        protocol=protocol,
        tuning=None if asked["tuning"] is None else _tuning(asked["tuning"]),
        margin=float(asked["margin"]),
    )


def _unit(word: Any) -> Any:
    if word not in ("evaluations", "seconds"):
        raise ConfigurationError(f"study.budget_unit is evaluations or seconds, not {word!r}")
    return word


def _tuning(asked: Mapping[str, Any]) -> Tuning:
    from framework.studies.plan import Tuning

    return Tuning(
        seeds=[int(seed) for seed in listed(asked["seeds"])],
        n=asked["n"],
        grids=chosen("grid", asked["grids"]),
        options={
            name: chosen("solver", [{name: changes} for changes in variants])
            for name, variants in (asked.get("options") or {}).items()
        },
        trials=asked.get("trials"),
        by=tuple(listed(asked["by"])),
    )


def chosen(group: str, value: Any) -> list[Choice]:
    """The options of a group that are asked for, each with its configuration.

    Raises:
        ConfigurationError: there is none of a name.
    """
    from framework.studies.cell import DEFAULT, Choice

    shipped = choices(group, COMMAND)
    found: list[tuple[str, str, Mapping[str, Any]]] = []  # name, option, changes
    for word in listed(value):
        option, changes = _entry(group, word)
        names = [option] if option == DEFAULT or option in shipped else fnmatch.filter(shipped, option)
        if not names and "." not in option:
            raise ConfigurationError(
                f"there is no {group} '{option}'{nearest(option, [*shipped, DEFAULT])}\n{group} can be: {DEFAULT}, "
                f"{', '.join(shipped)}, or the import path of a class of your own (my_package.Mine)"
            )
        found += [(_called(name, changes), name, changes) for name in names or [option]]
    files = _files(group, [option for _, option, _ in found if option in shipped])
    return [
        Choice(name) if option == DEFAULT else Choice(name, _merged(files.get(option, {"_target_": option}), changes))
        for name, option, changes in found
    ]


def _entry(group: str, word: Any) -> tuple[str, Mapping[str, Any]]:
    """An option, and what is other than in its file."""
    if not isinstance(word, Mapping):
        return str(word), {}
    if len(word) != 1 or not isinstance(changes := next(iter(word.values())), Mapping | None):
        raise ConfigurationError(f"study: a {group} with changes is {{name: {{option: value}}}}, not {dict(word)}")
    return str(next(iter(word))), changes or {}


def _called(name: str, changes: Mapping[str, Any]) -> str:
    """A name that tells an option with changes from others."""
    return " ".join([name, *(f"{key}={_value(value)}" for key, value in changes.items())])


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        of = [_value(item) for key, item in value.items() if key != "_target_"]
        return str(value.get("_target_", "")).rpartition(".")[2] + (f"({', '.join(of)})" if of else "")
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ", ".join(map(_value, value)) + "]"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _merged(config: Any, changes: Any) -> Any:
    """A configuration with changes, nested ones too; what names another class is taken as it is."""
    if not isinstance(config, Mapping) or not isinstance(changes, Mapping) or "_target_" in changes:
        return changes
    return {**config, **{key: _merged(config.get(key), value) for key, value in changes.items()}}


def _files(group: str, names: Sequence[str]) -> dict[str, Any]:
    """The configuration of each option of a group, plugins' too."""
    unique = list(dict.fromkeys(names))
    config = compose(COMMAND, [f"+{group}@entries.e{i}={name}" for i, name in enumerate(unique)])
    entries = plain(config).get("entries", {})
    return {name: entries[f"e{i}"] for i, name in enumerate(unique)}


def listed(value: Any) -> list[Any]:
    """A list, however it was written: [a, b] or a,b or a."""
    if isinstance(value, list | tuple):
        return list(value)
    return [word.strip() for word in value.split(",")] if isinstance(value, str) else [value]


def specs_of(settings: Mapping[str, Any]) -> list[RunSpec]:
    """The runs that are compared, each with a name of its own.

    Raises:
        ConfigurationError: none is given, or one cannot be read.
    """
    from framework.studies.runs import spec_of

    if not settings["runs"]:
        raise ConfigurationError("runs= names the models to compare samplers on, as in: runs=[outputs/shapes]")
    found: list[RunSpec] = []
    for word in listed(settings["runs"]):
        entry = dict(word) if isinstance(word, Mapping) else {"run": word}
        if unknown := set(entry) - {"run", "data", "name"}:
            raise ConfigurationError(f"runs: {', '.join(sorted(unknown))} means nothing; a run has run, data and name")
        folder = Path(str(entry["run"]))
        data = None
        if (folder / "config.yaml").is_file() and (folder / "model").exists():
            data = data_config({"run": str(folder), "data": {"path": entry.get("data")}})
        name = str(entry.get("name") or _name(folder, [spec.name for spec in found]))
        found.append(
            spec_of(folder, name=name, data=data, device=chosen_device(dict(settings)), allow=settings["allow"] or ())
        )
    return found


def _name(folder: Path, taken: Sequence[str]) -> str:
    """The folder's name, with as many of those above it as tell it from others."""
    parts = [part for part in folder.resolve().parts if part != folder.anchor]
    for count in range(1, len(parts) + 1):
        name = "/".join(parts[-count:])
        if name not in taken:
            return name
    raise ConfigurationError(f"runs names {folder} twice; give each a name: {{run: {folder}, name: again}}")
