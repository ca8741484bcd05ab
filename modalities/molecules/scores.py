r"""What molecules can be steered and led by: scores of decoded molecules, and energies of their states.

A score is a black box for `task=steer`: it maps a list of molecules to a number for each, more is better.

    Property     a descriptor of RDKit (MolLogP, RingCount, TPSA, ...): much of it, or as near a target as can be
    Valid        1 for what is strictly valid, 0 for the rest

An energy is for `guidance=energy`: it maps clean states to (B,), can be differentiated, and less is better.

    Compact      the radius of gyration near a target
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from rdkit import Chem
from rdkit.Chem import Descriptors
from tensordict import TensorDict
from torch import Tensor

from framework.errors import UserError
from modalities.molecules.metrics.validity import strict_mol, validity
from modalities.molecules.molecule import Molecule

if TYPE_CHECKING:
    from framework.modality import Modality


@dataclass(frozen=True)
class Property:
    """A descriptor by its name in `rdkit.Chem.Descriptors`, of strictly valid molecules.

    The score is the descriptor, or minus its distance from `target` if there is one; that of a molecule that is not
    strictly valid (or whose descriptor is no number) is `invalid`, which is also the least that a valid one gets.

    Raises:
        UserError: RDKit has no such descriptor.
    """

    descriptor: str
    target: float | None = None
    invalid: float = -10.0

    def __post_init__(self) -> None:
        known = _descriptors()
        if self.descriptor not in known:
            near = get_close_matches(self.descriptor, known, 1)
            hint = f"; did you mean {near[0]}?" if near else "; MolLogP, RingCount and TPSA are some"
            raise UserError(f"RDKit has no descriptor {self.descriptor!r}{hint}")

    def __call__(self, molecules: Sequence[Molecule]) -> list[float]:
        return [self._of(strict_mol(molecule)) for molecule in molecules]

    def _of(self, mol: Chem.Mol | None) -> float:
        if mol is None:
            return self.invalid
        value = float(self._function(Chem.RemoveHs(mol)))
        score = value if self.target is None else -abs(value - self.target)
        return max(score, self.invalid) if score == score else self.invalid

    @cached_property
    def _function(self) -> Callable[[Chem.Mol], float]:
        return _descriptors()[self.descriptor]


def _descriptors() -> dict[str, Callable[[Chem.Mol], float]]:
    return dict(Descriptors.descList)


@dataclass(frozen=True)
class Valid:
    """1 for strictly valid molecules (metrics/validity.py), 0 for all others."""

    def __call__(self, molecules: Sequence[Molecule]) -> list[float]:
        return [float(verdict) for verdict in validity(molecules).strict]


@dataclass(frozen=True)
class Compact:
    r"""(R - radius)^2 / (2 width^2) of the radius of gyration, R^2 the mean square distance of atoms from their mean.

    `radius` and `width` are in Angstrom, and `scale` says how many Angstrom a state's unit is, which a model knows:
    states themselves are of unit scale, and alone this is 1.

    Raises:
        UserError: a length is not positive.
    """

    radius: float
    width: float = 0.1
    scale: float = 1.0

    def __post_init__(self) -> None:
        if min(self.radius, self.width, self.scale) <= 0:
            raise UserError(f"a radius of gyration and its width are lengths > 0, got {self.radius} and {self.width}")

    def for_modality(self, modality: Modality) -> Compact:
        """The same in the units of a modality's states."""
        return replace(self, scale=float(getattr(modality, "scale", self.scale)))

    def __call__(self, state: TensorDict, condition: TensorDict) -> Tensor:
        distance = self.scale * gyration(state["positions"], condition["mask"]) - self.radius
        return distance**2 / (2 * self.width**2)


def gyration(positions: Tensor, mask: Tensor) -> Tensor:
    """Radii of gyration (B,) of points (B, N, 3), of which mask (B, N) says which are real."""
    real = mask[..., None].to(positions.dtype)
    count = real.sum(1, keepdim=True).clamp(min=1)
    centre = (real * positions).sum(1, keepdim=True) / count
    square = (real * (positions - centre) ** 2).sum((1, 2)) / count[:, 0, 0]
    return square.clamp(min=torch.finfo(square.dtype).tiny).sqrt()
