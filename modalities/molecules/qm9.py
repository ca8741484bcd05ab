"""QM9 from its raw files, with its known faults repaired or named.

    gdb9.sdf             133,885 molecules of up to 9 atoms of C, N, O, F: DFT geometries (B3LYP/6-31G(2df,p)), bonds
    gdb9.sdf.csv         their properties, in Hartree and kcal/mol
    uncharacterized.txt  the numbers, from 1, of 3,054 whose relaxed geometry is another molecule
    qm9.csv              (optional, MoleculeNet's) the SMILES that each molecule should have

The bonds of gdb9.sdf were guessed from distances, and some are wrong: carbons with five, nitrogens without a charge, or
none where there should be. So with `strict`

    1. the uncharacterised are dropped (3,054, which is asserted, as the 133,885 are);
    2. a molecule whose bonds do not make a neutral, whole, closed-shell molecule without implicit hydrogens and with
       bonds of usual lengths, or contradict its SMILES, gets the bonds that follow from its positions;
    3. if those do not pass either, it is dropped and named with the reason.

Without `strict` all 130,831 of step 1 stay with the bonds that the file has, and are split as in EDM: a permutation by
numpy's seed 0, 100,000 to train on, 17,748 to validate and 13,083 to judge on.

Energies become eV. Numbers written as "1.2*^-5" are read. torch_geometric downloads the files.

Ramakrishnan et al.: Quantum chemistry structures and properties of 134 kilo molecules, Sci. Data 2014.
Hoogeboom et al.: Equivariant diffusion for molecule generation in 3D (EDM), arXiv:2203.17003.
"""

from __future__ import annotations

import logging
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from rdkit import Chem
from rich.progress import track
from torch.utils.data import Dataset

from framework.data.bad_items import BadItem, check_share
from framework.data.parts import Part
from framework.errors import DataError
from framework.files import sha256
from framework.metrics.feature_net import cache_folder
from modalities.molecules.arrays import MoleculeArrays
from modalities.molecules.cache import Found, load_or_make
from modalities.molecules.checks import checked
from modalities.molecules.data import MoleculeData
from modalities.molecules.molecule import Molecule
from modalities.molecules.molecule_set import Item
from modalities.molecules.qm9_files import (
    SDF,
    SMILES,
    TABLE,
    UNCHARACTERISED,
    assert_count,
    find_raw,
    read_properties,
    read_smiles,
    read_uncharacterised,
)
from modalities.molecules.readers import parse_block, perceived, sdf_blocks, xyz_block
from modalities.molecules.sources import with_properties

MOLECULES, EXCLUDED = 133_885, 3_054
EDM_SEED, EDM_TRAIN, EDM_TEST_SHARE = 0, 100_000, 0.1
DROPPED = "uncharacterised: its relaxed geometry is another molecule"
logger = logging.getLogger(__name__)


def load_qm9(
    path: Path,
    strict: bool = True,
    download: bool = True,
    properties: Sequence[str] | None = None,
    molecules: int | None = MOLECULES,
    excluded: int | None = EXCLUDED,
    folder: Path | None = None,
) -> Found:
    """QM9 from its raw files, or from the cache if the same files were read before.

    Args:
        path: the folder of the raw files, or where they are to be downloaded to.
        strict, download: see the module.
        properties: the columns to keep; None: all.
        molecules, excluded: how many molecules and uncharacterised ones the files have to have; None: any.
        folder: of the cache; None: the usual.

    Raises:
        DataError: the files are missing, damaged, or have other numbers of molecules.
    """
    raw = find_raw(path, download)
    present = [name for name in (SDF, TABLE, UNCHARACTERISED, SMILES) if (raw / name).is_file()]
    depends_on = {
        "files": {name: sha256(raw / name) for name in present},
        "strict": strict,
        "counts": [molecules, excluded],
    }
    name = "qm9-strict" if strict else "qm9-edm"
    found = load_or_make(name, depends_on, lambda: read_qm9(raw, strict, molecules, excluded), folder)
    return found._replace(molecules=with_properties(found.molecules, properties, "QM9"))


def read_qm9(raw: Path, strict: bool, molecules: int | None = MOLECULES, excluded: int | None = EXCLUDED) -> Found:
    """Read the raw files; see `load_qm9`."""
    table = read_properties(raw / TABLE)
    skipped = read_uncharacterised(raw / UNCHARACTERISED)
    assert_count(len(skipped), excluded, f"{raw / UNCHARACTERISED} names", "uncharacterised molecules")
    smiles = read_smiles(raw / SMILES)
    good: list[Molecule] = []
    names: list[str] = []
    bad: list[BadItem] = []
    repaired, count = 0, 0
    blocks = track(
        sdf_blocks(raw / SDF), "reading QM9", total=molecules, transient=True, disable=not sys.stderr.isatty()
    )
    for count, block in enumerate(blocks, start=1):
        record = parse_block(block)
        if count in skipped:
            bad.append(BadItem(record.name, DROPPED))
            continue
        try:
            if not isinstance(record.mol, Chem.Mol):
                raise DataError(str(record.mol))
            if record.name not in table:
                raise DataError(f"{TABLE} has no row for it")
            if strict:
                molecule, name, mended = _strict(record.mol, smiles.get(record.name))
                repaired += mended
            else:
                molecule, name = _as_it_is(record.mol)
        except DataError as error:
            bad.append(BadItem(record.name, str(error)))
            continue
        good.append(replace(molecule, properties=table[record.name]))
        names.append(name)
    assert_count(count, molecules, f"{raw / SDF} holds", "molecules")
    assert_count(len(table), molecules, f"{raw / TABLE} has", "rows")
    reasons = Counter(item.reason.partition(":")[0] for item in bad)
    logger.info("QM9: %d kept, %d of them with bonds from their positions; dropped: %s", len(good), repaired, reasons)
    columns = tuple(dict.fromkeys(name for row in table.values() for name in row))
    return Found(MoleculeArrays.pack(good, names, columns), tuple(bad))


