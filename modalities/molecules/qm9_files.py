"""The raw files of QM9: where they are, how they are downloaded, and what stands in each (see `qm9`)."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

from rdkit import Chem, rdBase

from framework.errors import DataError
from modalities.molecules.sources import number

SDF, TABLE, UNCHARACTERISED, SMILES = "gdb9.sdf", "gdb9.sdf.csv", "uncharacterized.txt", "qm9.csv"
HARTREE, KCAL_PER_MOL = 27.211386245988, 0.0433641153  # eV
UNITS: Mapping[str, float] = {
    **dict.fromkeys(("homo", "lumo", "gap", "zpve", "u0", "u298", "h298", "g298"), HARTREE),
    **dict.fromkeys(("u0_atom", "u298_atom", "h298_atom", "g298_atom"), KCAL_PER_MOL),
}


def find_raw(path: Path, download: bool) -> Path:
    """The folder of the raw files: `path`, `path`/raw, or where the download puts them.

    Raises:
        DataError: they are not there and may not or cannot be downloaded; it says which file goes where.
    """
    for folder in (path, path / "raw"):
        if all((folder / name).is_file() for name in (SDF, TABLE, UNCHARACTERISED)):
            return folder
    advice = (
        f"put {SDF} and {TABLE} (of deepchemdata.s3-us-west-1.amazonaws.com/datasets/molnet_publish/qm9.zip) and "
        f"{UNCHARACTERISED} (of ndownloader.figshare.com/files/3195404, renamed) into {path / 'raw'}"
    )
    if not download:
        raise DataError(f"data.path={path} does not hold QM9: {advice}, or set data.download=true")
    try:
        fetch(path)
    except Exception as error:  # whatever the network, the archive and the disk raise: the answer is the same
        raise DataError(f"cannot download QM9 ({type(error).__name__}: {error}); {advice}") from error
    return find_raw(path, download=False)


def fetch(path: Path) -> None:
    """Download the raw files (86 MB packed) into `path`/raw, as torch_geometric has them; it need not process them."""
    from torch_geometric.datasets import QM9  # type: ignore[import-untyped]

    raw = QM9.__new__(QM9)
    raw.root = str(path)
    Path(raw.raw_dir).mkdir(parents=True, exist_ok=True)
    raw.download()


def read_properties(path: Path) -> dict[str, dict[str, float]]:
    """The rows of gdb9.sdf.csv by `mol_id`, with energies in eV.

    Raises:
        DataError: it has no such column, or something that is no number.
    """
    with path.open(newline="", encoding="utf-8-sig") as lines:
        rows = list(csv.DictReader(lines))
    if not rows or "mol_id" not in rows[0]:
        raise DataError(f"{path} should be a table with a column mol_id")
    try:
        return {
            row.pop("mol_id"): {name: number(value or "") * UNITS.get(name, 1.0) for name, value in row.items()}
            for row in rows
        }
    except (ValueError, AttributeError, TypeError) as error:
        raise DataError(f"{path}: {error}") from error


def read_uncharacterised(path: Path) -> frozenset[int]:
    """The numbers, from 1, that begin a line of uncharacterized.txt; its heading and its end have none."""
    words = (line.split() for line in path.read_text(encoding="utf-8", errors="replace").splitlines())
    return frozenset(int(line[0]) for line in words if line and line[0].isdecimal())


def read_smiles(path: Path) -> dict[str, str]:
    """Canonical SMILES by `mol_id` of MoleculeNet's qm9.csv; {} where the file is not there."""
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8-sig") as lines, rdBase.BlockLogs():
        rows = csv.DictReader(lines)
        if not {"mol_id", "smiles"} <= set(rows.fieldnames or ()):
            raise DataError(f"{path} should have columns mol_id and smiles")
        mols = {row["mol_id"]: Chem.MolFromSmiles(row["smiles"] or "") for row in rows}
    return {name: Chem.MolToSmiles(mol, isomericSmiles=False) for name, mol in mols.items() if mol is not None}


def assert_count(found: int, wanted: int | None, what: str, of: str) -> None:
    """Raise DataError where a file has another number of something than QM9 has."""
    if wanted is not None and found != wanted:
        raise DataError(
            f"{what} {found} {of} where QM9 has {wanted}; the file is damaged or another version: get it anew"
        )
