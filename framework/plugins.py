"""Discovery of plugins: what is installed, found by entry points, imported only when it is asked for.

A kind of data joins Diffract by two lines in the pyproject.toml of its own distribution,

    [project.entry-points."diffract.modalities"]   weather = "my_weather.modality:Weather"
    [project.entry-points."diffract.configs"]      weather = "my_weather.conf"

and nothing here changes. A single part joins by one, in the group of its role (`PARTS`), and is chosen by its name
wherever a configuration chooses such a part:

    [project.entry-points."diffract.solvers"]      ralston = "my_solvers:Ralston"          solver=ralston

An entry point is a string, so listing plugins runs no foreign code, and a plugin that cannot be imported breaks nothing
but itself. Where two distributions declare one name, neither has it: whichever came first on the path would silently
win, and with it the code that runs. What is wrong is a `Problem`, which says what to do; all else goes on.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
import sys
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import SequenceMatcher
from importlib import metadata
from importlib.machinery import ModuleSpec
from pathlib import Path

from framework.errors import UserError

DISTRIBUTION = "diffract"
MODALITIES = "diffract.modalities"
CONFIGS = "diffract.configs"
PARTS: Mapping[str, str] = {  # the group of entry points, and the group of the configuration that chooses among them
    "diffract.solvers": "solver",
    "diffract.grids": "grid",
    "diffract.guidance": "guidance",
    "diffract.backbones": "backbone",
    "diffract.codecs": "codec",
    "diffract.metrics": "metric",
}
GROUPS = (MODALITIES, CONFIGS, *PARTS)


class PluginError(UserError):
    """A plugin is unknown, ambiguous or broken; the message names it, its distribution and what to do."""


@dataclass(frozen=True)
class Plugin:
    """One declared entry point. `target` is 'module:attribute', or a package's name for configuration."""

    name: str
    target: str
    distribution: str
    version: str
    group: str = MODALITIES

    @property
    def module(self) -> str:
        return self.target.partition(":")[0]

    @property
    def package(self) -> str:
        """The top-level package that the plugin lives in."""
        return self.module.partition(".")[0]

    @property
    def dotted(self) -> str:
        """What a `_target_` calls it."""
        return self.target.replace(":", ".")

    @property
    def origin(self) -> str:
        return f"{self.distribution} {self.version}"

    def problem(self) -> str | None:
        """Why the plugin cannot be there, found without importing it; None if its module is installed."""
        if self.package in sys.stdlib_module_names:
            return f"'{self.target}' is a part of Python; an entry point names a package of its own distribution"
        spec = _spec(self.package)
        if spec is None:
            return f"package '{self.package}' is not installed; reinstall or uninstall {self.distribution}"
        if _absent(spec, self.module):
            return (
                f"package '{self.package}' has no '{self.module}'; reinstall {self.distribution} (its wheel must "
                "contain it) or uninstall it"
            )
        return None

    def load(self) -> object:
        """Import the module and return the attribute. PluginError names the plugin and the error below."""
        attribute = self.target.partition(":")[2]
        try:
            loaded: object = importlib.import_module(self.module)
            for part in filter(None, attribute.split(".")):
                loaded = getattr(loaded, part)
        # Importing a plugin runs code that may fail in any way, exiting included.
        except (Exception, SystemExit) as error:
            raise PluginError(
                f"plugin '{self.name}' of {self.origin} cannot be loaded from '{self.target}': "
                f"{type(error).__name__}: {error}. Repair or uninstall {self.distribution}."
            ) from error
        return loaded


@dataclass(frozen=True)
class Problem:
    """What is wrong with a plugin, and what to do. `left_out`: it is as if it were not installed."""

    plugin: Plugin
    what: str
    left_out: bool = True

    def __str__(self) -> str:
        end = "; it is left out" if self.left_out else ""
        return f"plugin '{self.plugin.name}' of {self.plugin.origin} ({self.plugin.group}): {self.what}{end}"


def modalities() -> dict[str, Plugin]:
    """The declared kinds of data by name; nothing is imported. A name that is declared twice is nobody's."""
    return _declared()[0][MODALITIES]


def config_packages() -> dict[str, Plugin]:
    """The packages of configuration by plugin name, likewise."""
    return _declared()[0][CONFIGS]


def parts() -> list[Plugin]:
    """The declared solvers, grids, ... (`PARTS`), likewise."""
    sound = _declared()[0]
    return [plugin for group in PARTS for plugin in sound[group].values()]


def packages() -> tuple[str, ...]:
    """The top-level packages of all plugins: what configurations may name beside our own."""
    known = {plugin.package for group in _declared()[0].values() for plugin in group.values()}
    return tuple(sorted(known - sys.stdlib_module_names))


def problems() -> list[Problem]:
    """What is wrong with the installed plugins, as far as it can be seen without importing them."""
    sound, conflicts = _declared()
    known = [plugin for group in sound.values() for plugin in group.values()]
    return [*conflicts, *(Problem(plugin, what) for plugin in known if (what := plugin.problem()) is not None)]


def load_modality(name: str) -> object:
    """The modality class declared as `name`. PluginError names the nearest known name, or what is broken."""
    sound, conflicts = _declared()
    known = sound[MODALITIES]
    if name not in known:
        if twice := [str(p) for p in conflicts if (p.plugin.group, p.plugin.name) == (MODALITIES, name)]:
            raise PluginError(twice[0])
        raise PluginError(
            f"there is no modality '{name}'{nearest(name, known)}; installed: {', '.join(known) or 'none'}"
        )
    return known[name].load()


