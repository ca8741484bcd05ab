"""Molecules in files: SDF with everything, extended XYZ with positions, SMILES with graphs; and single ones read.

What is not valid is written like all else, so that nothing of what was generated is lost. Reading adds nothing in
silence: a file that lacks hydrogens, positions or bonds says so.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int
from rdkit import Chem, rdBase
from rdkit.Chem import rdDetermineBonds

from framework.errors import DataError
from framework.files import write_text
from modalities.molecules.conformers import embed
from modalities.molecules.depict import Verdict, symbol, verdict
from modalities.molecules.molecule import Molecule, from_rdkit, to_rdkit

SUFFIXES = (".sdf", ".mol", ".xyz", ".smi")
V2000_REACH, V2000_ATOMS = 9999.0, 999  # Angstrom, atoms and bonds that its columns hold
MOST_WITHOUT_BONDS = 200  # atoms; bonds from distances are a search that grows fast
Rows = Sequence[Mapping[str, str]]


@dataclass(frozen=True, eq=False)
class Fragment:
    """A part of a molecule, exactly as its file has it.

    Attributes:
        molecule: its atoms; valences may be open.
        open_valences: how many bonds each atom lacks, int64 (N,).
    """

    molecule: Molecule
    open_valences: Int[np.ndarray, " n"]

    @property
    def attachments(self) -> tuple[int, ...]:
        """Indices of the atoms that something can be bound to."""
        return tuple(np.flatnonzero(self.open_valences).tolist())


def write_sdf(
    path: str | Path,
    molecules: Sequence[Molecule],
    metadata: Rows | None = None,
    verdicts: Sequence[Verdict] | None = None,
) -> Path:
    """Write molecules with bonds, charges and positions (four digits; six where V2000 is too narrow, as V3000).

    The title is the canonical SMILES, or "invalid"; then the tag `invalid` says why. Properties and the row of
    metadata are tags; a name that both have is the property's, and the other is `metadata.NAME`.
    """
    rows = metadata if metadata is not None else [{}] * len(molecules)
    found = verdicts if verdicts is not None else [verdict(molecule) for molecule in molecules]
    records = [_record(*item) for item in zip(molecules, rows, found, strict=True)]
    write_text(path, "".join(records))
    return Path(path)


def write_xyz(path: str | Path, molecules: Sequence[Molecule], metadata: Rows | None = None) -> Path:
    """Write molecules as frames of extended XYZ, six digits; the total charge and what is known in the comment."""
    rows = metadata if metadata is not None else [{}] * len(molecules)
    lines = []
    for molecule, row in zip(molecules, rows, strict=True):
        known = {"charge": str(int(molecule.charges.sum())), **_tags(molecule, row)}
        words = [f"{re.sub(r'[^A-Za-z0-9_.-]', '_', key)}={_quoted(value)}" for key, value in known.items()]
        lines += [str(len(molecule)), " ".join(["Properties=species:S:1:pos:R:3", *words])]
        for element, position in zip(molecule.elements, molecule.positions, strict=True):
            lines.append(f"{symbol(element) if element else 'X':<2}" + "".join(f" {x:14.6f}" for x in position))
    write_text(path, "".join(f"{line}\n" for line in lines))
    return Path(path)


def write_smiles(path: str | Path, molecules: Sequence[Molecule], verdicts: Sequence[Verdict] | None = None) -> Path:
    """Write canonical SMILES, a tab and the index, a line each; a line of an invalid one is a comment that says why."""
    found = verdicts if verdicts is not None else [verdict(molecule) for molecule in molecules]
    lines = [f"{v.smiles}\t{i}\n" if v.valid else f"# {i} is invalid: {v.words}\n" for i, v in enumerate(found)]
    write_text(path, "".join(lines))
    return Path(path)


def read_molecule(path: str | Path, *, add_hydrogens: bool = False) -> Molecule:
    """The one molecule of an .sdf, .mol, .xyz or .smi file, all of its hydrogens atoms.

    XYZ has no bonds: they are found from distances, for the total charge that its comment says as charge=..., or 0.
    SMILES get positions by ETKDGv3 and MMFF94. Tags that are numbers are properties.

    Arguments:
        add_hydrogens: to add those that an .sdf or .mol file lacks, at places that RDKit finds.

    Raises:
        DataError: there is none or more than one in it, or it is no possible molecule; the message says why.
    """
    path = Path(path)
    with rdBase.BlockLogs():
        try:
            if path.suffix.lower() in (".sdf", ".mol"):
                return _from_sdf(_text(path), add_hydrogens)
            if path.suffix.lower() == ".xyz":
                return _from_places(*_xyz(_text(path)))
            if path.suffix.lower() == ".smi":
                return _from_smiles(_text(path))
        except DataError as error:
            raise DataError(f"{path}: {error}") from error
    raise DataError(f"{path}: a molecule is read from {', '.join(SUFFIXES)}, and not from {path.suffix or 'this'}")


def read_fragment(path: str | Path) -> Fragment:
    """A fragment of an .sdf or .mol file, in which hydrogens may be missing: there something can be bound.

    Dummy atoms (*, R#) mark such places too, and are taken out. All other atoms, bonds, charges and positions are kept
    as they are, in their order. Several pieces, as of a linker's two ends, are one fragment.

    Raises:
        DataError: it cannot be read, has flat positions, an impossible valence, or bonds that cannot be kekulised.
    """
    path = Path(path)
    if path.suffix.lower() not in (".sdf", ".mol"):
        raise DataError(f"{path}: a fragment needs bonds; give it as .sdf or .mol")
    with rdBase.BlockLogs():
        try:
            return _fragment(_one_of_sdf(_text(path)))
        except DataError as error:
            raise DataError(f"{path}: {error}") from error


def _record(molecule: Molecule, row: Mapping[str, str], found: Verdict) -> str:
    """A molecule as text, up to and with $$$$."""
    lost = np.flatnonzero(~np.isfinite(molecule.positions).all(1))
    places = np.where(np.isfinite(molecule.positions), molecule.positions, 0.0)  # no reader knows "nan"
    mol = to_rdkit(Molecule(molecule.elements, molecule.charges, molecule.bonds, places))
    mol.SetProp("_Name", found.smiles if found.valid else "invalid")
    mol.UpdatePropertyCache(strict=False)
    wide = len(molecule) > V2000_ATOMS or mol.GetNumBonds() > V2000_ATOMS or np.abs(places).max(initial=0) > V2000_REACH
    block = (Chem.MolToV3KMolBlock if wide else Chem.MolToMolBlock)(mol, kekulize=False, includeStereo=False)
    tags = _tags(molecule, row) | ({} if found.valid else {"invalid": found.words})
    if len(lost):
        tags["positions_not_finite"] = " ".join(str(i + 1) for i in lost)
    texts = [f">  <{re.sub('[<>]|[^ -~]', '_', key)}>\n{' '.join(value.split())}\n\n" for key, value in tags.items()]
    return "".join([block, *texts, "$$$$\n"])


def _tags(molecule: Molecule, row: Mapping[str, str]) -> dict[str, str]:
    known = {key: repr(float(value)) for key, value in molecule.properties.items()}
    return known | {f"metadata.{key}" if key in known else key: str(value) for key, value in row.items()}


def _quoted(value: str) -> str:
    value = " ".join(value.split())
    if re.fullmatch(r"[A-Za-z0-9_.+:/-]+", value):
        return value
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise DataError(f"it cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise DataError("it is no text") from error


def _one_of_sdf(text: str) -> Chem.Mol:
    """The only record, not sanitised, with 3-D positions."""
    records = [record for record in re.split(r"(?m)^\$\$\$\$.*\n?", text) if record.strip()]
    if len(records) != 1:
        raise DataError(f"it holds {len(records)} molecules; give a file of one")
    supplier = Chem.SDMolSupplier()
    supplier.SetData(records[0], sanitize=False, removeHs=False)
    mol = supplier[0] if len(supplier) else None
    if mol is None:
        raise DataError("it is no SDF or MOL file that RDKit can read")
    if mol.GetNumAtoms() == 0:
        raise DataError("it has no atoms")
    if mol.GetNumAtoms() > 1 and not mol.GetConformer().Is3D() and not mol.GetConformer().GetPositions()[:, 2].any():
        raise DataError("its positions are a flat drawing; give 3-D ones, or the molecule as a .smi file")
    return mol


def _from_sdf(text: str, add_hydrogens: bool) -> Molecule:
    mol = _one_of_sdf(text)
    _sanitise(mol)
    missing = [atom for atom in mol.GetAtoms() if atom.GetTotalNumHs() > 0]
    if missing and not add_hydrogens:
        total = sum(atom.GetTotalNumHs() for atom in missing)
        raise DataError(
            f"it lacks {total} hydrogens (of atom {missing[0].GetIdx() + 1}, {missing[0].GetSymbol()}, the first); "
            "give all of them with positions, or ask for them with add_hydrogens=true"
        )
    if missing:
        mol = Chem.AddHs(mol, addCoords=True)
    properties = {key: _number(mol.GetProp(key)) for key in mol.GetPropNames()}
    return from_rdkit(mol, {key: value for key, value in properties.items() if value is not None})


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _xyz(text: str) -> tuple[list[str], np.ndarray, int]:
    """Elements, positions and the total charge of the only frame."""
    lines = text.rstrip().splitlines()
    if not lines or not lines[0].strip().isdigit():
        raise DataError("line 1 of an XYZ file is the number of atoms")
    count = int(lines[0])
    if len(lines) != count + 2:
        raise DataError(
            f"it says {count} atoms and has {max(len(lines) - 2, 0)} lines of them; give a file of one frame"
        )
    found = re.search(r"\bcharge=\"?([+-]?\d+)", lines[1])
    # Extended XYZ may have other columns; the symbol and the position come first in all that is in use.
    names, places = [], []
    for number, line in enumerate(lines[2:], 3):
        words = line.split()
        values = [_number(word) for word in words[1:4]]
        if len(values) < 3 or None in values:
            raise DataError(f"line {number} is no symbol and three numbers: {line.strip()!r}")
        names.append(words[0])
        places.append(values)
    return names, np.array(places, np.float64).reshape(-1, 3), int(found[1]) if found else 0


def _from_places(names: Sequence[str], places: np.ndarray, charge: int) -> Molecule:
    """Bonds from distances (Kim and Kim's xyz2mol, as RDKit has it)."""
    if not np.isfinite(places).all():
        raise DataError("some positions are not finite")
    if not 0 < len(names) <= MOST_WITHOUT_BONDS:
        raise DataError(f"it has {len(names)} atoms; without bonds, 1 to {MOST_WITHOUT_BONDS} can be read; give an SDF")
    lines = [f"{name} {x:.10f} {y:.10f} {z:.10f}" for name, (x, y, z) in zip(names, places.tolist(), strict=True)]
    mol = Chem.MolFromXYZBlock("\n".join([str(len(names)), "", *lines, ""]))
    if mol is None:
        raise DataError("it has a symbol that is no element")
    try:
        rdDetermineBonds.DetermineBonds(mol, charge=charge, embedChiral=False)
    except (ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise DataError(f"no bonds fit its distances and a charge of {charge} ({reason}); give an SDF") from error
    return from_rdkit(mol)


def _from_smiles(text: str) -> Molecule:
    lines = [line.split()[0] for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if len(lines) != 1:
        raise DataError(f"it holds {len(lines)} molecules; give a file of one")
    try:
        return embed(lines[0])[0]
    except DataError as error:
        raise DataError(f"{lines[0]}: {error}") from error


def _sanitise(mol: Chem.Mol) -> None:
    try:
        Chem.SanitizeMol(mol)
    except Chem.MolSanitizeException as error:
        raise DataError(f"it is no possible molecule: {str(error).strip()}") from error


def _fragment(mol: Chem.Mol) -> Fragment:
    mol = Chem.RWMol(mol)
    try:
        # Before the dummies go: they close the valences that aromatic bonds count on.
        Chem.Kekulize(mol, clearAromaticFlags=True)
    except Chem.KekulizeException as error:
        raise DataError(f"it cannot be kekulised ({error}); give single, double and triple bonds") from error
    dummies = [atom for atom in mol.GetAtoms() if atom.GetAtomicNum() == 0]
    for dummy in dummies:
        if dummy.GetDegree() != 1:
            raise DataError(f"the dummy atom {dummy.GetIdx() + 1} has {dummy.GetDegree()} bonds and should have one")
    for index in sorted((dummy.GetIdx() for dummy in dummies), reverse=True):
        mol.RemoveAtom(index)
    problems = [problem for problem in Chem.DetectChemistryProblems(mol) if problem.GetType() == "AtomValenceException"]
    if problems:
        raise DataError(f"it is no part of a molecule: {problems[0].Message()}")
    mol.UpdatePropertyCache(strict=False)
    Chem.AssignRadicals(mol)
    lacking = [atom.GetTotalNumHs() + atom.GetNumRadicalElectrons() for atom in mol.GetAtoms()]
    for atom in mol.GetAtoms():
        atom.SetNoImplicit(True)
        atom.SetNumExplicitHs(0)
    mol.UpdatePropertyCache(strict=False)
    return Fragment(from_rdkit(mol), np.array(lacking, np.int64))
