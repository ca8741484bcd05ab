"""Geometries of molecules that are known as SMILES: ETKDG, then MMFF94.

A conformer is a function of the SMILES and of RDKit's version alone, since its random seed is a hash of the SMILES. It
is not the geometry of a quantum-chemical calculation: aromatic bonds are longer by a few hundredths of an Angstrom.

Riniker, Landrum: Better informed distance geometry, J. Chem. Inf. Model. 2015. Wang et al.: Improving conformer
generation for small rings and macrocycles (ETKDGv3), 2020. Halgren: Merck molecular force field, J. Comput. Chem. 1996.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial

from rdkit import Chem, rdBase
from rdkit.Chem import rdDistGeom, rdForceFieldHelpers
from rich.progress import track

from framework.data.counter import share
from framework.errors import DataError
from modalities.molecules.checks import checked
from modalities.molecules.molecule import Molecule

MAX_STEPS = 2_000  # of the force field's minimiser
MAX_WORKERS = 2
CHUNK = 64  # molecules that a process takes at a time
# A molecule with its canonical SMILES, or why there is none.
Outcome = tuple[Molecule, str] | DataError


def embed(smiles: str, elements: Collection[int] | None = None, net_charge: int | None = None) -> tuple[Molecule, str]:
    """The molecule of a SMILES with its hydrogens and one conformer, and its canonical SMILES.

    Raises:
        DataError: the SMILES cannot be read, the molecule has no conformer or no force field, or fails `checked`.
    """
    with rdBase.BlockLogs():
        mol = Chem.MolFromSmiles(smiles)
        if mol is None:
            raise DataError("RDKit cannot read it as SMILES")
        if (fragments := len(Chem.GetMolFrags(mol))) > 1:
            raise DataError(f"it has {fragments} fragments")
        mol = Chem.AddHs(mol)
        settings = rdDistGeom.ETKDGv3()
        settings.randomSeed = int(share(f"conformer/{smiles}") * 2**31)  # type: ignore[assignment]
        if rdDistGeom.EmbedMolecule(mol, settings) < 0:
            # Slower, and finds some that the default does not.
            settings.useRandomCoords = True  # type: ignore[assignment]
            if rdDistGeom.EmbedMolecule(mol, settings) < 0:
                raise DataError("ETKDG finds no conformer")
        if not rdForceFieldHelpers.MMFFHasAllMoleculeParams(mol):
            raise DataError("MMFF94 has no parameters for it")
        if rdForceFieldHelpers.MMFFOptimizeMolecule(mol, maxIters=MAX_STEPS) != 0:
            raise DataError(f"MMFF94 does not converge in {MAX_STEPS} steps")
    return checked(mol, elements, net_charge)


def embed_all(
    smiles: Sequence[str],
    elements: Collection[int] | None = None,
    net_charge: int | None = None,
    workers: int | None = None,
    description: str = "making conformers",
) -> list[Outcome]:
    """`embed` of each, in order, with the DataError where it raises one.

    In `workers` processes; None: as many as there are processors, and no more than MAX_WORKERS.
    """
    chunks = [smiles[i : i + CHUNK] for i in range(0, len(smiles), CHUNK)]
    work = partial(_embed_chunk, elements=elements, net_charge=net_charge)
    workers = min(len(chunks), _processors() if workers is None else workers)
    if workers < 2 or "fork" not in multiprocessing.get_all_start_methods():
        return _gather(map(work, chunks), len(chunks), description)
    # Forked as data loaders' workers are: the other ways import the caller's script again.
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("fork")) as pool:
        return _gather(pool.map(work, chunks), len(chunks), description)


def _gather(parts: Iterator[list[Outcome]], count: int, description: str) -> list[Outcome]:
    steps: Iterable[list[Outcome]] = track(
        parts, description=description, total=count, transient=True, disable=not sys.stderr.isatty()
    )
    return [outcome for part in steps for outcome in part]


def _embed_chunk(smiles: Sequence[str], elements: Collection[int] | None, net_charge: int | None) -> list[Outcome]:
    outcomes: list[Outcome] = []
    for each in smiles:
        try:
            outcomes.append(embed(each, elements, net_charge))
        except DataError as error:
            outcomes.append(error)
    return outcomes


def _processors() -> int:
    return min(MAX_WORKERS, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