def folder(plugin: Plugin) -> Path:
    """Where the files of a plugin's package lie, found without importing the package where that is possible.

    Importing `my_weather.conf` runs `my_weather/__init__.py`, which may import torch; so only the top-level
    package is looked up, and the rest of the path is walked as folders. Layouts that are not plain folders
    are left to the import system.
    """
    top, _, rest = plugin.module.partition(".")
    spec = _spec(top)
    for location in (spec.submodule_search_locations if spec else None) or ():
        path = Path(location, *rest.split(".")) if rest else Path(location)
        if path.is_dir():
            return path
    try:
        spec = importlib.util.find_spec(plugin.module) if spec else None
    except (Exception, SystemExit) as error:
        raise PluginError(
            f"plugin '{plugin.name}' of {plugin.origin}: importing '{plugin.module}' failed: {error}"
        ) from error
    for location in (spec.submodule_search_locations if spec else None) or ():
        return Path(location)
    raise PluginError(
        f"plugin '{plugin.name}' of {plugin.origin} declares the package '{plugin.module}', not there; "
        f"reinstall {plugin.distribution} (its wheel must contain that package) or uninstall it"
    )


def nearest(word: str, known: Iterable[str], prefix: str = "") -> str:
    """'; did you mean 'x'?' for the known names closest to `word`, each behind `prefix`, or nothing."""
    likeness = {name: SequenceMatcher(None, word.lower(), name.lower()).ratio() for name in known}
    # Names almost as close as the closest are named too; beyond that a guess only distracts.
    good_enough = max(0.6, max(likeness.values(), default=0.0) - 0.05)
    close = sorted((name for name in likeness if likeness[name] >= good_enough), key=lambda name: -likeness[name])
    return f"; did you mean {' or '.join(repr(prefix + name) for name in close[:3])}?" if close else ""


def _declared() -> tuple[dict[str, dict[str, Plugin]], list[Problem]]:
    """The plugins by group and name, and those that are left out because others have the same name.

    What Diffract itself declares stays: a plugin cannot take the place of it, and cannot take it away.
    """
    rivals: dict[tuple[str, str], list[Plugin]] = {}
    for plugin in sorted((*_installed(), *_of_checkout()), key=lambda plugin: plugin.name):
        same = rivals.setdefault((plugin.group, plugin.name), [])
        if plugin not in same:
            same.append(plugin)
    sound: dict[str, dict[str, Plugin]] = {group: {} for group in GROUPS}
    conflicts = []
    for (group, name), same in rivals.items():
        keeper = next((plugin for plugin in same if plugin.distribution == DISTRIBUTION), None)
        if keeper is None and len(same) == 1:
            keeper = same[0]
        if keeper is not None:
            sound[group][name] = keeper
        told = " and by ".join(f"{plugin.origin} ({plugin.target})" for plugin in same)
        what = f"the name is declared twice: by {told}; uninstall one of them"
        conflicts += [Problem(plugin, what) for plugin in same if plugin is not keeper]
    return sound, conflicts


def _spec(package: str) -> ModuleSpec | None:
    """Where a top-level package is; None where it is not, or cannot be asked."""
    try:
        return importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return None


def _absent(spec: ModuleSpec, module: str) -> bool:
    """Whether a module is surely not in its top-level package: a package of plain folders without its file."""
    rest = module.split(".")[1:]
    locations = [Path(location) for location in spec.submodule_search_locations or ()]
    if not rest or (locations and not all(location.is_dir() for location in locations)):
        return False
    places = [location.joinpath(*rest) for location in locations]
    return not any(place.is_dir() or any(place.parent.glob(f"{place.name}.*")) for place in places)


def _installed() -> list[Plugin]:
    return _scan(tuple((place, _changed(place)) for place in sys.path))


def _changed(place: str) -> int:
    """When something was last installed in a place of the path, or taken away; 0 where there is nothing."""
    try:
        return os.stat(place or ".").st_mtime_ns
    except OSError:
        return 0


@functools.lru_cache(maxsize=4)
def _scan(places: tuple[tuple[str, int], ...]) -> list[Plugin]:
    """One walk over the metadata of all that is installed: it takes a while, and is asked for often."""
    entries = metadata.entry_points()
    return [
        Plugin(
            entry.name,
            entry.value,
            entry.dist.name if entry.dist else "an unknown distribution",
            entry.dist.version if entry.dist else "?",
            entry.group,
        )
        for group in GROUPS
        for entry in entries.select(group=group)
    ]


def _of_checkout() -> list[Plugin]:
    """The entry points of a checkout that was never installed, from its pyproject.toml."""
    try:
        metadata.distribution(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        file = Path(__file__).parents[1] / "pyproject.toml"
        declared = tomllib.loads(file.read_text())["project"] if file.is_file() else {}
        if declared.get("name") == DISTRIBUTION:
            entries = declared.get("entry-points", {})
            return [
                Plugin(name, target, DISTRIBUTION, "checkout", group)
                for group in GROUPS
                for name, target in entries.get(group, {}).items()
            ]
    return []
