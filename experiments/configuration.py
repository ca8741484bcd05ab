"""From a command and its overrides to one configuration, without running anything or importing torch.

The tree is conf/ of this repository, which an installed Diffract carries as `framework/conf`, followed by
the configuration packages of plugins. Both are given to Hydra as folders and not as packages: a conf/ in the
current folder shadows nothing, and finding a plugin's files does not import the plugin. What plugins may add, and
how they are kept apart, is in plugged.py.
"""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

import framework
from experiments.errors import ConfigurationError
from experiments.plugged import PluginWarning, chosen_by_path, offered, register_options
from experiments.words import readable, several
from framework.build import USER_CONFIG, Allow
from framework.plugins import Problem

# Hydra 1.3 has to be told whose defaults it shall keep; 1.4 has its own alone, and warns where it is told.
HYDRA_BASE: dict[str, Any] = {"version_base": "1.3"} if hydra.__version__.startswith("1.3.") else {}


class PluginConfigurations(SearchPathPlugin):
    """Appends the folders of plugins to Hydra's search path, after our own."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        for name, path in offered(config_folder()).folders.items():
            search_path.append(provider=f"plugin:{name}", path=path.as_uri())


def config_folder() -> Path:
    """Where the tree lies: inside the installed package, or beside it in a checkout."""
    package = Path(framework.__file__).resolve().parent
    for candidate in (package / "conf", package.parent / "conf"):
        if (candidate / "train.yaml").is_file():
            return candidate
    raise ConfigurationError(f"the configuration tree is neither at {package}/conf nor at {package.parent}/conf")


def register_plugins() -> list[Problem]:
    """Let Hydra find what plugins add to the tree; returns what is wrong with plugins."""
    found = offered(config_folder())
    register_options(found.options)
    Plugins.instance().register(PluginConfigurations)
    return found.problems


def compose(command: str, overrides: Sequence[str] = ()) -> DictConfig:
    """The configuration of a command (train, sample, evaluate), as `diffract COMMAND OVERRIDES` has it.

    Interpolations are kept; `plain` resolves them. Hydra is left as it was found. ConfigurationError names
    the nearest valid choices for whatever is wrong. What is wrong with plugins is a PluginWarning.
    """
    from experiments.explain import explain

    overrides = complete(overrides, command)
    for problem in register_plugins():
        warnings.warn(str(problem), PluginWarning, stacklevel=2)
    try:
        with hydra_for(command), chosen_by_path(overrides):
            return hydra_compose(command, overrides=list(overrides))
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigurationError(explain(error, command, overrides)) from error


@contextlib.contextmanager
def hydra_for(command: str) -> Iterator[ConfigLoader]:
    """Hydra initialised on our tree inside the block, also within a job that it runs; as before after it."""
    register_plugins()
    state = GlobalHydra.instance()
    before = state.hydra
    state.clear()
    try:
        with initialize_config_dir(str(config_folder()), job_name=command, **HYDRA_BASE):
            yield GlobalHydra.instance().config_loader()
    finally:
        GlobalHydra.instance().hydra = before


def complete(overrides: Sequence[str], command: str = "") -> list[str]:
    """Overrides with their words quoted, and with the folder of a resumed run as the folder of this one."""
    overrides = [several(override, command) for override in readable(overrides)]
    given = {override.partition("=")[0]: override.partition("=")[2] for override in overrides}
    if given.get("resume", "null") not in ("null", "") and "run" not in given:
        overrides.append(f"run={given['resume']}")
    if command == "train" and given.get("init", "null") not in ("null", ""):
        overrides = [*inherited(Path(given["init"].strip("'\"")), set(given)), *overrides]
    return overrides


def inherited(base: Path, given: set[str]) -> list[str]:
    """The command line that trained a run, for a run that begins with its weights: what is given anew is not repeated.

    Of a model's folder without a run, and beside a preset of one's own, nothing is known or wanted.
    """
    record = base / "overrides.txt"
    chosen = {key.lstrip("+~") for key in given}
    if not record.is_file() or "experiment" in chosen:
        return []
    saved = OmegaConf.load(base / "config.yaml")
    lines = [line for line in record.read_text().splitlines() if line and not line.startswith("#")]
    kept: dict[str, str] = {}
    for line in lines:
        key = line.lstrip("+~").partition("=")[0]
        if key not in chosen and key not in ("run", "resume", "init"):
            kept[key] = line if key != "data.path" else f"data.path='{OmegaConf.select(saved, key)}'"
    return list(kept.values())


def plain(config: DictConfig | dict[str, Any]) -> dict[str, Any]:
    """The configuration as nested dicts and lists, interpolations resolved, else ConfigurationError."""
    if isinstance(config, dict):
        return config
    try:
        resolved = OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        raise ConfigurationError(str(error).partition("\n")[0]) from error
    assert isinstance(resolved, dict)
    return {str(key): value for key, value in resolved.items()}


def allowed(config: DictConfig | dict[str, Any]) -> Allow:
    """What a user's own configuration may name: our packages, known libraries, plugins, those in `allow`."""
    return USER_CONFIG.plus(*(config.get("allow") or ()))


@contextlib.contextmanager
def current_folder_importable() -> Iterator[None]:
    """Inside the block a class may be named that lies in a file of the current folder, as with `python -m`.

    The folder comes last on the path, so that nothing in it stands in for what is installed.
    """
    before = list(sys.path)
    sys.path.append(str(Path.cwd()))
    try:
        yield
    finally:
        sys.path[:] = before


def missing(config: DictConfig) -> list[str]:
    """The keys that a command needs and that nobody has set."""
    return sorted(OmegaConf.missing_keys(config))


def given_overrides() -> list[str]:
    """The overrides of the running job as they were typed; empty outside a job that Hydra runs."""
    return list(HydraConfig.get().overrides.task) if HydraConfig.initialized() else []
