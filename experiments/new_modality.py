"""`diffract new-modality NAME`: write a package for a kind of data of one's own, which works as it is written.

The template beside this file is a package too, of a modality called my_modality; here it gets its own name. No
configuration is composed: Hydra has no part in it.
"""

from __future__ import annotations

import importlib.util
import keyword
import os
import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from experiments.errors import ConfigurationError
from framework.plugins import config_packages, modalities

TEMPLATE = Path(__file__).parent / "template"
SHORT = 40  # letters of a name; longer ones make lines that are too long
LEFT_BEHIND = re.compile(r"(^|/)(__pycache__|\.[a-z]+_cache|[^/]*\.egg-info)/")
USAGE = "name the new kind of data, as in: diffract new-modality weather out=folder"


def main(arguments: Sequence[str]) -> None:
    """The command, given what follows its name."""
    settings = {key: value for key, mark, value in (word.partition("=") for word in arguments) if mark}
    names = [word for word in arguments if "=" not in word]
    if len(names) != 1 or set(settings) - {"out"}:
        raise ConfigurationError(f"'{' '.join(arguments)}' is not understood; {USAGE}" if arguments else USAGE)
    folder = create(names[0], settings.get("out") or None)
    print(
        f"wrote {folder}. Next, in that folder:\n\n"
        "  pip install --no-build-isolation --editable .\n"
        f"  diffract check-modality experiment={names[0]}/toy\n"
        f"  diffract train experiment={names[0]}/toy run=outputs/toy\n\n"
        "README.md says what to change, and in which order."
    )


def create(name: str, out: str | Path | None = None) -> Path:
    """Write the package of a modality into a folder that is not there yet; returns the folder.

    Args:
        name: of the modality; the package is `diffract_NAME` and its distribution `diffract-NAME`.
        out: the folder; None is `diffract-NAME` in the current one.

    Raises:
        ConfigurationError: the name will not do, or is taken, or the folder is there.
    """
    if (wrong := unfit(name)) is not None:
        raise ConfigurationError(f"'{name}' cannot be the name of a modality: {wrong}")
    words = {
        "diffract-my-modality": f"diffract-{name.replace('_', '-')}",
        "my_modality": name,
        "MyModality": "".join(part.capitalize() for part in name.split("_")),
    }
    folder = Path(out) if out is not None else Path(words["diffract-my-modality"])
    if folder.exists():
        raise ConfigurationError(
            f"{folder} is there already, and nothing in it is overwritten; choose another: out=..."
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".new-modality-", dir=folder.parent) as place:
        fresh = Path(place) / "package"
        fresh.mkdir()
        for file in sorted(template_files()):
            there = fresh / renamed(file.relative_to(TEMPLATE).as_posix().replace("dot-", "."), words)
            there.parent.mkdir(parents=True, exist_ok=True)
            there.write_text(renamed(file.read_text(encoding="utf-8"), words), encoding="utf-8")
        os.rename(fresh, folder)
    return folder


def template_files() -> list[Path]:
    """The files of the template, without what tools leave behind."""
    files = [file for file in TEMPLATE.rglob("*") if file.is_file()]
    return [file for file in files if not LEFT_BEHIND.search(file.relative_to(TEMPLATE).as_posix())]


def renamed(text: str, words: dict[str, str]) -> str:
    """Text with each of the words in place of the template's."""
    for old, new in words.items():
        text = text.replace(old, new)
    return text


def unfit(name: str) -> str | None:
    """Why a name cannot be that of a new modality; None if it can."""
    if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name):
        return "it is made of small letters, digits and single underscores between them, and begins with a letter"
    if len(name) > SHORT:
        return f"it has {len(name)} letters; {SHORT} are enough"
    if keyword.iskeyword(name) or name == "my_modality":
        return "it has a meaning already"
    if name in modalities() or name in config_packages():
        return f"it is taken, by {(modalities() | config_packages())[name].origin}"
    package = f"diffract_{name}"
    if package in sys.modules or importlib.util.find_spec(package) is not None:
        return f"there is a package {package} already"
    return None
