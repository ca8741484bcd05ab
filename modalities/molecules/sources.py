"""Molecules at a path: an SDF, MOL, XYZ or SMILES file, or a folder of these.

    .sdf .sdf.gz .mol    bonds, charges and positions as they are; hydrogens must be atoms
    .xyz                 one frame or many; bonds are found from the positions, for a net charge of 0
    .smi .csv .txt       SMILES (in a column `smiles` of a .csv); conformers are made with ETKDG and MMFF94

Numbers that the file gives are properties: SD tags, columns, "gap=5.5" in a comment of XYZ. GEOM-Drugs is published as
pickles, which are not read, since a pickle runs code; write its conformers into an SDF file. What cannot be used is
named with its reason (`checks`), and what was read is kept by the files' hashes, so that a second run needs a second.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from rdkit import Chem
from rich.progress import track

from framework.data.bad_items import BadItem
from framework.errors import DataError, UserError
from framework.files import sha256
from modalities.molecules.arrays import MoleculeArrays
from modalities.molecules.cache import Found, load_or_make
from modalities.molecules.checks import atomic_numbers, checked
from modalities.molecules.conformers import Outcome, embed_all
from modalities.molecules.readers import SUFFIXES, Record, read_records, suffix

MISSING = frozenset(["", "na", "n/a", "nan", "none", "null", "-", "."])


def load_path(
    path: str | Path,
    elements: Sequence[str] | None = None,
    net_charge: int | None = None,
    properties: Sequence[str] | None = None,
    folder: Path | None = None,
) -> Found:
    """The molecules of a file or a folder, from the cache if the same files were read before.

    Args:
        path: see the module.
        elements: those that may occur, as ["H", "C"]; molecules with others are bad. None: all.
        net_charge: the sum of the formal charges of each molecule; those with another are bad. None: any.
        properties: those to keep; None: all that are numbers wherever they are given.
        folder: of the cache; None: the usual.

    Raises:
        DataError: there is nothing at the path.
        UserError: a property or an element that is asked for does not exist.
    """
    path = Path(path)
    allowed = atomic_numbers(elements)
    files = molecule_files(path)
    depends_on = {
        "files": {name: sha256(file) for name, file in files.items()},
        "elements": None if allowed is None else sorted(allowed),
        "net_charge": net_charge,
    }
    stem = re.sub(r"\W+", "_", path.resolve().name)[:40]
    found = load_or_make(stem, depends_on, lambda: read_files(files, allowed, net_charge), folder)
    return found._replace(molecules=with_properties(found.molecules, properties, str(path)))


def molecule_files(path: Path) -> dict[str, Path]:
    """The files of molecules at a path, by the names that their molecules are given."""
    if not path.exists():
        raise DataError(
            f"data.path={path} does not exist; give a file of molecules ({' '.join(SUFFIXES)}) or a folder of them"
        )
    if path.is_file():
        if suffix(path) not in SUFFIXES:
            raise DataError(f"data.path={path} is no file of molecules: it should end in {' '.join(SUFFIXES)} (or .gz)")
        return {path.name: path}
    files = sorted(file for file in path.rglob("*") if suffix(file) in SUFFIXES and not file.name.startswith("."))
    if not files:
        raise DataError(f"data.path={path} holds no files of molecules ({' '.join(SUFFIXES)})")
    return {file.relative_to(path).as_posix(): file for file in files if file.is_file()}


def read_files(files: Mapping[str, Path], elements: Collection[int] | None, net_charge: int | None) -> Found:
    """All molecules of files, read and checked, with the numbers that are given of them."""
    names: list[str] = []
    values: list[Mapping[str, str]] = []
    outcomes: list[Outcome] = []
    texts: dict[int, str] = {}  # SMILES whose conformers are made together, afterwards
    steps = track(_records(files), description="reading molecules", transient=True, disable=not sys.stderr.isatty())
    for row, record in enumerate(steps):
        names.append(record.name)
        values.append(record.values)
        if isinstance(record.mol, str):
            texts[row] = record.mol
        outcomes.append(_outcome(record.mol, elements, net_charge))
    for row, outcome in zip(texts, embed_all(list(texts.values()), elements, net_charge), strict=True):
        outcomes[row] = outcome
    bad = [BadItem(names[row], str(o)) for row, o in enumerate(outcomes) if isinstance(o, DataError)]
    good = [(row, o) for row, o in enumerate(outcomes) if not isinstance(o, DataError)]
    columns = numbers([values[row] for row, _ in good])
    molecules = [
        replace(molecule, properties={name: column[k] for name, column in columns.items()})
        for k, (_, (molecule, _)) in enumerate(good)
    ]
    return Found(MoleculeArrays.pack(molecules, [smiles for _, (_, smiles) in good], tuple(columns)), tuple(bad))


def _records(files: Mapping[str, Path]) -> Iterator[Record]:
    for name, file in files.items():
        yield from read_records(file, name)


def _outcome(mol: Chem.Mol | str | DataError, elements: Collection[int] | None, net_charge: int | None) -> Outcome:
    if isinstance(mol, DataError):
        return mol
    if isinstance(mol, str):
        return DataError("its conformer is still to be made")
    try:
        return checked(mol, elements, net_charge)
    except DataError as error:
        return error


def numbers(rows: Sequence[Mapping[str, str]]) -> dict[str, list[float]]:
    """The columns of which all that is given are numbers, by names that fit into a prompt; NaN: nothing is given."""
    found = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        try:
            values = [number(row.get(name, "")) for row in rows]
        except ValueError:
            continue
        word = re.sub(r"\W+", "_", name).strip("_")
        if word and not all(math.isnan(value) for value in values):
            found[word] = values
    return found


def number(text: str) -> float:
    """A number, also as "1.2*^-5"; NaN for what says that there is none. Raises ValueError for other text."""
    text = text.strip()
    if text.lower() in MISSING:
        return math.nan
    value = float(text.replace("*^", "e"))
    if math.isinf(value):
        raise ValueError(f"{text} is not finite")
    return value


def with_properties(molecules: MoleculeArrays, names: Sequence[str] | None, origin: str) -> MoleculeArrays:
    """The same molecules with these properties only.

    Raises:
        UserError: there is no such property.
    """
    if names is None:
        return molecules
    if missing := [name for name in names if name not in molecules.names]:
        has = ", ".join(molecules.names) or "none"
        raise UserError(f"data.properties: {origin} has no numbers {', '.join(missing)}; it has {has}")
    columns = [molecules.names.index(name) for name in names]
    return replace(molecules, names=tuple(names), properties=molecules.properties[:, columns])
