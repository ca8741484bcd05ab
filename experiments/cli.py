"""The command `diffract`: train, sample, evaluate, certify, check a plugin, and a list of the plugins.

    diffract train experiment=KIND/NAME run=outputs/shapes           any Hydra override follows the command
    diffract sample run=outputs/shapes prompt="a red circle" n=16
    eval "$(diffract -sc install=bash)"                               completes commands, groups and keys

Hydra composes, sweeps and launches; this module hands it the command line, and says what is wrong with it in
words. The application itself, and torch with it, is imported when the configuration is right: a wrong
override answers at once. Wrong input ends with exit code 2 and a message, an error in the work itself with
its traceback and exit code 1, which is also that of a solver that `certify` finds wanting, and of a
plugin that `check-modality` does.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from experiments.errors import ConfigurationError
from framework.build import check
from framework.errors import UserError
from framework.plugins import PARTS, PluginError, Problem, modalities, nearest, parts

COMMANDS = {
    "train": "train a model, or go on with a run",
    "sample": "draw samples from a trained model",
    "evaluate": "measure a trained model on held-out data",
    "compare": "compare samplers on trained models, with statistics and a report",
    "certify": "measure solvers on problems whose answers are known",
    "check-modality": "hold a kind of data, its data and its network against the plugin contract",
    "new-modality": "write a package for a kind of data of your own",
    "export": "write a trained model as other software of its field reads it",
    "watermark": "look for an invisible watermark in files",
    "modalities": "list the installed kinds of data, and other plugins, with what is wrong with any",
}
CONFIGURED = ("train", "sample", "evaluate", "compare", "certify", "check_modality")  # by the names of their modules
CHOOSES_PARTS = ("train", "check_modality")  # commands that a preset tells all that a run is made of
WRONG_INPUT = (UserError,)


def main() -> None:
    """Entry point of `diffract`."""
    try:
        _dispatch()
    except BrokenPipeError:  # as `diffract train --help | head` ends; there is nobody left to tell
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def _dispatch() -> None:
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_usage())
    elif arguments[0] == "--version":
        print(f"diffract {importlib.import_module('framework').__version__}")
    elif arguments[0] in ("-sc", "--shell-completion", "--shell_completion"):
        _complete_shell(arguments)
    elif arguments[0] == "modalities":
        _wrong_input_exits("diffract modalities", lambda: _list_modalities(arguments[1:]))
    elif arguments[0] == "new-modality":
        _wrong_input_exits("diffract new-modality", lambda: _application("new_modality").main(arguments[1:]))
    elif arguments[0] == "export":
        _wrong_input_exits("diffract export", lambda: _application("export").main(arguments[1:]))
    elif arguments[0] == "watermark":
        _wrong_input_exits("diffract watermark", lambda: _application("watermark").main(arguments[1:]))
    elif _module(arguments[0]) in CONFIGURED:
        _launch(_module(arguments[0]), arguments[1:], sys.argv[:2])
    else:
        word = arguments[0]
        hint = "; name a command first, as in: diffract train " + word if "=" in word else nearest(word, COMMANDS)
        _leave("diffract", f"there is no command '{word}'{hint}\n\n{_usage()}")


def _application(name: str) -> Any:
    return importlib.import_module(f"experiments.{name}")


def command_line(command: str) -> None:
    """Entry point of `python -m experiments.<command>`."""
    _launch(command, sys.argv[1:], sys.argv[:1])


def _module(word: str) -> str:
    """The module of a command as a person types it: check-modality is in check_modality."""
    return word.replace("-", "_")


def _word(command: str) -> str:
    """The reverse."""
    return command.replace("_", "-")


def _launch(command: str, arguments: list[str], program: list[str]) -> None:
    """Run a command under Hydra. `program` is what stands before the overrides to start it again."""
    _wrong_input_exits(f"diffract {_word(command)}", lambda: _run_hydra(command, arguments, program))


def _run_hydra(command: str, arguments: list[str], program: list[str]) -> None:
    import hydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from experiments import configuration, plugged
    from experiments.explain import explain, help_text

    tell_problems(configuration.register_plugins())
    given = configuration.complete(arguments, command)
    plugged.register_paths(given)
    overrides = [word for word in given if not word.startswith("-")]
    if {"-h", "--help"}.intersection(given):
        print(f"diffract {_word(command)}: {COMMANDS[_word(command)]}\n\n{help_text(command, overrides)}")
        return
    if _multirun_names_its_runs(given):
        given.append("hydra.sweep.subdir=.")
    application = hydra.main(str(configuration.config_folder()), command, **configuration.HYDRA_BASE)
    try:
        with _errors_raised(), _arguments([program[0], *given]):
            application(job(command, program))()
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigurationError(explain(error, command, overrides)) from error


def tell_problems(problems: Sequence[Problem]) -> None:
    """Say once what is wrong with plugins; the command goes on without them."""
    import warnings

    from experiments.plugged import PluginWarning

    for problem in problems:
        print(f"diffract: {problem}", file=sys.stderr)
    warnings.simplefilter("ignore", PluginWarning)


def job(command: str, program: Sequence[str]) -> Callable[[Any], float | None]:
    """What Hydra runs for each configuration: look it through, then import the application and start it."""

    def task(config: Any) -> float | None:
        from hydra.core.hydra_config import HydraConfig
        from omegaconf import open_dict

        from experiments.configuration import current_folder_importable, given_overrides
        from experiments.words import quoted

        settings = HydraConfig.get()
        folder = Path(settings.runtime.output_dir)
        if command == "train" and settings.mode is not None and settings.mode.name == "MULTIRUN":
            with open_dict(config):
                config.run = os.path.relpath(folder)
        try:
            with current_folder_importable() if config.get("allow") else contextlib.nullcontext():
                look_through(command, config)
                # Lightning starts the other processes of a run on many devices with this command line.
                run = [] if config.get("run") is None else [f"run={quoted(config.run)}"]
                with _arguments([*program, *(o for o in given_overrides() if not o.startswith("run=")), *run]):
                    application = importlib.import_module(f"experiments.{command}")
                    result: float | None = application.run(config)
            if hasattr(application, "failed") and application.failed(result):
                sys.exit(1)
        except WRONG_INPUT as error:
            if command == "train":
                _remove_empty(folder)
            _leave(f"diffract {_word(command)}", str(error))  # not raised: Hydra would print it in its own way first
        return result

    return task


def look_through(command: str, config: Any) -> None:
    """ConfigurationError if a value is missing, or a `_target_` or one of its arguments does not exist.

    A resumed run goes on under its saved configuration, which was looked through when it began.
    """
    from experiments.configuration import allowed, missing, plain
    from experiments.explain import choices

    if config.get("resume") is not None:
        if not (Path(config.resume) / "config.yaml").is_file():
            raise ConfigurationError(f"resume={config.resume}: there is no run in that folder (no config.yaml)")
        return
    absent = [key for key in missing(config) if not (key == "run" and config.get("from") is not None)]
    values = [key for key in absent if "." in key]
    if values:
        raise ConfigurationError(f"{', '.join(values)} must be given, as in: {values[0]}=...")
    if absent and command in CHOOSES_PARTS:
        presets = ", ".join(choices("experiment", command)) or "none installed"
        raise ConfigurationError(f"nothing chosen for {', '.join(absent)}; a preset does: experiment=... of {presets}")
    if absent:
        raise ConfigurationError(f"{', '.join(absent)} must be given, as in: {absent[0]}=outputs/shapes")
    problems = check(plain(config), allowed(config))
    if problems:
        raise ConfigurationError("\n".join(problems))


def _remove_empty(folder: Path) -> None:
    """Take back the empty folders below the current one that Hydra made for a run that does not begin."""
    for path in (folder, *folder.parents):
        if Path.cwd() not in path.parents:
            return
        try:
            path.rmdir()
        except OSError:  # not empty: not ours
            return


def _multirun_names_its_runs(given: Sequence[str]) -> bool:
    """Whether a sweep's jobs get their folders from `run=` (a sweep, an interpolation)."""
    runs = [word.partition("=")[2] for word in given if word.startswith("run=")]
    return any("," in run or "${" in run for run in runs)


