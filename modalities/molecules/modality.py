"""Molecules as a plugin of Diffract: positions, kinds of atoms and bonds, made together; SDF files out.

A state has the components `positions` (B, N, 3), without a centre of mass and of about unit scale, `atoms` (B, N) and
`bonds` (B, N, N). The last two are tokens, or, with `one_hot`, continuous channels (B, N, K) and (B, N, N, 4).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from tensordict import TensorDict
from torch import Tensor, nn

from framework.categories import Categories, Nodes, Pairs
from framework.errors import PromptError, UserError
from framework.metrics.measurement import Measurement
from framework.metrics.score import Score, verdicts
from framework.modality import Modality, Symmetry
from framework.pair_space import SymmetricPairs
from framework.spaces import Masked, Product, ZeroCentreOfMass
from modalities.molecules.backbone import BONDS
from modalities.molecules.data import MoleculeData
from modalities.molecules.features import features, moments
from modalities.molecules.files import read_molecule
from modalities.molecules.fragment import fragment
from modalities.molecules.given import Given, given_by, restored, structure
from modalities.molecules.judge import judge
from modalities.molecules.metrics.stability import stability
from modalities.molecules.metrics.strain import mmff_strain
from modalities.molecules.metrics.validity import validity
from modalities.molecules.molecule import Molecule
from modalities.molecules.molecule_set import Batch, collate, parse_token
from modalities.molecules.prompts import Wish, read_prompt
from modalities.molecules.render import render, render_trajectory
from modalities.molecules.sizes import Sizes, by_property
from modalities.molecules.symmetries import symmetries_of

FEATURE_MOLECULES = 2000  # training molecules whose moments standardise features


class Molecules(Modality):
    """Molecules with explicit hydrogens and bonds.

    Args:
        tokens: the kinds of atoms, as C, N+ or O-; None is the data's when a run begins.
        scale: Angstrom per unit of a state; None likewise.
        sizes: how many training molecules have 0, 1, 2, ... atoms; None likewise.
        properties: what it is conditioned on: names to mean and standard deviation; None is the data's choice.
        columns: the names of the properties in a batch, in order; None is the data's.
        sizes_of: of each property, the sizes of training molecules by its value (sizes.py); None is the data's.
        one_hot: None: atoms and bonds are tokens. A number: they are continuous channels of this height, and the
            process is Gaussian throughout (Hoogeboom et al. 2022, "Equivariant diffusion for molecule generation").
    """

    name: ClassVar[str] = "molecules"

    def __init__(
        self,
        tokens: Sequence[str] | None = None,
        scale: float | None = None,
        sizes: Sequence[int] | None = None,
        properties: Mapping[str, Sequence[float]] | None = None,
        columns: Sequence[str] | None = None,
        sizes_of: Mapping[str, Mapping[str, Sequence[Any]]] | None = None,
        one_hot: float | None = None,
    ) -> None:
        if tokens is None or scale is None or sizes is None:
            raise ValueError("molecules need tokens, a scale and sizes; a training run takes them from its data")
        self.tokens, self.vocabulary = list(tokens), [parse_token(token) for token in tokens]
        self.scale, self.one_hot = float(scale), one_hot
        self.properties = {name: (float(pair[0]), float(pair[1])) for name, pair in (properties or {}).items()}
        self.columns = list(columns or [])
        self.sizes_known = Sizes(list(sizes), dict(sizes_of or {}))
        self._moments: tuple[MoleculeData, tuple[np.ndarray, np.ndarray]] | None = None

    @property
    def space(self) -> Product:  # type: ignore[override]
        kinds = len(self.tokens)
        if self.one_hot is not None:
            return Product({"positions": ZeroCentreOfMass(3), "atoms": Masked(kinds), "bonds": SymmetricPairs(BONDS)})
        return Product({
            "positions": ZeroCentreOfMass(3),
            "atoms": Categories(kinds, Nodes()),
            "bonds": Categories(BONDS, Pairs()),
        })  # fmt: skip

    def encode(self, batch: Batch) -> tuple[TensorDict, TensorDict]:  # type: ignore[override]
        """A collated batch as states; properties that are not known are not said."""
        mask = batch["mask"]
        parts = {"positions": batch["positions"] / self.scale, "atoms": batch["atoms"], "bonds": batch["bonds"]}
        condition = TensorDict({"mask": mask}, batch_size=[len(mask)])
        if self.properties:
            condition.update(self._told(batch["properties"][:, [self.columns.index(name) for name in self.properties]]))
        if self.one_hot is not None:
            for name, classes in (("atoms", len(self.tokens)), ("bonds", BONDS)):
                parts[name] = self.one_hot * torch.nn.functional.one_hot(parts[name], classes).float()
        return self.space.project(TensorDict(parts, batch_size=[len(mask)]), condition), condition

    def decode(self, state: TensorDict, condition: TensorDict) -> list[Molecule]:  # type: ignore[override]
        """Molecules in Angstrom; of probabilities, or channels, the most likely atoms and bonds."""
        positions = (state["positions"].double() * self.scale).cpu().numpy()
        atoms, bonds = (
            (x.argmax(-1) if (x := state[name]).is_floating_point() else x).cpu().numpy() for name in ("atoms", "bonds")
        )
        made = []
        vocabulary = np.array(self.vocabulary, np.int64)
        for i, size in enumerate(condition["mask"].sum(1).tolist()):
            kinds = vocabulary[np.minimum(atoms[i, :size], len(vocabulary) - 1)]  # on the way, a mask may be left
            orders = np.where(bonds[i, :size, :size] < BONDS, bonds[i, :size, :size], 0)
            np.fill_diagonal(orders, 0)
            made.append(Molecule(kinds[:, 0], kinds[:, 1], orders.astype(np.int64), positions[i, :size]))
        return made

    def join(self, parts: Sequence[list[Molecule]]) -> list[Molecule]:
        return [molecule for part in parts for molecule in part]

    def parse(self, prompts: Sequence[Any]) -> TensorDict:
        """Sizes, and the properties that are said; a size that is left open is the data's commonest."""
        wishes = [self._wish(prompt) for prompt in prompts]
        sizes = torch.tensor([wish.n_atoms or self.sizes_known.commonest for wish in wishes])
        largest = int(sizes.max())
        mask = torch.arange(largest + largest % 2) < sizes[:, None]
        condition = TensorDict({"mask": mask}, batch_size=[len(wishes)])
        if self.properties:
            values = [[wish.properties.get(name, float("nan")) for name in self.properties] for wish in wishes]
            condition.update(self._told(torch.tensor(values)))
        return condition

    def null(self, condition: TensorDict) -> TensorDict:
        if not self.properties:
            return condition
        silent = {name: torch.zeros_like(condition[name]) for name in ("properties", "known")}
        return condition.copy().update(silent)

    def resized(self, condition: TensorDict, like: TensorDict) -> TensorDict:  # type: ignore[override]
        return condition.copy().update({"mask": like["mask"]})

    def complete(self, prompts: Sequence[Any], seed: int, samples: Sequence[int]) -> Sequence[Wish]:
        """Prompts with the sizes that they leave open: of the structure that they name, or drawn as the data's are."""
        return [
            wish if wish.n_atoms is not None else wish.sized(self._size(wish, seed, sample))
            for wish, sample in zip(map(self._wish, prompts), samples, strict=True)
        ]

    def sizes(self, prompts: Sequence[Any]) -> Sequence[float]:
        return [float(self._wish(prompt).n_atoms or self.sizes_known.commonest) for prompt in prompts]

    def given(self, prompts: Sequence[Any], condition: TensorDict) -> Given | None:
        """The structures and the parts of structures that prompts name."""
        wishes = [self._wish(prompt) for prompt in prompts]
        if all(wish.smiles is None and wish.scaffold is None for wish in wishes):
            return None
        if self.one_hot is not None:
            raise PromptError("smiles= and scaffold= are for models whose atoms and bonds are tokens")
        return given_by(wishes, condition, self.vocabulary, self.scale)

    def restored(self, samples: list[Molecule], prompts: Sequence[Any]) -> list[Molecule]:
        """Samples with the atoms that a scaffold gave at the file's own coordinates."""
        return [restored(sample, self._wish(prompt)) for sample, prompt in zip(samples, prompts, strict=True)]

    def symmetries(self, network: nn.Module) -> Sequence[Symmetry]:
        """Rotation, reflection unless the network is chiral, and the order of the atoms."""
        return symmetries_of(network)

    def render(
        self,
        samples: list[Molecule],
        prompts: Sequence[Any],
        folder: Path,
        metadata: Sequence[Mapping[str, str]],
    ) -> list[Path]:
        """samples.sdf, .xyz and .smi, an SDF for each of a few, page.html with viewers, and sheet.png."""
        return render(samples, self._texts(prompts), folder, metadata)

    def render_trajectory(self, states: Sequence[list[Molecule]], prompts: Sequence[Any], folder: Path) -> list[Path]:
        return render_trajectory(states, self._texts(prompts), folder)

    def prompts(self, data: MoleculeData, n: int, seed: int) -> Sequence[Any]:  # type: ignore[override]
        """Sizes as the training molecules', with properties of held-out molecules if it is conditioned on any."""
        return data.prompts(n, seed)

    def examples(self, n: int) -> Sequence[Any]:
        """Sizes spread over the data's."""
        return [Wish(n_atoms=size) for size in self.sizes_known.spread(n)]

    def evaluate(  # type: ignore[override]
        self,
        samples: list[Molecule],
        prompts: Sequence[Any],
        data: MoleculeData,
        seed: int,
        options: Mapping[str, Any],
    ) -> dict[str, Measurement]:
        """The metrics of metrics/summary.py, and errors of properties; `+options.full=true` adds slow ones."""
        if unknown := set(options) - {"full"}:
            raise UserError(f"molecules know no option {', '.join(sorted(unknown))}; they know full")
        wishes = [self._wish(prompt) for prompt in prompts]
        return judge(samples, wishes, data, list(self.properties), seed, full=bool(options.get("full", False)))

    def scores(  # type: ignore[override]
        self, samples: list[Molecule], prompts: Sequence[Any], data: MoleculeData, seed: int
    ) -> dict[str, Score]:
        """Verdicts on each molecule, and its strain, which only a strictly valid one has."""
        found = validity(samples)
        strain = mmff_strain(samples).energies
        return {
            "strict_valid": verdicts(found.strict, "strictly valid"),
            "valid_connected": verdicts(found.connected, "valid and connected"),
            "stable": verdicts(stability(samples).molecules, "all atoms are stable"),
            "strain": Score(strain, "strain of the strictly valid (MMFF94)", "lower", unit="kcal/mol"),
        }

    def features(self, samples: list[Molecule], data: MoleculeData) -> np.ndarray:  # type: ignore[override]
        """Composition and geometry, standardised by the training molecules'."""
        if self._moments is None or self._moments[0] is not data:
            self._moments = data, moments(data.training_reference(FEATURE_MOLECULES, 0))
        return features(samples, *self._moments[1])

    def real(self, data: MoleculeData, n: int, seed: int) -> tuple[list[Molecule], Sequence[Any]]:  # type: ignore[override]
        """Held-out molecules."""
        found = data.reference(n, seed)
        return found, [Wish(n_atoms=len(molecule)) for molecule in found]

    def show(self, samples: list[Molecule], prompts: Sequence[Any]) -> list[str]:
        """Each as balls and sticks that can be turned."""
        return [fragment(molecule, text) for molecule, text in zip(samples, self._texts(prompts), strict=True)]

    def read(self, path: Path) -> Mapping[str, Any]:
        molecule = read_molecule(path)
        index = {pair: token for token, pair in enumerate(self.vocabulary)}
        pairs = list(zip(molecule.elements.tolist(), molecule.charges.tolist(), strict=True))
        if unknown := [pair for pair in pairs if pair not in index]:
            raise UserError(f"{path} has atoms {unknown[0]} that this model does not know: {', '.join(self.tokens)}")
        item = {
            "positions": torch.from_numpy(molecule.positions).float(),
            "atoms": torch.tensor([index[pair] for pair in pairs]),
            "bonds": torch.from_numpy(molecule.bonds),
            "properties": torch.full((len(self.columns),), float("nan")),
            "smiles": "",
            "index": 0,
        }
        return collate([item])  # type: ignore[list-item, return-value]

    def _wish(self, prompt: Any) -> Wish:
        return read_prompt(prompt, list(self.properties))

    def _size(self, wish: Wish, seed: int, sample: int) -> int:
        least = 1
        if wish.smiles is not None or wish.scaffold is not None:
            least = len(structure(wish))
            if wish.smiles is not None:
                return least
            least += 1
        return self.sizes_known.draw(seed, sample, wish.properties, least)

    def _told(self, values: Tensor) -> dict[str, Tensor]:
        """Standardised values (B, P), zero where they are not known, and which are known."""
        known = ~values.isnan()
        mean, std = (torch.tensor(v, device=values.device) for v in zip(*self.properties.values(), strict=True))
        told = torch.where(known, (values - mean) / std, 0.0).float()
        return {"properties": told, "known": known.float()}

    def _texts(self, prompts: Sequence[Any]) -> list[str]:
        return ["" if prompt is None else str(self._wish(prompt)) for prompt in prompts]

    @classmethod
    def adapt(cls, config: dict[str, Any], data: Any) -> dict[str, Any]:
        """Tokens, scale, sizes, properties' means and spreads, and the sizes of the backbone."""
        config = copy.deepcopy(config)
        modality, backbone = config["modality"], config["backbone"]
        found = data.statistics
        known = {"tokens": list(data.tokens), "scale": round(found.scale, 4), "sizes": found.sizes.tolist()}
        modality |= {key: value for key, value in known.items() if modality.get(key) is None}
        if modality.get("properties") is None:
            modality["properties"] = dict.fromkeys(data.conditioned)
        names = list(modality["properties"])
        if unknown := [name for name in names if name not in data.properties]:
            raise UserError(f"the data has no property {unknown[0]}; it has {', '.join(data.properties) or 'none'}")
        rows, columns = data.train_set.indices, list(data.properties)
        for name in names:
            if modality["properties"][name] is None:
                pair = found.mean[columns.index(name)], found.std[columns.index(name)]
                modality["properties"][name] = [round(float(value), 6) for value in pair]
        if modality.get("columns") is None:
            modality["columns"] = columns
        if modality.get("sizes_of") is None:
            values = data.whole.arrays.properties[rows]
            modality["sizes_of"] = {
                name: by_property(values[:, columns.index(name)], data.whole.sizes[rows]) for name in names
            }
        sizes = {"tokens": len(modality["tokens"]), "properties": len(names)}
        sizes["one_hot"] = modality.get("one_hot") is not None  # type: ignore[assignment]
        backbone |= {key: value for key, value in sizes.items() if key in backbone and backbone[key] is None}
        shares = {"atoms": found.tokens.tolist(), "bonds": found.bonds.tolist()}
        for name, law in ((config.get("processes") or {}).get("tokens") or {}).items():
            if isinstance(law, dict) and "shares" in law and law["shares"] is None:
                law["shares"] = [round(float(share), 6) for share in shares[name]]
        return config
