"""Structures, and parts of them, that a prompt gives: their atoms and bonds as states, and the file's own coordinates.

Of a structure (smiles=) all atoms and bonds are given and no position: what is drawn is a conformer. Of a scaffold
atoms, their bonds with each other and their positions are given; they are the sample's first atoms. A sample lies
somewhere else than its scaffold's file, since a state has no centre of mass: it is moved back, and the given atoms get
the file's coordinates to the last digit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np
import torch
from rdkit import Chem, rdBase
from tensordict import TensorDict

from framework.editing.known import Given
from framework.errors import PromptError
from modalities.molecules.files import read_fragment
from modalities.molecules.molecule import Molecule, from_rdkit
from modalities.molecules.molecule_set import token_name
from modalities.molecules.prompts import Wish


def structure(wish: Wish) -> Molecule:
    """What the prompt gives: of a SMILES without positions (zeros), of a file with them.

    Raises:
        PromptError: the SMILES cannot be read.
        DataError: the file cannot be read.
    """
    if wish.smiles is not None:
        return _of_smiles(wish.smiles)
    assert wish.scaffold is not None
    return _of_file(wish.scaffold)


@lru_cache(maxsize=4096)
def _of_smiles(smiles: str) -> Molecule:
    with rdBase.BlockLogs():
        mol = Chem.MolFromSmiles(smiles)
    if mol is None:
        raise PromptError(f"smiles={smiles} is no SMILES that RDKit can read")
    if len(Chem.GetMolFrags(mol)) > 1:
        raise PromptError(f"smiles={smiles} is several molecules; give one")
    mol = Chem.AddHs(mol)
    mol.AddConformer(Chem.Conformer(mol.GetNumAtoms()))
    return from_rdkit(mol)


@lru_cache(maxsize=64)
def _of_file(path: str) -> Molecule:
    return read_fragment(path).molecule


def given_by(
    wishes: Sequence[Wish], condition: TensorDict, vocabulary: Sequence[tuple[int, int]], scale: float
) -> Given:
    """The states and masks of what prompts give, on the canvas of a condition; `vocabulary` are the model's tokens.

    Raises:
        PromptError: it is larger than the sample, or has an atom that the model does not know.
    """
    rows, n = condition["mask"].shape
    index = {pair: token for token, pair in enumerate(vocabulary)}
    positions = torch.zeros(rows, n, 3)
    atoms, bonds = torch.zeros(rows, n, dtype=torch.int64), torch.zeros(rows, n, n, dtype=torch.int64)
    places, kinds = torch.zeros(rows, n, 3, dtype=torch.bool), torch.zeros(rows, n, dtype=torch.bool)
    pairs = torch.zeros(rows, n, n, dtype=torch.bool)
    for row, wish in enumerate(wishes):
        if wish.smiles is None and wish.scaffold is None:
            continue
        part = structure(wish)
        m, size = len(part), int(condition["mask"][row].sum())
        if m > size or (wish.smiles is not None and m != size):
            raise PromptError(
                f"{wish}: what is given has {m} atoms, and the sample {size}; leave n_atoms open or mend it"
            )
        pairs_of = list(zip(part.elements.tolist(), part.charges.tolist(), strict=True))
        if unknown := [pair for pair in pairs_of if pair not in index]:
            known = ", ".join(token_name(*pair) for pair in vocabulary)
            raise PromptError(f"{wish} has {token_name(*unknown[0])}; this model makes only {known}")
        atoms[row, :m] = torch.tensor([index[pair] for pair in pairs_of])
        bonds[row, :m, :m] = torch.from_numpy(part.bonds)
        kinds[row, :m] = True
        pairs[row, :m, :m] = ~torch.eye(m, dtype=torch.bool)
        if wish.scaffold is not None:
            centred = part.positions - part.positions.mean(0)
            positions[row, :m] = torch.from_numpy(centred).float() / scale
            places[row, :m] = True
    return Given(
        TensorDict({"positions": positions, "atoms": atoms, "bonds": bonds}, batch_size=[rows]),
        TensorDict({"positions": places, "atoms": kinds, "bonds": pairs}, batch_size=[rows]),
    )


def restored(sample: Molecule, wish: Wish) -> Molecule:
    """The sample in the coordinates of the scaffold's file, whose atoms are exactly as they were."""
    if wish.scaffold is None:
        return sample
    part = structure(wish)
    m = len(part)
    positions = sample.positions + (part.positions.mean(0) - sample.positions[:m].mean(0))
    positions = np.concatenate([part.positions, positions[m:]])
    return replace(sample, positions=positions)