def _list_modalities(arguments: list[str]) -> None:
    if arguments not in ([], ["--load"]):
        raise ConfigurationError(f"'{' '.join(arguments)}' is not understood; only --load may follow, to import each")
    from rich.console import Console
    from rich.table import Table

    from experiments.configuration import config_folder
    from experiments.plugged import offered

    problems = offered(config_folder()).problems
    table = Table("plugin", "kind", "from", "defined in", "state")
    for plugin in (*modalities().values(), *parts()):
        state = "; ".join(problem.what for problem in problems if problem.plugin == plugin)
        if not state and arguments:
            try:
                plugin.load()
                state = "loads"
            except PluginError as error:
                state = str(error)
        kind = PARTS.get(plugin.group, "modality")
        table.add_row(plugin.name, kind, plugin.origin, plugin.target, state or "installed")
        problems = [problem for problem in problems if problem.plugin != plugin]
    for problem in problems:  # of configuration, and of names that nobody has
        plugin = problem.plugin
        kind = plugin.group.rpartition(".")[2]
        table.add_row(plugin.name, kind, plugin.origin, plugin.target, problem.what)
    Console().print(table)


def _complete_shell(arguments: list[str]) -> None:
    """Hydra's completion, for the command that stands first on the line being typed."""
    line = os.environ.get("COMP_LINE", "")
    words = line.split()
    if any(word.startswith("query=") for word in arguments):
        if len(words) < 2 or (len(words) == 2 and not line.endswith(" ")):
            typed = words[1] if len(words) == 2 else ""
            print(" ".join(command for command in COMMANDS if command.startswith(typed)))
            return
        if _module(words[1]) not in CONFIGURED:
            return
        # To Hydra the program's name ends where the overrides begin.
        os.environ["COMP_LINE"] = "diffract " + line.split(None, 2)[2] if len(words) > 2 else "diffract "
        _launch(_module(words[1]), arguments, sys.argv[:1])
    else:
        _launch("train", arguments, sys.argv[:1])


def _wrong_input_exits(name: str, work: Callable[[], None]) -> None:
    try:
        work()
    except WRONG_INPUT as error:
        _leave(name, str(error))


def _leave(name: str, message: str) -> NoReturn:
    print(f"{name}: {message}", file=sys.stderr)
    sys.exit(2)


@contextlib.contextmanager
def _arguments(argv: list[str]) -> Iterator[None]:
    before, sys.argv = sys.argv, argv
    try:
        yield
    finally:
        sys.argv = before


@contextlib.contextmanager
def _errors_raised() -> Iterator[None]:
    """Hydra prints errors and exits unless this is set; we want them as exceptions."""
    before = os.environ.get("HYDRA_FULL_ERROR")
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["HYDRA_FULL_ERROR"]
        else:
            os.environ["HYDRA_FULL_ERROR"] = before


def _usage() -> str:
    commands = "\n".join(f"  {name:<16}{purpose}" for name, purpose in COMMANDS.items())
    return (
        f"diffract: one core of diffusion for many kinds of data\n\n{commands}\n\n"
        "  diffract COMMAND --help             what a command can be told\n"
        '  eval "$(diffract -sc install=bash)"  completion with the tab key, for this shell'
    )


if __name__ == "__main__":
    main()
