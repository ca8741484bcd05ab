r"""What a person types, made safe for Hydra's grammar of overrides.

In that grammar commas sweep, parentheses call functions, quotes must be closed and `=` may not stand in a
value, so a prompt such as  it's a red circle, left of (a) square  is a syntax error or, worse, a sweep over
two prompts. Here the values of keys that hold a person's words or paths are quoted as one string where they
are not quoted yet:

    prompt=a red circle, and it's big   ->  prompt='a red circle, and it\'s big'
    run=outputs/lr=0.1                  ->  run='outputs/lr=0.1'

Left as they are: `null`; a value quoted by hand ('a, b'); a list ([a, b]) or a sweep of quoted values
('a','b').
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, QuotedString, Sweep
from hydra.errors import HydraException

TEXT_KEYS = ("prompt", "negative", "task.keep", "task.redo", "task.seen", "task.source", "task.to", "watermark")
PATH_KEYS = (
    "run",
    "resume",
    "out",
    "prompts_file",
    "data.path",
    "from",
    "task.input",
    "task.reference",
    "task.classifier",
    "autoencoder.run",
    "autoencoder.pretrained",
)
EMPTY_VALUES = ("", "null", "???")
SEVERAL = {"certify": ("solver", "schedule", "grid")}  # what a command takes many of, or `all`, where others choose one


def readable(arguments: Sequence[str]) -> list[str]:
    """The command line with the values of text and path keys quoted where the grammar would misread them."""
    parser = OverridesParser.create()
    return [_readable(argument, parser) for argument in arguments]


def quoted(text: str) -> str:
    """`text` as one quoted string of Hydra's grammar, interpolation switched off."""
    # A backslash counts only before what it can escape: `${` when it is read, a quote when it is parsed.
    literal = re.sub(r"(\\*)\$\{", lambda run: run[1] * 2 + "\\${", text)
    escaped = re.sub(r"(\\*)('|$)", lambda run: run[1] * 2 + ("\\'" if run[2] else ""), literal)
    return f"'{escaped}'"


def several(argument: str, command: str) -> str:
    """`solver=a,b` as `solvers=['a','b']` where a command takes many: neither a sweep nor a choice of a group."""
    key, separator, value = argument.partition("=")
    if not separator or key not in SEVERAL.get(command, ()) or value.startswith("{") or value in EMPTY_VALUES:
        return argument
    names = value.removeprefix("[").removesuffix("]").split(",")
    return f"{key}s=[{','.join(quoted(name.strip()) for name in names)}]"


def _readable(argument: str, parser: OverridesParser) -> str:
    key, separator, value = argument.partition("=")
    name = key.lstrip("+")
    if not separator or value in EMPTY_VALUES or name not in (*TEXT_KEYS, *PATH_KEYS):
        return argument
    try:
        meaning = parser.parse_override(argument)._value
    except HydraException:
        return f"{key}={quoted(value)}"
    return argument if name in PATH_KEYS or _written_for_hydra(meaning) else f"{key}={quoted(value)}"


def _written_for_hydra(meaning: object) -> bool:
    """Whether a parsed value shows a writer who knows the grammar: quotes, a list, a sweep over quotes."""
    if isinstance(meaning, ChoiceSweep):
        return all(_written_for_hydra(choice) for choice in meaning.list)
    return isinstance(meaning, QuotedString | list | Sweep)
