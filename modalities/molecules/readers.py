"""Files of molecules record by record: SDF and MOL, XYZ, and lists of SMILES.

A reader yields a `Record` for each molecule that the file names, also for those that cannot be read: its `mol` is then
the DataError. Nothing is unpickled. No record that is broken ends the reading of the others.
"""

from __future__ import annotations

import csv
import gzip
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from rdkit import Chem, rdBase
from rdkit.Chem import rdDetermineBonds

from framework.errors import DataError

SDF, XYZ, SMILES = (".sdf", ".sd", ".mol"), (".xyz",), (".smi", ".smiles", ".csv", ".txt")
SUFFIXES = (*SDF, *XYZ, *SMILES)
_TAG = re.compile(r">.*<(?P<name>.+)>")
_PAIR = re.compile(r"(?P<name>[A-Za-z_]\w*)=(?P<value>\S+)")


@dataclass(frozen=True)
class Record:
    """One molecule of a file.

    Attributes:
        name: where it is ("set.sdf#12"), with its title if it has one.
        mol: with a conformer and not sanitised; or SMILES, which has none; or why there is neither.
        values: what else the file says of it, as text.
    """

    name: str
    mol: Chem.Mol | str | DataError
    values: Mapping[str, str] = field(default_factory=dict)


def suffix(path: Path) -> str:
    """The ending that says what a file holds: ".sdf" for "a.SDF.gz"."""
    return Path(path.stem if path.suffix.lower() == ".gz" else path.name).suffix.lower()


def read_records(path: Path, name: str) -> Iterator[Record]:
    """The records of a file, which is called `name` in theirs."""
    kind = suffix(path)
    if kind in SDF:
        return _numbered(_read_sdf(path), name)
    if kind in XYZ:
        return _numbered(_read_xyz(path), name)
    return _numbered(_read_table(path) if kind == ".csv" else _read_smiles(path), name)


def _numbered(records: Iterator[Record], name: str) -> Iterator[Record]:
    for count, record in enumerate(records, start=1):
        yield Record(f"{name}#{count}" + (f" {record.name}" if record.name else ""), record.mol, record.values)


def lines_of(path: Path) -> Iterator[str]:
    """The lines of a file that may be compressed (.gz), without their ends.

    Raises:
        DataError: it cannot be read to its end.
    """
    try:
        with (gzip.open if path.suffix.lower() == ".gz" else open)(
            path, "rt", encoding="utf-8", errors="replace"
        ) as file:
            for line in file:
                yield line.rstrip("\r\n")
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"the file ends or breaks here: {error}") from error


def sdf_blocks(path: Path) -> Iterator[list[str]]:
    """The lines of each record of an SDF file; raises DataError after the last whole one if the file is cut off."""
    block: list[str] = []
    for line in lines_of(path):
        if line.startswith("$$$$"):
            yield block
            block = []
        else:
            block.append(line)
    if any(line.strip() for line in block):
        yield block


def parse_block(block: list[str]) -> Record:
    """One record of an SDF file: its mol block and its tags."""
    end = next((k for k, line in enumerate(block) if line.startswith("M  END")), len(block) - 1)
    values: dict[str, str] = {}
    tag: str | None = None
    for line in block[end + 1 :]:
        if (match := _TAG.match(line)) is not None:
            tag = match["name"]
        elif tag is not None and line.strip():
            values.setdefault(tag, line.strip())
    with rdBase.BlockLogs():
        mol = Chem.MolFromMolBlock("\n".join(block[: end + 1]) + "\n", sanitize=False, removeHs=False)
    title = block[0].strip() if block else ""
    return Record(title, DataError("RDKit cannot read its mol block") if mol is None else mol, values)


def _read_sdf(path: Path) -> Iterator[Record]:
    try:
        for block in sdf_blocks(path):
            yield parse_block(block)
    except DataError as error:
        yield Record("", error)


def _read_xyz(path: Path) -> Iterator[Record]:
    """Frames: the number of atoms, a comment, an atom a line; bonds are found from the distances, for no net charge.

    A comment's "name=value" are values; any other comment is the name.
    """
    try:
        lines = list(lines_of(path))
    except DataError as error:
        yield Record("", error)
        return
    at = 0
    while at < len(lines):
        if not lines[at].strip():
            at += 1
            continue
        count = lines[at].strip()
        if not count.isdecimal() or at + 2 + int(count) > len(lines):
            yield Record("", DataError(f"line {at + 1} should be a number of atoms that follow, and is {count[:40]!r}"))
            return
        comment, frame = lines[at + 1].strip(), lines[at : at + 2 + int(count)]
        at += len(frame)
        values = {match["name"]: match["value"].strip("\"'") for match in _PAIR.finditer(comment)}
        yield Record("" if values else comment[:80], perceived("\n".join(frame) + "\n"), values)


def perceived(xyz: str) -> Chem.Mol | DataError:
    """A neutral molecule whose bonds are found from its positions (Kim, Kim 2015), or why there is none."""
    with rdBase.BlockLogs():
        try:
            mol = Chem.MolFromXYZBlock(xyz)
            if mol is None:
                return DataError("RDKit cannot read its frame")
            rdDetermineBonds.DetermineBonds(mol, charge=0)
        except (ValueError, RuntimeError) as error:
            return DataError(f"its bonds cannot be found from its positions: {str(error).strip().splitlines()[0]}")
    return mol


def xyz_block(elements: list[str], positions: np.ndarray) -> str:
    """A frame of XYZ."""
    rows = [f"{e} {x:.6f} {y:.6f} {z:.6f}" for e, (x, y, z) in zip(elements, positions.tolist(), strict=True)]
    return "\n".join([str(len(rows)), "", *rows]) + "\n"


def _read_smiles(path: Path) -> Iterator[Record]:
    """A SMILES a line, and perhaps a name after it; lines that begin with # and a heading "smiles" are left out."""
    try:
        for line in lines_of(path):
            text, _, title = line.strip().replace("\t", " ").partition(" ")
            if text and not text.startswith("#") and text.lower() != "smiles":
                yield Record(title.strip()[:80] or text, text)
    except DataError as error:
        yield Record("", error)


def _read_table(path: Path) -> Iterator[Record]:
    """A table with a column `smiles`; raises DataError if there is none."""
    rows = csv.DictReader(lines_of(path))
    names = [name.lstrip("\ufeff") for name in rows.fieldnames or ()]
    column = next((name for name in names if name.strip().lower() == "smiles"), None)
    if column is None:
        raise DataError(f"{path} has no column smiles; its columns are {', '.join(names) or 'none'}")
    for row in rows:
        values = {key.lstrip("\ufeff"): (value or "").strip() for key, value in row.items() if isinstance(key, str)}
        text = values.pop(column, "")
        yield Record(text, text or DataError("it names no SMILES"), values)
