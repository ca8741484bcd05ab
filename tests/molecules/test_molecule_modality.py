"""The plugin as a whole: states and back, prompts, and a run that trains, samples and is judged."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from rdkit import Chem
from rdkit.Chem import AllChem
from tensordict import TensorDict

from experiments import evaluate, sample, train
from experiments.configuration import allowed, compose, plain
from framework.backbones.egnn import EGNN
from framework.backbones.set_transformer import SetTransformer
from framework.build import check
from framework.errors import PromptError
from framework.metrics.measurement import read_metrics
from framework.plugins import load_modality
from framework.store import load
from modalities.molecules.backbone import MoleculeNetwork
from modalities.molecules.files import read_molecule, write_sdf
from modalities.molecules.modality import Molecules
from modalities.molecules.molecule import Molecule, from_rdkit, to_rdkit
from modalities.molecules.molecule_set import collate
from modalities.molecules.prompts import Wish, read_prompt
from modalities.molecules.sizes import Sizes, by_property

TOKENS = ["H", "C", "N", "N+", "O", "O-"]
PRESETS = ["molecules/gdb_mini", "molecules/file", "molecules/qm9", "molecules/qm9_gap", "molecules/edm"]
SMALL = ["data.largest=4", "debug=fast", "logger=csv", "data.batch_size=8"]


def molecule(smiles: str, seed: int = 1) -> Molecule:
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    assert AllChem.EmbedMolecule(mol, randomSeed=seed) == 0
    return from_rdkit(mol)


def modality(**more: Any) -> Molecules:
    return Molecules(TOKENS, scale=1.3, sizes=[0, 0, 0, 1, 0, 2, 0, 0, 3, 4], **more)


def batch(molecules: list[Molecule], properties: tuple[float, ...] = ()) -> Any:
    index = {pair: i for i, pair in enumerate(modality().vocabulary)}
    items = [
        {
            "positions": torch.from_numpy(m.positions).float(),
            "atoms": torch.tensor([index[pair] for pair in zip(m.elements.tolist(), m.charges.tolist(), strict=True)]),
            "bonds": torch.from_numpy(m.bonds),
            "properties": torch.tensor(properties),
            "smiles": "",
            "index": 0,
        }
        for m in molecules
    ]
    return collate(items)  # type: ignore[arg-type]


def go(command: Any, name: str, *overrides: str) -> Any:
    return command.run(compose(name, list(overrides)))


def test_molecules_are_found_as_a_plugin() -> None:
    assert load_modality("molecules") is Molecules


@pytest.mark.parametrize("one_hot", [None, 0.25])
def test_molecules_survive_the_round_trip(one_hot: float | None) -> None:
    given = [molecule("CC(=O)N"), molecule("C[N+](=O)[O-]"), molecule("C#N")]
    kind = modality(one_hot=one_hot)
    state, condition = kind.encode(batch(given))
    assert condition["mask"].sum(1).tolist() == [len(m) for m in given] and condition["mask"].shape[1] % 2 == 0
    assert float(state["positions"].sum(1).abs().max()) < 1e-4
    for made, wanted in zip(kind.decode(state, condition), given, strict=True):
        assert np.array_equal(made.elements, wanted.elements) and np.array_equal(made.charges, wanted.charges)
        assert np.array_equal(made.bonds, wanted.bonds)
        np.testing.assert_allclose(made.positions, wanted.positions - wanted.positions.mean(0), atol=1e-5)


def test_a_prompt_says_sizes_properties_and_structures(tmp_path: Path) -> None:
    assert read_prompt("n_atoms=7 gap=5.5", ["gap_eV"]) == Wish(7, {"gap_eV": 5.5})
    assert read_prompt({"smiles": "CCO"}, []).smiles == "CCO"
    file = write_sdf(tmp_path / "part.sdf", [molecule("CC")])
    assert read_prompt(f"fragments={file} n_atoms=20", []) == Wish(20, {}, None, str(file))
    for wrong, message in (
        ("n_atom=7", "did you mean 'n_atoms'"),
        ("seven atoms", "'seven' where key=value belongs"),
        ("n_atoms=7.5", "a whole number of at least 1"),
        ("n_atoms=many", "n_atoms=many is no number"),
        ("gap=5", "This model knows n_atoms, smiles"),
        (f"smiles=C scaffold={file}", "a structure and a part of one"),
        ("scaffold=nowhere.sdf", "which is not there"),
    ):
        with pytest.raises(PromptError, match=message):
            read_prompt(wrong, [])


def test_what_a_prompt_leaves_open_is_drawn_as_the_data_has_it() -> None:
    kind = modality()
    drawn = [wish.n_atoms for wish in kind.complete([None] * 4000, 0, range(4000))]
    shares = np.bincount(drawn, minlength=10) / 4000
    np.testing.assert_allclose(shares, np.array([0, 0, 0, 1, 0, 2, 0, 0, 3, 4]) / 10, atol=0.03)
    assert [w.n_atoms for w in kind.complete([None] * 3, 0, [5, 6, 7])] == drawn[5:8]  # whatever the batch
    assert kind.complete(["n_atoms=30"], 0, [0])[0].n_atoms == 30
    assert kind.complete(["smiles=CCO"], 0, [0])[0].n_atoms == 9


def test_sizes_follow_a_property() -> None:
    sizes = np.repeat([4, 8], 500)
    known = Sizes(np.bincount(sizes).tolist(), {"gap": by_property(np.where(sizes == 4, 1.0, 2.0), sizes)})
    assert {known.draw(0, i, {"gap": 2.0}) for i in range(50)} == {8}
    assert {known.draw(0, i, {"gap": 1.0}) for i in range(50)} == {4}
    assert {known.draw(0, i, {}) for i in range(50)} == {4, 8}
    assert {known.draw(0, i, {}, least=5) for i in range(50)} == {8}
    with pytest.raises(PromptError, match="at most 8 atoms, 9 or more"):
        known.draw(0, 0, {}, least=9)


def test_properties_are_told_as_far_as_they_are_known() -> None:
    kind = modality(properties={"gap": (5.0, 2.0)}, columns=["other", "gap"])
    _, condition = kind.encode(batch([molecule("C"), molecule("CC")], (float("nan"), 7.0)))
    assert condition["properties"].tolist() == [[1.0], [1.0]] and condition["known"].tolist() == [[1.0], [1.0]]
    said = kind.parse(["gap=3 n_atoms=5", "n_atoms=5"])
    assert said["properties"].tolist() == [[-1.0], [0.0]] and said["known"].tolist() == [[1.0], [0.0]]
    assert kind.null(said)["known"].sum() == 0 and torch.equal(kind.null(said)["mask"], said["mask"])


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_compose_to_what_can_be_built(preset: str) -> None:
    path = [] if preset in ("molecules/gdb_mini", "molecules/edm") else ["data.path=x"]
    config = plain(compose("train", [f"experiment={preset}", *path]))
    parts = {key: config[key] for key in ("modality", "data", "backbone", "objective", "processes")}
    assert check(parts, allowed(config)) == []


def test_turning_in_training_is_undone() -> None:
    """Of an equivariant body nothing is to be seen of it; a body that is not sees other positions each time."""
    torch.manual_seed(0)
    state, condition = modality().encode(batch([molecule("CCO"), molecule("CC(=O)N")]))
    network = MoleculeNetwork(partial(EGNN, width=16, layers=2), len(TOKENS), self_conditioned=True, rotate=True)
    condition["previous"] = TensorDict(
        {
            "positions": torch.randn_like(state["positions"]),
            "atoms": torch.nn.functional.one_hot(state["atoms"], len(TOKENS)).float(),
            "bonds": torch.nn.functional.one_hot(state["bonds"], 4).float(),
        },
        batch_size=[2],
    )
    level = torch.full((2,), 300.0)
    still = network.eval()(state, level, condition)
    turned = network.train()(state, level, condition)
    for name in ("positions", "atoms", "bonds"):
        torch.testing.assert_close(turned[name], still[name], atol=1e-4, rtol=1e-4)
    plain = MoleculeNetwork(
        partial(SetTransformer, width=16, layers=1), len(TOKENS), self_conditioned=False, rotate=True
    )
    for parameter in plain.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    assert not torch.allclose(
        plain.train()(state, level, condition)["atoms"], plain.eval()(state, level, condition)["atoms"]
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "molecules"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DIFFRACT_CACHE", str(folder.parent / "cache"))
        go(train, "train", "experiment=molecules/gdb_mini", *SMALL, f"run={folder}")
    return folder


def test_a_run_trains_samples_and_is_judged(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIFFRACT_CACHE", str(run.parent / "cache"))
    config = yaml.safe_load((run / "model" / "config.yaml").read_text())
    assert config["modality"]["tokens"] == ["H", "C", "N", "O", "F"]
    assert sum(config["processes"]["tokens"]["bonds"]["shares"]) == pytest.approx(1, abs=1e-4)
    go(
        sample,
        "sample",
        f"run={run}",
        "prompt=n_atoms=7",
        "n=3",
        "steps=3",
        "trajectory=true",
        f"out={tmp_path / 'out'}",
    )
    names = {file.name for file in (tmp_path / "out").iterdir()}
    assert {"samples.sdf", "samples.xyz", "samples.smi", "sheet.png", "page.html", "trajectory.png"} <= names
    go(evaluate, "evaluate", f"run={run}", "n=12", "steps=3", f"out={tmp_path / 'judged'}")
    metrics = read_metrics(tmp_path / "judged" / "metrics.json")
    assert metrics["strict_valid"].n == 12 and metrics["ceiling/strict_valid"].value == 1.0


def test_samples_do_not_depend_on_their_batch(run: Path) -> None:
    model = load(run)
    prompts = ["n_atoms=5", "n_atoms=9", "n_atoms=3", "n_atoms=8"]
    together = model.sample(prompts, steps=4).samples
    apart = model.sample(prompts, steps=4, batch_size=2).samples
    for one, other in zip(together, apart, strict=True):
        assert np.array_equal(one.bonds, other.bonds) and np.array_equal(one.elements, other.elements)
        np.testing.assert_allclose(one.positions, other.positions, atol=1e-4)
    assert [len(m) for m in apart] == [5, 9, 3, 8]


def test_conformers_have_the_structure_that_was_asked_for(run: Path) -> None:
    model = load(run)
    made = model.sample("smiles=CC(=O)N", 3, steps=4).samples
    for m in made:
        mol = to_rdkit(m)
        Chem.SanitizeMol(mol)
        assert Chem.MolToSmiles(Chem.RemoveHs(mol)) == Chem.CanonSmiles("CC(=O)N")
    assert not np.allclose(made[0].positions, made[1].positions)
    with pytest.raises(PromptError, match="has S; this model makes only"):
        model.sample("smiles=CS", steps=2)
    with pytest.raises(PromptError, match="no SMILES that RDKit can read"):
        model.sample("smiles=C(", steps=2)


def test_a_scaffold_is_kept_to_the_last_digit(run: Path, tmp_path: Path) -> None:
    whole = molecule("CCO")
    keep = [0, 1, 2, 3, 4]  # the heavy atoms and two hydrogens: four valences are open
    part = Molecule(
        whole.elements[keep], whole.charges[keep], whole.bonds[np.ix_(keep, keep)], whole.positions[keep] + 7.0
    )
    file = write_sdf(tmp_path / "scaffold.sdf", [part])
    given = read_molecule_block(file)
    made = load(run).sample(f"scaffold={file}", 4, steps=5).samples
    for m in made:
        assert len(m) > 5
        assert np.array_equal(m.positions[:5], given)
        assert np.array_equal(m.elements[:5], part.elements) and np.array_equal(m.bonds[:5, :5], part.bonds)
        assert np.linalg.norm(m.positions[5:] - m.positions[:5].mean(0), axis=1).max() < 30


def read_molecule_block(file: Path) -> np.ndarray:
    return np.asarray(Chem.SDMolSupplier(str(file), sanitize=False, removeHs=False)[0].GetConformer().GetPositions())


def test_a_molecule_can_be_edited(run: Path, tmp_path: Path) -> None:
    file = write_sdf(tmp_path / "mine.sdf", [molecule("CCO")])
    assert len(read_molecule(file)) == 9
    out = tmp_path / "out"
    go(
        sample,
        "sample",
        f"run={run}",
        "task=edit",
        f"task.input={file}",
        "task.strength=0.3",
        "steps=6",
        "n=2",
        f"out={out}",
    )
    supplier = Chem.SDMolSupplier(str(out / "samples.sdf"), sanitize=False, removeHs=False)
    assert [mol.GetNumAtoms() for mol in supplier] == [9, 9]