def _strict(mol: Chem.Mol, smiles: str | None) -> tuple[Molecule, str, bool]:
    """The molecule with bonds that can be believed, its SMILES, and whether they are not those of the file."""
    try:
        return *_agreeing(mol, smiles), False
    except DataError as error:
        elements = [atom.GetSymbol() for atom in mol.GetAtoms()]
        found = perceived(xyz_block(elements, mol.GetConformer().GetPositions()))
        if isinstance(found, DataError):
            raise DataError(f"{error}; {found}") from found
        try:
            return *_agreeing(found, smiles), True
        except DataError as second:
            raise DataError(f"{error}; with bonds from its positions {second}") from second


def _agreeing(mol: Chem.Mol, smiles: str | None) -> tuple[Molecule, str]:
    molecule, name = checked(mol, net_charge=0)
    if smiles is not None and name != smiles:
        raise DataError(f"its bonds are those of {name}, and its SMILES is {smiles}")
    return molecule, name


def _as_it_is(mol: Chem.Mol) -> tuple[Molecule, str]:
    """Bonds and charges as the file has them, right or wrong; the SMILES is "" where RDKit refuses them."""
    try:
        return checked(mol)
    except DataError:
        n = mol.GetNumAtoms()
        bonds = np.zeros((n, n), np.int64)
        for bond in mol.GetBonds():
            i, j = bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()
            bonds[i, j] = bonds[j, i] = min(int(bond.GetBondTypeAsDouble()), 3)
        elements, charges = (
            [get(a) for a in mol.GetAtoms()] for get in (Chem.Atom.GetAtomicNum, Chem.Atom.GetFormalCharge)
        )
        positions = np.array(mol.GetConformer().GetPositions(), np.float64).reshape(n, 3)
        return Molecule(np.array(elements, np.int64), np.array(charges, np.int64), bonds, positions), ""


def edm_split(count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """EDM's rows to train on, to validate on and to judge on, of `count` molecules without the uncharacterised."""
    train, test = EDM_TRAIN, int(EDM_TEST_SHARE * count)
    if train + test >= count:
        raise DataError(f"EDM's split trains on {train} molecules, and there are {count}; set data.strict=true")
    order = np.random.RandomState(EDM_SEED).permutation(count)
    parts = np.split(order, [train, count - test])
    return parts[0], parts[1], parts[2]


class QM9Data(MoleculeData):
    """QM9; properties as in its table (gap, homo, lumo: eV; mu: Debye; alpha: Bohr^3; cv: cal/mol/K).

    `path` is the folder of the raw files; None: a folder of the cache, to which they are downloaded.
    """

    def __init__(
        self,
        path: str | None = None,
        strict: bool = True,
        download: bool = True,
        properties: Sequence[str] | None = None,
        conditioned: Sequence[str] = (),
        molecules: int | None = MOLECULES,
        excluded: int | None = EXCLUDED,
        held_out_share: float = 0.1,
        max_bad_share: float = 0.05,
        skipped_path: str | None = None,
        batch_size: int = 64,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        where = cache_folder() / "qm9" if path is None else Path(path)
        super().__init__(
            partial(load_qm9, where, strict, download, properties, molecules, excluded),
            origin="QM9",
            conditioned=conditioned,
            held_out_share=held_out_share,
            max_bad_share=max_bad_share,
            skipped_path=skipped_path,
            batch_size=batch_size,
            num_workers=num_workers,
            seed=seed,
        )
        self.strict = strict

    def check(self, found: Found) -> None:
        """Raise DataError if too many molecules are bad besides those that are known to be uncharacterised."""
        bad = [item for item in found.bad if item.reason != DROPPED]
        check_share(bad, len(found.molecules) + len(bad), self.max_bad_share, self.origin)

    def parts(self) -> tuple[Part[Item], Part[Item]]:
        if self.strict:
            return super().parts()
        train, validation, _ = edm_split(len(self.whole))
        return Part(self.whole, train), Part(self.whole, validation)

    def reference_set(self) -> Dataset[Item]:
        """The held-out molecules; with EDM's split those to judge on."""
        return super().reference_set() if self.strict else Part(self.whole, edm_split(len(self.whole))[2])
