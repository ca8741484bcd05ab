"""Discovery of plugins: what is installed, found by entry points, imported only when it is asked for.

A kind of data joins Diffract by two lines in the pyproject.toml of its own distribution,

    [project.entry-points."diffract.modalities"]   weather = "my_weather.modality:Weather"
    [project.entry-points."diffract.configs"]      weather = "my_weather.conf"

and nothing here changes. An entry point is a string, so listing plugins runs no foreign code, and a plugin
that cannot be imported breaks nothing but itself. Two distributions that declare one name are refused:
whichever came first on the path would silently win, and with it the code that runs.
"""

from __future__ import annotations

import importlib
import importlib.util
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import SequenceMatcher
from importlib import metadata
from pathlib import Path

from framework.errors import UserError

DISTRIBUTION = "diffract"
MODALITIES = "diffract.modalities"
CONFIGS = "diffract.configs"


class PluginError(UserError):
    """A plugin is unknown, ambiguous or broken; the message names it, its distribution and what to do."""


@dataclass(frozen=True)
class Plugin:
    """One declared entry point. `target` is 'module:attribute', or a package's name for configuration."""

    name: str
    target: str
    distribution: str
    version: str

    @property
    def module(self) -> str:
        return self.target.partition(":")[0]

    @property
    def package(self) -> str:
        """The top-level package that the plugin lives in."""
        return self.module.partition(".")[0]

    @property
    def origin(self) -> str:
        return f"{self.distribution} {self.version}"

    def problem(self) -> str | None:
        """Why the plugin cannot be there, found without importing it; None if its package is installed."""
        if importlib.util.find_spec(self.package) is None:
            return f"package '{self.package}' is not installed"
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


def modalities() -> dict[str, Plugin]:
    """The declared kinds of data by name; nothing is imported. PluginError if a name is declared twice."""
    return _declared(MODALITIES)


def config_packages() -> dict[str, Plugin]:
    """The packages of configuration by plugin name, none imported. PluginError if one is declared twice."""
    return _declared(CONFIGS)


def load_modality(name: str) -> object:
    """The modality class declared as `name`. PluginError names the nearest known name, or what is broken."""
    known = modalities()
    if name not in known:
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
    spec = importlib.util.find_spec(top)
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


def _declared(group: str) -> dict[str, Plugin]:
    found: dict[str, Plugin] = {}
    for plugin in sorted((*_installed(group), *_of_checkout(group)), key=lambda plugin: plugin.name):
        twin = found.setdefault(plugin.name, plugin)
        if twin != plugin:
            raise PluginError(
                f"plugin '{plugin.name}' is declared twice in {group}: by {twin.origin} ({twin.target}) "
                f"and by {plugin.origin} ({plugin.target}); uninstall one of them"
            )
    return found


def _installed(group: str) -> list[Plugin]:
    return [
        Plugin(
            entry.name,
            entry.value,
            entry.dist.name if entry.dist else "an unknown distribution",
            entry.dist.version if entry.dist else "?",
        )
        for entry in metadata.entry_points(group=group)
    ]


def _of_checkout(group: str) -> list[Plugin]:
    """The entry points of a checkout that was never installed, from its pyproject.toml."""
    try:
        metadata.distribution(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        file = Path(__file__).parents[1] / "pyproject.toml"
        declared = tomllib.loads(file.read_text())["project"] if file.is_file() else {}
        if declared.get("name") == DISTRIBUTION:
            entries = declared.get("entry-points", {}).get(group, {})
            return [Plugin(name, target, DISTRIBUTION, "checkout") for name, target in entries.items()]
    return []
