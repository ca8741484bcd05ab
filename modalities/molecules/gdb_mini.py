"""gdb-mini: about 10,000 small molecules of C, N, O and F that this code enumerates, so that nothing is downloaded.

All molecules of fewer than `largest` heavy atoms that the rules of `gdb_rules` leave, and of those of `largest` as many
as fill up `count`: those whose hash is smallest, so that the choice depends on no order. Each has one ETKDG and MMFF94
conformer. Properties: `logp` (Crippen's octanol-water log P) and `polar_area` (topological polar surface, Angstrom^2).

Wildman, Crippen: J. Chem. Inf. Comput. Sci. 1999. Ertl, Rohde, Selzer: J. Med. Chem. 2000.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

from rdkit import Chem
from rdkit.Chem import rdMolDescriptors

from framework.data.bad_items import BadItem
from framework.data.counter import share
from framework.errors import DataError, UserError
from modalities.molecules.arrays import MoleculeArrays
from modalities.molecules.cache import Found, load_or_make
from modalities.molecules.conformers import embed_all
from modalities.molecules.gdb_enumeration import enumerate_molecules
from modalities.molecules.gdb_rules import FINISHED, NEVER

LARGEST = 7  # the enumeration grows about sixfold with each more
PROPERTIES = ("logp", "polar_area")
logger = logging.getLogger(__name__)


def choose(levels: list[list[str]], count: int) -> list[str]:
    """All but the last level's SMILES, and of the last as many as make `count` altogether, by a hash of each."""
    smaller = [smiles for level in levels[:-1] for smiles in level]
    ranked = sorted(levels[-1], key=lambda smiles: share(f"gdb-mini/{smiles}"))
    return smaller + sorted(ranked[: max(count - len(smaller), 0)])


def make_gdb_mini(largest: int = LARGEST, count: int = 10_000, workers: int | None = None) -> Found:
    """Enumerate, choose, embed; those without a conformer are named as bad.

    Raises:
        UserError: `largest` is not 1 to 7, or `count` does not reach beyond the smaller molecules.
    """
    if not 1 <= largest <= LARGEST:
        raise UserError(f"data.largest={largest} heavy atoms; it should be 1 to {LARGEST}")
    levels = enumerate_molecules(largest, lambda done: logger.info("enumerating %s", done))
    smaller = sum(map(len, levels[:-1]))
    if count <= smaller:
        raise UserError(
            f"data.count={count}, but there are {smaller} molecules of fewer than {largest} heavy atoms already; "
            "set data.largest lower or data.count higher"
        )
    chosen = choose(levels, count)
    molecules, names, bad = [], [], []
    for smiles, outcome in zip(chosen, embed_all(chosen, workers=workers, description="making gdb-mini"), strict=True):
        if isinstance(outcome, DataError):
            bad.append(BadItem(smiles, str(outcome)))
            continue
        mol = Chem.MolFromSmiles(smiles)
        values = rdMolDescriptors.CalcCrippenDescriptors(mol)[0], rdMolDescriptors.CalcTPSA(mol)
        molecules.append(replace(outcome[0], properties=dict(zip(PROPERTIES, values, strict=True))))
        names.append(outcome[1])
    return Found(MoleculeArrays.pack(molecules, names, PROPERTIES), tuple(bad))


def load_gdb_mini(
    largest: int = LARGEST, count: int = 10_000, workers: int | None = None, folder: Path | None = None
) -> Found:
    """gdb-mini from the cache, or made and kept there (about a minute).

    Raises:
        UserError: as `make_gdb_mini`.
    """
    depends_on = {"largest": largest, "count": count, "never": dict(NEVER), "finished": dict(FINISHED)}
    return load_or_make("gdb-mini", depends_on, lambda: make_gdb_mini(largest, count, workers), folder)
