"""Objects from configuration: plain nested dicts and lists, and a default-deny rule for what they may name.

    {"_target_": "framework.schedules.Cosine"}                             ->  Cosine()
    {"_target_": "framework.objectives.times.Stratified",
     "of": {"_target_": "framework.objectives.times.Uniform"}}             ->  Stratified(of=Uniform())
    {"_target_": "lightning.Trainer", "_partial_": True, "max_steps": 10}  ->  partial(Trainer, max_steps=10)

A configuration that came with a downloaded model is an attacker's program in a language of names and
arguments, so the language is kept small. A name must lie in an allowed package before anything is
imported; what it leads to must be a public class or function, and must itself be *defined* in an allowed
package (`framework.store.os.system` is not); of a library only classes may be named (so never
`torch.load`); strings are never resolved (so never `${oc.env:TOKEN}`).

There are two phases. `check` walks the whole tree, finds each target, compares each argument with its
signature, and returns every problem that it finds. `build` refuses to make anything until there are none.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import inspect
import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

from framework.errors import UserError
from framework.plain_types import mismatch
from framework.plugins import nearest, packages

TARGET = "_target_"
PARTIAL = "_partial_"
DEEPEST = 50

Config = Any  # dict[str, Config] | list[Config] | str | int | float | bool | None


class BuildError(UserError):
    """A configuration cannot be built; the message holds every problem with its path, one a line."""


class _Refused(Exception):
    """One target that is not to be had; becomes a line of `check`."""


def _no_plugins() -> tuple[str, ...]:
    return ()


@dataclass(frozen=True)
class Allow:
    """Which targets a configuration may name. A package stands for itself and for everything inside it.

    `packages` may offer classes, and functions too unless `functions` is False; `libraries` only classes.
    `rooms` are modules that stay closed wherever they lie in an allowed package: they read, write or run
    things by design. `plugins` names the packages that are found at run time.
    """

    packages: tuple[str, ...] = ()
    libraries: tuple[str, ...] = ()
    rooms: frozenset[str] = frozenset()
    plugins: Callable[[], tuple[str, ...]] = _no_plugins
    functions: bool = True

    def plus(self, *packages: str) -> Allow:
        """The same rule, with `packages` (importable names) allowed too."""
        return replace(self, packages=(*self.packages, *packages))

    def permits(self, name: str) -> bool:
        """Whether a dotted name may be imported."""
        return self._in_packages(name) or _inside(name, self.libraries)

    def permits_object(self, name: str, found: object) -> bool:
        """Whether an object whose real dotted name is `name` may be called."""
        if inspect.isclass(found):
            return self.permits(name)
        return self.functions and self._in_packages(name)

    def _in_packages(self, name: str) -> bool:
        if not self.rooms.isdisjoint(name.split(".")):
            return False
        return _inside(name, self.packages) or _inside(name, self.plugins())


def _inside(name: str, packages: tuple[str, ...]) -> bool:
    return any(name == package or name.startswith(package + ".") for package in packages)


# A downloaded folder needs networks, codecs and mathematics. Only classes: a function is an action, and some of ours
# write
# files. Nothing that reads, writes or builds more.
CLOSED = ("build", "certify", "conf", "data", "files", "plugins", "render", "store", "studies", "testing", "training")
MODEL_FOLDER = Allow(
    packages=("framework", "modalities"),
    rooms=frozenset(CLOSED),
    functions=False,
    plugins=packages,
)

# The user's own configuration, written or reviewed by the person who runs it.
USER_CONFIG = Allow(
    packages=("framework", "modalities"),
    libraries=(
        "torch.nn",
        "torch.optim",
        "torch.utils.data",
        "torch.distributed.fsdp",
        "torch.distributions",
        "lightning",
        "torchmetrics",
        "diffusers",
        "transformers",
    ),
    rooms=frozenset({"build", "plugins"}),
    plugins=packages,
)


def build(config: Config, allow: Allow) -> Any:
    """The object that `config` describes, children made first. BuildError, and nothing made, on a problem."""
    problems = check(config, allow)
    if problems:
        raise BuildError("\n".join(problems))
    return _make(config, allow, "")


def check(config: Config, allow: Allow) -> list[str]:
    """Every problem of `config`, each 'path: what is wrong; what would be right'. Makes nothing."""
    return list(_problems(config, allow, "", 0))


def find(target: str, allow: Allow) -> Callable[..., Any]:
    """The public class or function of that dotted name. BuildError if it is not allowed or not there."""
    try:
        return _find(target, allow)
    except _Refused as refusal:
        raise BuildError(str(refusal)) from refusal


def _problems(node: Config, allow: Allow, path: str, depth: int) -> Iterator[str]:
    where = f"{path}: " if path else ""
    if depth > DEEPEST:
        yield f"{where}nested deeper than {DEEPEST} levels"
    elif isinstance(node, dict):
        for key, value in node.items():
            if not isinstance(key, str):
                yield f"{where}key {key!r} is not a string"
            elif key not in (TARGET, PARTIAL):
                yield from _problems(value, allow, _join(path, key), depth + 1)
        if any(isinstance(key, str) and key.startswith("_") for key in node):
            yield from _problems_of_target(node, allow, path)
    elif isinstance(node, list | tuple):
        for index, value in enumerate(node):
            yield from _problems(value, allow, f"{path}[{index}]", depth + 1)
    elif isinstance(node, str):
        if "${" in node:
            yield f"{where}'{node}' holds an interpolation, which is never resolved here; write its value"
    elif not isinstance(node, bool | int | float | None):
        yield f"{where}{type(node).__name__} is not a plain value (dict, list, str, number, bool or null)"


def _problems_of_target(node: dict[str, Config], allow: Allow, path: str) -> Iterator[str]:
    where = f"{path}: " if path else ""
    arguments = [key for key in node if key not in (TARGET, PARTIAL)]
    special = [key for key in arguments if isinstance(key, str) and key.startswith("_")]
    for key in special:
        yield f"{_join(path, key)}: of names with an underscore only {TARGET} and {PARTIAL} have a meaning"
    if TARGET not in node:
        if PARTIAL in node:
            yield f"{where}{PARTIAL} stands without a {TARGET}"
        return
    partial = node.get(PARTIAL, False)
    if not isinstance(partial, bool):
        yield f"{_join(path, PARTIAL)}: must be true or false, not {partial!r}"
    target = node[TARGET]
    if not isinstance(target, str):
        yield f"{_join(path, TARGET)}: must be a dotted name, not {target!r}"
        return
    try:
        found = _find(target, allow)
    except _Refused as refusal:
        yield f"{_join(path, TARGET)}: {refusal}"
        return
    given = {key: node[key] for key in arguments if isinstance(key, str) and key not in special}
    yield from _problems_of_arguments(found, target, given, bool(partial), path)


def _problems_of_arguments(
    found: Callable[..., Any], target: str, given: dict[str, Config], partial: bool, path: str
) -> Iterator[str]:
    try:
        parameters = inspect.signature(found).parameters.values()
    except (
        ValueError,
        TypeError,
    ):  # some compiled classes have no signature; their own error comes when they are made
        return
    named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    if not any(p.kind is p.VAR_KEYWORD for p in parameters):
        known = [p.name for p in named]
        for key in given:
            if key not in known:
                hint = nearest(key, known) or f"; it takes {', '.join(known) or 'none'}"
                yield f"{_join(path, key)}: {target} has no argument '{key}'{hint}"
    for p in named:
        if p.name in given and (wanted := mismatch(given[p.name], p.annotation)) is not None:
            yield f"{_join(path, p.name)}: {target} takes {wanted} for '{p.name}', not {given[p.name]!r}"
    if not partial:
        for p in named:
            if p.default is p.empty and p.name not in given:
                yield f"{_join(path, p.name)}: {target} needs the argument '{p.name}'"
        for p in parameters:
            if p.kind is p.POSITIONAL_ONLY and p.default is p.empty:
                yield f"{_join(path, p.name)}: {target} takes '{p.name}' by position only: not by name"


def _make(node: Config, allow: Allow, path: str) -> Any:
    if isinstance(node, list | tuple):
        return [_make(value, allow, f"{path}[{index}]") for index, value in enumerate(node)]
    if not isinstance(node, dict):
        return node
    made = {key: _make(node[key], allow, _join(path, key)) for key in node if key not in (TARGET, PARTIAL)}
    if TARGET not in node:
        return made
    target = find(node[TARGET], allow)
    if node.get(PARTIAL, False):
        return functools.partial(target, **made)
    try:
        return target(**made)
    except (TypeError, ValueError, ImportError) as error:
        raise BuildError(f"{path or 'the configuration'}: {node[TARGET]} refuses this: {error}") from error
    except Exception as error:
        error.add_note(f"while building {path or 'the configuration'} ({node[TARGET]})")
        raise


def _find(target: str, allow: Allow) -> Callable[..., Any]:
    parts = target.split(".")
    if len(parts) < 2 or not all(part.isidentifier() for part in parts):
        raise _Refused(f"'{target}' is not a dotted name such as 'framework.schedules.Cosine'")
    if any(part.startswith("_") for part in parts):
        raise _Refused(f"'{target}' is private; only public classes and functions may be named")
    if not allow.permits(target):
        raise _Refused(_not_allowed(target, allow))
    found = _resolve(target, parts, allow)
    if isinstance(found, ModuleType):
        raise _Refused(f"'{target}' is a module{nearest(parts[-1], _public(found))}; name a class or function in it")
    if not (inspect.isclass(found) or inspect.isfunction(found)):
        raise _Refused(f"'{target}' is {type(found).__name__}, not a class or a function")
    real = f"{found.__module__}.{found.__qualname__}"
    if "<" in real or not allow.permits_object(real, found):
        kind = "class" if inspect.isclass(found) else "function"
        raise _Refused(f"'{target}' is the {kind} '{real}', which is not allowed here")
    return found


def _resolve(target: str, parts: list[str], allow: Allow) -> Any:
    """Walk from the top-level package to the object, importing on the way, never leaving what is allowed."""
    found: Any = _import(parts[0], target)
    for depth, part in enumerate(parts[1:], start=1):
        if not isinstance(found, ModuleType):
            raise _Refused(f"'{target}' reaches into '{'.'.join(parts[:depth])}', which is not a module")
        name = ".".join(parts[: depth + 1])
        if not hasattr(found, part) and _has_submodule(found, part):
            found = _import(name, target)
        elif hasattr(found, part):
            found = getattr(found, part)
        else:
            raise _Refused(f"{'.'.join(parts[:depth])} has no '{part}'{nearest(part, _public(found))}")
        if isinstance(found, ModuleType) and not _on_the_way(found.__name__, allow):
            raise _Refused(f"'{name}' is the module '{found.__name__}', which is not allowed here")
    return found


def _on_the_way(module: str, allow: Allow) -> bool:
    """Whether a module is allowed, or a parent of an allowed package (`torch` on the way to `torch.nn`)."""
    known = (*allow.packages, *allow.libraries, *allow.plugins())
    return allow.permits(module) or any(package.startswith(module + ".") for package in known)


def _has_submodule(module: ModuleType, name: str) -> bool:
    return hasattr(module, "__path__") and importlib.util.find_spec(f"{module.__name__}.{name}") is not None


def _import(name: str, target: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        raise _Refused(f"'{target}' cannot be imported: {type(error).__name__}: {error}") from error


def _public(module: ModuleType) -> list[str]:
    """Names that one may have meant in `module`: public attributes, and submodules not imported yet."""
    inside = [info.name for info in pkgutil.iter_modules(getattr(module, "__path__", None) or [])]
    return [name for name in {*dir(module), *inside} if not name.startswith("_")]


def _not_allowed(target: str, allow: Allow) -> str:
    closed = sorted(allow.rooms.intersection(target.split(".")))
    if closed and _inside(target, (*allow.packages, *allow.plugins())):
        return f"'{target}' is not allowed here: '{closed[0]}' is closed to configurations"
    packages = (*allow.packages, *allow.plugins(), *allow.libraries)
    return f"'{target}' is not allowed here; allowed are names inside {', '.join(dict.fromkeys(packages))}"


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key
