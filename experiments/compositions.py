"""Whether all presets of a plugin can be chosen: each composes, and names classes and arguments that exist."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.configuration import allowed, compose, config_folder, missing, plain
from experiments.errors import ConfigurationError
from experiments.plugged import offered
from framework.build import check
from framework.plugins import CONFIGS, modalities

if TYPE_CHECKING:
    from framework.testing.subject import Passed, Subject

ANYTHING = "x"  # in the place of what a person has to give


def configuration(subject: Subject) -> Passed:
    """Every preset of the plugin composes and names classes and arguments that exist, with values of their types; its
    folder of configuration can be packaged.
    """
    from framework.testing.subject import Failed, Passed, Skipped

    if subject.config is None:
        raise Skipped("no configuration was given")
    target = subject.config["modality"]["_target_"]
    name = next((plugin.name for plugin in modalities().values() if plugin.dotted == target), None)
    if name is None:
        raise Skipped(f"no installed plugin declares {target} by an entry point")
    found = offered(config_folder())
    if wrong := [p.what for p in found.problems if (p.plugin.group, p.plugin.name) == (CONFIGS, name)]:
        raise Failed("; ".join(wrong))
    if name not in found.folders:
        raise Skipped(f"plugin {name!r} declares no configuration")
    presets = presets_in(found.folders[name])
    if not presets:
        raise Failed(f"there is no preset in {found.folders[name]}/experiment: nothing can be trained by its name")
    if faults := [fault for preset in presets for fault in faults_of(preset, subject.config.get("allow") or ())]:
        raise Failed("; ".join(faults), len(presets))
    return Passed(f"{', '.join(presets)} can be chosen", len(presets))


def presets_in(folder: Path) -> list[str]:
    """The names of the experiments of a folder of configuration."""
    files = (folder / "experiment").rglob("*.yaml")
    return sorted(file.relative_to(folder / "experiment").with_suffix("").as_posix() for file in files)


def faults_of(preset: str, allow: Sequence[str] = ()) -> list[str]:
    """What is wrong with an experiment; what a person has to give is taken to be given."""
    chosen = [f"experiment={preset}"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            open_keys = missing(compose("train", chosen))
            config = plain(compose("train", [*chosen, *(f"{key}={ANYTHING}" for key in open_keys)]))
        except ConfigurationError as error:
            return [f"experiment={preset} does not compose: {error}"]
    config["allow"] = [*(config.get("allow") or ()), *allow]
    found = check(config, allowed(config))
    return [f"experiment={preset}: {fault}" for fault in found if not fault.startswith(tuple(open_keys))]
