"""What plugins add to the configuration tree: folders of files, and options that are nothing but a name.

A plugin's folder of configuration joins the search path. A solver, a grid, ... that is declared by an entry point, or
named by its import path, becomes an option of its group without a file: `solver=ralston`, `solver=my_solvers.Ralston`.

No two may offer one file, as Hydra would take the first in silence. Against Diffract's own the other one is left out;
of two strangers both are. Each is told, with its name and what to do, and everything else goes on.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore

from framework.plugins import (
    DISTRIBUTION,
    PARTS,
    Plugin,
    PluginError,
    Problem,
    config_packages,
    folder,
    parts,
    problems,
)

# The groups in which the import path of a class may stand for an option.
BY_PATH = (*PARTS.values(), "schedule", "parametrization", "objective", "processes", "task", "modality", "data")
_DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")


class PluginWarning(UserWarning):
    """A plugin is left out, or is not as it should be; the message names it and says what to do."""


@dataclass(frozen=True)
class Offered:
    """What plugins offer without a problem, and the problems.

    Attributes:
        folders: of configuration, by the plugin's name.
        options: single parts, each an option of the group that `PARTS` has for it.
        problems: of plugins of any kind.
    """

    folders: dict[str, Path]
    options: list[Plugin]
    problems: list[Problem]


def offered(core: Path) -> Offered:
    """What the installed plugins offer beside the tree at `core`; none is imported."""
    found = problems()
    broken = {problem.plugin for problem in found if problem.left_out}
    folders: dict[Plugin, Path] = {}
    for plugin in config_packages().values():
        if plugin in broken:
            continue
        try:
            place = folder(plugin)
        except PluginError as error:
            found.append(Problem(plugin, str(error)))
            continue
        folders[plugin] = place
        if not (place / "__init__.py").is_file():
            what = f"there is no __init__.py in {place}: packaging tools leave such a folder out of a wheel; add one"
            found.append(Problem(plugin, what, left_out=False))
    options = [plugin for plugin in parts() if plugin not in broken]
    clashes = _clashes(core, folders, options)
    left_out = {problem.plugin for problem in clashes}
    files = {plugin: set(_files(place)) for plugin, place in folders.items()}
    return Offered(
        {plugin.name: place for plugin, place in folders.items() if plugin not in left_out},
        [p for p in options if p not in left_out and not any(_file(p) in held for held in files.values())],
        [*found, *clashes],
    )


def register_options(options: Sequence[Plugin]) -> None:
    """Make these the options that have no file, in place of those of an earlier call; nothing is imported."""
    for group, name in _REGISTERED:
        _forget(group, name)
    _REGISTERED.clear()
    for plugin in options:
        _store(PARTS[plugin.group], plugin.name, plugin.dotted)
        _REGISTERED.append((PARTS[plugin.group], plugin.name))


def register_paths(overrides: Sequence[str]) -> list[tuple[str, str]]:
    """Make options of the import paths that overrides choose, as in solver=my_package.Mine; returns the new ones."""
    made = []
    for override in overrides:
        key, _, value = override.lstrip("+").partition("=")
        group = key.partition("@")[0]
        for path in value.split(","):
            if group in BY_PATH and _DOTTED.fullmatch(path) and f"{path}.yaml" not in _held(group):
                _store(group, path, path)
                made.append((group, path))
    return made


@contextlib.contextmanager
def chosen_by_path(overrides: Sequence[str]) -> Iterator[None]:
    """Inside the block the import paths that overrides choose are options."""
    made = register_paths(overrides)
    try:
        yield
    finally:
        for group, path in made:
            _forget(group, path)


_REGISTERED: list[tuple[str, str]] = []


def _held(group: str) -> dict[str, Any]:
    """The options of a group that have no file."""
    held: dict[str, Any] = ConfigStore.instance().repo.get(group, {})
    return held


def _store(group: str, name: str, target: str) -> None:
    ConfigStore.instance().store(name, {"_target_": target}, group=group, provider="plugins")


def _forget(group: str, name: str) -> None:
    _held(group).pop(f"{name}.yaml", None)
    if not _held(group):
        ConfigStore.instance().repo.pop(group, None)


def _clashes(core: Path, folders: dict[Plugin, Path], options: Sequence[Plugin]) -> list[Problem]:
    """A problem for each plugin that offers a file of another's."""
    claims: dict[str, list[Plugin | None]] = {file: [None] for file in _files(core)}  # None is Diffract's own tree
    for plugin, place in folders.items():
        for file in _files(place):
            claims.setdefault(file, []).append(plugin)
    for plugin in options:
        holders = claims.setdefault(_file(plugin), [])
        # Beside an entry point its own distribution may have a file of that name, which says its arguments.
        if not any(holder is not None and holder.distribution == plugin.distribution for holder in holders):
            holders.append(plugin)
    found: dict[Plugin, Problem] = {}
    for file, holders in claims.items():
        if len(holders) < 2:
            continue
        own = [holder for holder in holders if holder is None or holder.distribution == DISTRIBUTION]
        told = ", and by ".join(_told(holder) for holder in holders)
        for holder in holders:
            if holder is None or holder in own or holder in found:
                continue
            advice = f"uninstall one of them, or let '{holder.name}' call it {_elsewhere(file, holder)}"
            found[holder] = Problem(holder, f"the configuration {file} is offered by {told}; {advice}")
    return list(found.values())


def _told(holder: Plugin | None) -> str:
    return "diffract itself" if holder is None else f"plugin '{holder.name}' of {holder.origin}"


def _elsewhere(file: str, plugin: Plugin) -> str:
    parent, _, last = file.rpartition("/")
    return f"{parent}/{plugin.name}/{last}" if plugin.group not in PARTS else f"{parent}/{plugin.distribution}_{last}"


def _file(plugin: Plugin) -> str:
    return f"{PARTS[plugin.group]}/{plugin.name}.yaml"


def _files(path: Path) -> list[str]:
    return sorted(file.relative_to(path).as_posix() for file in path.rglob("*.yaml"))
