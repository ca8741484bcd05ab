"""What a person says of a molecule: how many atoms, properties, a structure, a part of one.

    "n_atoms=18 gap=5.5"          sizes and properties
    "smiles=CCO"                  the conformers of a structure: its atoms and bonds are given
    "scaffold=file.sdf"           the atoms of a file stay as and where they are, and the rest is made
    "fragments=file.sdf"          the same word for several parts that are to be linked

A prompt may also be a mapping with these keys. What it leaves open is drawn as the data has it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from framework.errors import PromptError

KEYS = ("n_atoms", "smiles", "scaffold", "fragments")


@dataclass(frozen=True)
class Wish:
    """A prompt that has been read.

    Attributes:
        n_atoms: hydrogens included; None is open.
        properties: numbers by name; what is missing is open.
        smiles: a structure whose conformers are asked for.
        scaffold: the path of a file whose atoms are kept.
    """

    n_atoms: int | None = None
    properties: Mapping[str, float] = field(default_factory=dict)
    smiles: str | None = None
    scaffold: str | None = None

    def sized(self, n_atoms: int) -> Wish:
        """The same of so many atoms."""
        return replace(self, n_atoms=n_atoms)

    def __str__(self) -> str:
        words = [] if self.n_atoms is None else [f"n_atoms={self.n_atoms}"]
        words += [f"{name}={value:g}" for name, value in self.properties.items()]
        words += [] if self.smiles is None else [f"smiles={self.smiles}"]
        words += [] if self.scaffold is None else [f"scaffold={Path(self.scaffold).name}"]
        return " ".join(words)


def read_prompt(prompt: Any, properties: Sequence[str]) -> Wish:
    """The wish of a prompt for a model that knows such properties.

    Raises:
        PromptError: a word that is not key=value, a key that is not known (the nearest is named), no number where one
            belongs, or wishes that exclude each other.
    """
    if isinstance(prompt, Wish):
        return prompt
    if prompt is None:
        return Wish()
    said = {_full_name(key, properties): value for key, value in _said(prompt).items()}
    known = [*KEYS, *properties]
    if unknown := [key for key in said if key not in known]:
        nearest = get_close_matches(unknown[0], known, n=1, cutoff=0.0)[0]
        raise PromptError(
            f"the prompt {prompt!r} says {unknown[0]!r}; did you mean {nearest!r}? This model knows {', '.join(known)}"
        )
    if "scaffold" in said and "fragments" in said:
        raise PromptError(f"the prompt {prompt!r} has a scaffold and fragments; put all that is kept into one file")
    scaffold = said.get("scaffold", said.get("fragments"))
    if said.get("smiles") is not None and scaffold is not None:
        raise PromptError(f"the prompt {prompt!r} has a structure and a part of one; give one of them")
    if scaffold is not None and not Path(str(scaffold)).is_file():
        raise PromptError(f"the prompt {prompt!r} names the file {scaffold!r}, which is not there")
    size = said.get("n_atoms")
    n_atoms = None if size is None else _number("n_atoms", size)
    if n_atoms is not None and (n_atoms < 1 or n_atoms != int(n_atoms)):
        raise PromptError(f"n_atoms is a whole number of at least 1, not {size}")
    return Wish(
        None if n_atoms is None else int(n_atoms),
        {name: _number(name, said[name]) for name in properties if name in said},
        None if said.get("smiles") is None else str(said["smiles"]),
        None if scaffold is None else str(scaffold),
    )


def _said(prompt: Any) -> dict[str, Any]:
    if isinstance(prompt, Mapping):
        return dict(prompt)
    if not isinstance(prompt, str):
        raise PromptError(f"the prompt {prompt!r} is no text; say key=value, as in: n_atoms=18")
    words = [word.partition("=") for word in re.split(r"\s+", prompt.strip()) if word]
    if unclear := [word[0] for word in words if not word[1] or not word[2]]:
        raise PromptError(f"the prompt {prompt!r} has {unclear[0]!r} where key=value belongs, as in: n_atoms=18")
    return {key: value for key, _, value in words}


def _full_name(key: str, properties: Sequence[str]) -> str:
    """A property that is said without its unit by its full name: gap is gap_eV, if nothing else is."""
    found = [name for name in properties if name.startswith(f"{key}_")]
    return found[0] if key not in properties and len(found) == 1 else key


def _number(name: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise PromptError(f"{name}={value} is no number") from error
