"""Scores and energies of molecules, on hand-made ones and on a small model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rdkit import Chem
from rdkit.Chem import AllChem, Descriptors
from tensordict import TensorDict
from torch import Tensor, nn

from experiments.configuration import compose, plain
from framework.build import USER_CONFIG, build
from framework.editing.requests import Steer
from framework.editing.steering import Decoded
from framework.errors import UserError
from framework.guidance.classifier_free import ClassifierFree
from framework.guidance.composed import Composed
from framework.guidance.energy import EnergyGuided
from framework.model import Model
from framework.parametrizations import V
from framework.schedules import Flow
from modalities.molecules.modality import Molecules
from modalities.molecules.molecule import Molecule, from_rdkit
from modalities.molecules.scores import Compact, Property, Valid, gyration

TOKENS = ["H", "C", "N", "O"]


def molecule(smiles: str) -> Molecule:
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    assert AllChem.EmbedMolecule(mol, randomSeed=1) == 0
    return from_rdkit(mol)


def broken() -> Molecule:
    """Methane that lacks a hydrogen."""
    whole = molecule("C")
    return Molecule(whole.elements[:4], whole.charges[:4], whole.bonds[:4, :4], whole.positions[:4])


def test_properties_are_rdkits_of_what_is_strictly_valid() -> None:
    given = [molecule("CCO"), molecule("c1ccccc1"), broken()]
    log_p = [Descriptors.MolLogP(Chem.MolFromSmiles(smiles)) for smiles in ("CCO", "c1ccccc1")]
    assert Property("MolLogP")(given) == [*log_p, -10.0]
    assert Property("RingCount")(given) == [0.0, 1.0, -10.0]
    near = Property("MolLogP", target=1.0, invalid=-1.1)(given)
    assert near == [pytest.approx(-abs(log_p[0] - 1)), pytest.approx(-abs(log_p[1] - 1)), -1.1]
    assert Property("MolWt", target=0.0)(given) == [-10.0] * 3
    assert Valid()(given) == [1.0, 1.0, 0.0]
    with pytest.raises(UserError, match="did you mean MolLogP"):
        Property("MolLogp")


def test_the_radius_of_gyration_does_not_depend_on_padding_place_or_rotation() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 5, 3, dtype=torch.float64, generator=generator)
    mask = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    turn = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64, generator=generator)).Q
    found = gyration(x, mask)
    torch.testing.assert_close(gyration(x @ turn + 3, mask), found)
    assert float(found[1]) == pytest.approx(float(np.sqrt(x[1, :3].numpy().var(0).sum())))
    corners = torch.tensor([[[1.0, 0, 0], [-1.0, 0, 0]]])
    assert float(gyration(corners, torch.ones(1, 2, dtype=torch.bool))) == 1.0


def test_the_energy_is_in_angstrom_and_its_gradient_leads_to_the_target() -> None:
    modality = Molecules(TOKENS, scale=2.0, sizes=[0, 0, 0, 0, 0, 1])
    energy = Compact(2.5, 0.5).for_modality(modality)
    condition = TensorDict({"mask": torch.ones(1, 2, dtype=torch.bool)}, batch_size=[1])
    x = torch.tensor([[[1.0, 0, 0], [-1.0, 0, 0]]], requires_grad=True)  # a radius of 2 Angstrom
    value = energy(TensorDict({"positions": x}, batch_size=[1]), condition)
    assert value.item() == pytest.approx(0.5**2 / (2 * 0.5**2))
    (gradient,) = torch.autograd.grad(value.sum(), x)
    assert float(gradient[0, 0, 0]) < 0 < float(gradient[0, 1, 0])  # downwards is outwards
    same = torch.zeros(1, 2, 3, requires_grad=True)
    (flat,) = torch.autograd.grad(energy(TensorDict({"positions": same}, batch_size=[1]), condition).sum(), same)
    assert bool(flat.isfinite().all())
    with pytest.raises(UserError, match="lengths > 0"):
        Compact(0.0)


class Cloud(nn.Module):
    """Positions of a cloud of unit scale, atoms and bonds of any kind."""

    def __init__(self) -> None:
        super().__init__()
        self.logit = nn.Parameter(torch.tensor(0.0))

    def forward(self, x_t: TensorDict, noise_level: Tensor, condition: TensorDict) -> TensorDict:
        rows, n = condition["mask"].shape
        atoms = self.logit.expand(rows, n, len(TOKENS))
        bonds = torch.tensor([2.0, 0.0, -2.0, -4.0]).expand(rows, n, n, 4) + self.logit
        parts = {"positions": 0.0 * x_t["positions"], "atoms": atoms, "bonds": bonds}
        return TensorDict(parts, batch_size=[rows])


def cloud() -> Model:
    """V = 0 on an angle's path is data of unit deviation; Flow's is near it."""
    return Model(Molecules(TOKENS, scale=1.5, sizes=[0, 0, 0, 1, 1, 1]), Cloud(), Flow(), V())


def radii(molecules: list[Molecule]) -> Tensor:
    return torch.tensor([np.sqrt(m.positions.var(0).sum()) for m in molecules])


def test_molecules_are_led_to_a_radius() -> None:
    """In Angstrom, beside tokens, whatever the sizes. A mean is smaller than what it is the mean of: draws mend it."""
    model = cloud()
    for target in (2.0, 3.0):
        away = []
        for guidance in (None, EnergyGuided(Compact(target, 0.3)), EnergyGuided(Compact(target, 0.3), draws=8)):
            made = model.sample(None, 16, steps=12, guidance=guidance, seed=3).samples
            away.append(float(radii(made).mean()) - target)
        assert away[1] > 0.4 and abs(away[2]) < min(0.2, 0.5 * away[1])
    assert away[0] < -0.5


def test_molecules_are_steered_by_a_property_from_the_command_line() -> None:
    """More carbons and fewer hydrogens than noise has, by their share of decoded atoms."""
    words = ["run=x", "task=steer", "task.score={_target_: modalities.molecules.scores.Property, descriptor: MolLogP}"]
    request = build(plain(compose("sample", [*words, "task.particles=3"]))["task"], USER_CONFIG)
    assert isinstance(request, Steer) and request.particles == 3 and request.score == Property("MolLogP")
    guidance = "guidance.energy={_target_: modalities.molecules.scores.Compact, radius: 2.0}"
    made = build(plain(compose("sample", ["run=x", "guidance=energy", guidance]))["guidance"], USER_CONFIG)
    assert isinstance(made, EnergyGuided) and made.energy == Compact(2.0)

    words = ["run=x", "guidance=cfg_energy", guidance.replace("guidance.energy", "guidance.guidances.1.energy")]
    composed = build(plain(compose("sample", words))["guidance"], USER_CONFIG)
    assert isinstance(composed, Composed) and composed.guidances == [ClassifierFree(2.0), EnergyGuided(Compact(2.0))]

    def carbons(molecules: list[Molecule]) -> list[float]:
        return [float((m.elements == 6).mean()) for m in molecules]

    model = cloud()
    tasks = Steer(carbons, 8, 0.05).tasks(model.modality)
    assert isinstance(tasks[0].score, Decoded)  # type: ignore[attr-defined]
    steered, plainly = (model.sample(None, 12, steps=8, tasks=t).samples for t in (tasks, ()))
    assert np.mean(carbons(steered)) > np.mean(carbons(plainly)) + 0.2
    again = model.sample(None, 12, steps=8, tasks=tasks, batch_size=16).samples
    assert all(np.array_equal(a.elements, b.elements) for a, b in zip(steered, again, strict=True))


def test_a_structure_that_is_given_stays_while_its_conformers_are_steered(tmp_path: Path) -> None:
    model = cloud()

    def small(molecules: list[Molecule]) -> Any:
        return -radii(molecules)

    how: dict[str, Any] = {"prompt": ["smiles=C", "smiles=O", "smiles=N"], "n": 6, "steps": 8}
    steered = model.sample(**how, tasks=Steer(small, 6, 0.05, every=None).tasks(model.modality))
    plainly = model.sample(**how)
    assert [m.elements.tolist() for m in steered.samples] == [m.elements.tolist() for m in plainly.samples]
    assert bool((Tensor(Valid()(steered.samples)) == 1).all())
    assert float(radii(steered.samples).mean()) < float(radii(plainly.samples).mean()) - 0.1
