"""Help, and Hydra's complaints said so that the reader knows what to type instead.

Hydra says that a key is not in the struct, or prints a search path. Here the word that was typed is held
against the groups, the options and the keys that exist, and the nearest are named.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from hydra import compose as hydra_compose
from hydra.core.config_loader import ConfigLoader
from hydra.core.object_type import ObjectType
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from experiments.configuration import compose, hydra_for
from experiments.words import SEVERAL
from framework.plugins import nearest

EXAMPLES = {
    "train": (
        "experiment=KIND/NAME run=outputs/shapes",
        "resume=outputs/shapes trainer.max_steps=20000",
        "-m experiment=KIND/NAME optimizer.lr=1e-4,2e-4",
    ),
    "sample": (
        'run=outputs/shapes prompt="a red circle" n=16',
        'run=outputs/shapes prompt="a red circle" solver=heun steps=10 guidance=cfg guidance.scale=3',
        'run=outputs/shapes task=inpaint task.input=mine.png task.redo="x=0.5-1" prompt="a red circle"',
        "from=outputs/shapes/samples/0001/00000.png",
    ),
    "evaluate": (
        "run=outputs/shapes n=2048",
        "-m run=outputs/shapes steps=5,10,20 out='outputs/shapes/steps_${steps}'",
    ),
    "compare": (
        "study=small runs=[outputs/shapes,outputs/notes] out=outputs/study",
        "study=solvers study.solvers=[heun,dpmpp_2m,unipc] study.budgets=[5,10,20] runs=[outputs/shapes] jobs=2",
        "-m part=1/2,2/2 study=full runs=[outputs/shapes] hydra/launcher=joblib",
    ),
    "certify": (
        "solver=all",
        "solver=unipc schedule=all grid=all out=outputs/certify",
        "solver=my_package.Midpoint",
    ),
    "check_modality": (
        "experiment=KIND/NAME backbone.width=8 data.batch_size=8",
        "experiment=KIND/NAME only=[encoding,oracle]",
        "experiment=KIND/NAME fast=false out=outputs/check",
    ),
}

FLAGS = """\
-m, --multirun            one job for each of several values: seed=1,2,3
--cfg job --resolve       print the configuration and stop
--config-dir DIR          a folder with presets and groups of your own
--hydra-help              every other flag"""

_UNKNOWN = re.compile(r"Could not (?:override|delete(?: from config)?)[^']*'([^'=]+)")
_SPLIT = re.compile(r"In '(.+)': Invalid Defaults List override '/(\w+)/([^@:']+)(@[^:']+)?: ([^']+)'")


def help_text(command: str, overrides: Sequence[str]) -> str:
    """What a command can be told: its groups with their options, and its settings under the overrides."""
    config = compose(command, overrides)
    with hydra_for(command) as loader:
        groups = "\n".join(
            f"  {group}: {', '.join(options(group.partition('@')[0], loader)) or 'none installed'}"
            for group in (*_settings(command, []).groups, *SEVERAL.get(command, ()))
        )
    settings = "".join(f"  {line}\n" for line in OmegaConf.to_yaml(config).splitlines())
    examples = "\n".join(f"  diffract {command.replace('_', '-')} {example}" for example in EXAMPLES[command])
    flags = "".join(f"  {line}\n" for line in FLAGS.splitlines())
    return (
        f"{examples}\n\nChoices, group=option:\n{groups}\n\n"
        f"Settings, key=value or inner.key=value:\n{settings}\nFlags:\n{flags}"
    )


def explain(error: Exception, command: str, overrides: Sequence[str]) -> str:
    """What was wrong with the overrides of a command, and what would be right, in a few lines."""
    if isinstance(error, OverrideParseException):
        return _unreadable(error)
    unknown = _UNKNOWN.search(str(error))
    if unknown:
        return _unknown_key(unknown[1].partition("@")[0], command, overrides)
    split = _SPLIT.search(str(error))
    if split:
        preset, group, folder, package, option = (part or "" for part in split.groups())
        line = f"override /{group}{package}: [{folder}/{option}]"
        return (
            f"{preset}.yaml: write '{line}': without the brackets Hydra takes {group}/{folder} for a group of its own"
        )
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        return _unknown_option(error, command)
    cause = f"\n{error.__cause__}" if isinstance(error.__cause__, OmegaConfBaseException) else ""
    return f"{error}{cause}".strip().partition("\n    full_key")[0]


def options(group: str, loader: ConfigLoader) -> list[str]:
    """The choices of a group, those in its subfolders too ('kind/name')."""
    found = list(loader.get_group_options(group, ObjectType.CONFIG))
    for inner in loader.get_group_options(group, ObjectType.GROUP):
        found += [f"{inner}/{option}" for option in options(f"{group}/{inner}", loader)]
    return sorted(found)


def choices(group: str, command: str) -> list[str]:
    """The choices of a group as a person would type them."""
    with hydra_for(command) as loader:
        return options(group, loader)


def _unreadable(error: OverrideParseException) -> str:
    key, separator, _ = error.override.partition("=")
    if not separator:
        return f"'{error.override}' is not an override: write key=value, for example seed=1"
    return f"the value in '{error.override}' cannot be read; quote it for the shell and within: \"{key}='...'\""


def _unknown_option(error: MissingConfigException, command: str) -> str:
    group, _, option = str(error.missing_cfg_file).removesuffix(".yaml").partition("/")
    known = choices(group, command)
    if not known:
        return str(error).partition("\nSearch path")[0]
    return f"{group} has no option '{option}'{nearest(option, known)}\n{group} can be: {', '.join(known)}"


def _unknown_key(key: str, command: str, overrides: Sequence[str]) -> str:
    settings = _settings(command, [o for o in overrides if "=" in o and _key(o) != key])
    elsewhere = [f"{group}=..." for group in settings.groups if group.startswith(f"{key}@")]
    if elsewhere:
        return f"'{key}' has to be told where it belongs; did you mean {' or '.join(elsewhere)}?"
    known = [*settings.keys, *settings.groups, *(group.partition("@")[0] for group in settings.groups)]
    parent, _, leaf = key.rpartition(".")
    siblings = [name.rpartition(".")[2] for name in known if name.rpartition(".")[0] == parent]
    # 'max_steps' alone is as clear a wish for 'trainer.max_steps' as a slip of the finger is.
    same = [name for name in known if name.rpartition(".")[2] == leaf]
    if not siblings and parent in settings.groups:
        options = ", ".join(choices(parent, command))
        return f"'{key}' needs a {parent}: say which, as in {parent}=NAME {key}=...; {parent} can be: {options}"
    if parent and siblings:
        hint = nearest(leaf, siblings, f"{parent}.") or f"; {parent} has: {', '.join(siblings)}"
    elif same:
        hint = f"; did you mean {' or '.join(map(repr, same[:3]))}?"
    else:
        hint = nearest(key, known) or f"; {command} has: {', '.join(dict.fromkeys(siblings))}"
    return f"there is no '{key}'{hint}"


@dataclass(frozen=True)
class _Settings:
    """The dotted keys of a command, and its groups as overrides name them ('solver@sampling.solver')."""

    keys: list[str]
    groups: list[str]


def _settings(command: str, overrides: Sequence[str]) -> _Settings:
    """What a command can be told under overrides, or its preset alone, or none, whichever composes first."""
    with hydra_for(command):
        config = None
        for attempt in (overrides, [o for o in overrides if _key(o) == "experiment"], []):
            with contextlib.suppress(HydraException, OmegaConfBaseException):
                config = hydra_compose(command, overrides=list(attempt), return_hydra_config=True)
                break
        assert config is not None, "the tree composes without overrides"
    groups = sorted(name for name in config.hydra.runtime.choices if not name.startswith("hydra/"))
    tree = OmegaConf.to_container(OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"]))
    assert isinstance(tree, dict)
    return _Settings([name for key, value in tree.items() for name in _dotted(str(key), value)], groups)


def _key(override: str) -> str:
    return override.lstrip("+~").partition("=")[0].partition("@")[0]


def _dotted(name: str, value: object) -> list[str]:
    if name.rpartition(".")[2].startswith("_"):  # _target_ and its like are not for the command line
        return []
    inner = value.items() if isinstance(value, dict) else ()
    return [name, *(found for key, below in inner for found in _dotted(f"{name}.{key}", below))]
