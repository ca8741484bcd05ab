"""The data modules of molecules: what is trained on, what is held out, prompts and real molecules to judge on.

Making a data module costs nothing; `setup` computes or reads, and later runs find the result in the cache (`cache`). A
molecule is held out by a hash of its canonical SMILES: all conformers of one molecule lie on one side, and more data
move none from one side to the other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property, partial

import numpy as np
from jaxtyping import Int64
from torch.utils.data import Dataset

from framework.data.bad_items import BadItem, check_share, write_skipped
from framework.data.counter import uniforms
from framework.data.parts import Part, split_by_name, turns
from framework.data.two_sets import TwoSets
from framework.errors import DataError, UserError
from framework.training.buckets import BucketedLoader
from framework.training.loader import ResumableLoader
from modalities.molecules.cache import Found
from modalities.molecules.gdb_mini import load_gdb_mini
from modalities.molecules.molecule import Molecule
from modalities.molecules.molecule_set import MULTIPLE, Item, MoleculeSet, Statistics, collate
from modalities.molecules.sources import load_path


class MoleculeData(TwoSets[Item]):
    """Batches of molecules of like size (see `molecule_set.Batch`), in an order that is a function of the seed.

    Args:
        load: the molecules and what was left out; called once, when it is needed.
        origin: what messages call the data.
        conditioned: properties that prompts name; () for prompts that name a size alone.
        held_out_share: of the molecules by canonical SMILES.
        max_bad_share: more molecules that cannot be used are an error.
        skipped_path: where their table goes.
    """

    def __init__(
        self,
        load: Callable[[], Found],
        *,
        origin: str,
        conditioned: Sequence[str] = (),
        held_out_share: float = 0.1,
        max_bad_share: float = 0.05,
        skipped_path: str | None = None,
        batch_size: int = 64,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(
            lambda: self.parts()[0],
            lambda: self.parts()[1],
            batch_size=batch_size,
            num_workers=num_workers,
            seed=seed,
        )
        self._load, self.origin, self.conditioned = load, origin, tuple(conditioned)
        self.held_out_share, self.max_bad_share, self.skipped_path = held_out_share, max_bad_share, skipped_path
        self.bad_items: tuple[BadItem, ...] = ()

    @cached_property
    def whole(self) -> MoleculeSet:
        """All good molecules, read at the first call.

        Raises:
            DataError: too many are bad.
            UserError: a property of `conditioned` is none of the data's.
        """
        found = self._load()
        self.bad_items = tuple(found.bad)
        if self.skipped_path is not None:
            write_skipped(self.bad_items, self.skipped_path)
        self.check(found)
        if missing := [name for name in self.conditioned if name not in found.molecules.names]:
            has = ", ".join(found.molecules.names) or "none"
            raise UserError(f"data.conditioned: {self.origin} has no property {', '.join(missing)}; it has {has}")
        return MoleculeSet(found.molecules)

    def check(self, found: Found) -> None:
        """Raise DataError if too many molecules are bad."""
        check_share(found.bad, len(found.molecules) + len(found.bad), self.max_bad_share, self.origin)

    def parts(self) -> tuple[Part[Item], Part[Item]]:
        """The training part and the held-out part."""
        return split_by_name(self.whole, self.whole.smiles, self.held_out_share)

    def prepare_data(self) -> None:
        """Fill the cache, in one of several processes, before all of them read it."""
        _ = self.whole

    def _loader(self, items: Dataset[Item], shuffle: bool) -> ResumableLoader:
        return BucketedLoader(
            items,
            self.whole.sizes[_rows(items)],
            batch_size=self.batch_size,
            seed=self.seed,
            shuffle=shuffle,
            width=MULTIPLE,
            num_workers=self.num_workers,
            collate_fn=collate,
        )

    @property
    def tokens(self) -> tuple[str, ...]:
        """The names of the atoms' tokens: "H", "C", "N", "N+"; those of held-out molecules too."""
        return self.whole.tokens

    @property
    def vocabulary(self) -> tuple[tuple[int, int], ...]:
        """(atomic number, formal charge) of each token."""
        return self.whole.vocabulary

    @property
    def properties(self) -> tuple[str, ...]:
        """The names of the columns of a batch's `properties`."""
        return self.whole.properties

    @cached_property
    def statistics(self) -> Statistics:
        """What the training molecules are like."""
        self.setup()
        return self.whole.statistics(_rows(self.train_set))

    @cached_property
    def sizes(self) -> Int64[np.ndarray, " n"]:
        """The numbers of atoms of the training molecules."""
        self.setup()
        return self.whole.sizes[_rows(self.train_set)]

    @property
    def size_histogram(self) -> dict[int, int]:
        """How many training molecules have how many atoms; sizes that occur alone."""
        return {size: int(count) for size, count in enumerate(self.statistics.sizes) if count}

    @cached_property
    def train_smiles(self) -> frozenset[str]:
        """The canonical SMILES (`molecule.canonical_smiles`) of the training molecules: what is not novel."""
        self.setup()
        return frozenset(self.whole.smiles[row] for row in _rows(self.train_set)) - {""}

    def molecules(self, indices: Sequence[int] | np.ndarray) -> list[Molecule]:
        """Molecules by their numbers in `whole`, as items have them in `index`."""
        return self.whole.molecules(indices)

    def prompts(self, n: int, seed: int) -> list[str]:
        """`n` prompts to judge on, chosen by the seed.

        "n_atoms=14", with sizes as often as the training molecules have them; where `conditioned` names properties
        "gap=5.5 n_atoms=18", each with the numbers of one held-out molecule.
        """
        if not self.conditioned:
            chances = uniforms(seed, "prompts", np.arange(n), 1)[:, 0]
            sizes = np.sort(self.sizes)
            return [f"n_atoms={sizes[int(chance * len(sizes))]}" for chance in chances]
        columns = np.array([self.properties.index(name) for name in self.conditioned])
        rows = _rows(self.reference_set())
        known = rows[~np.isnan(self.whole.arrays.properties[np.ix_(rows, columns)]).any(axis=1)]
        if not len(known):
            raise DataError(f"{self.origin}: no held-out molecule has all of {', '.join(self.conditioned)}")
        chosen = known[turns(len(known), n, seed, "prompts")]
        values = self.whole.arrays.properties[np.ix_(chosen, columns)].tolist()
        return [
            " ".join(
                [*(f"{name}={value:.6g}" for name, value in zip(self.conditioned, row, strict=True)), f"n_atoms={n}"]
            )
            for row, n in zip(values, self.whole.sizes[chosen].tolist(), strict=True)
        ]

    def reference(self, n: int, seed: int) -> list[Molecule]:
        """`n` different molecules that were not trained on, chosen by the seed; all if there are fewer."""
        return self._chosen(self.reference_set(), n, seed)

    def training_reference(self, n: int, seed: int) -> list[Molecule]:
        """The same of the molecules that were trained on."""
        self.setup()
        return self._chosen(self.train_set, n, seed)

    def _chosen(self, items: Dataset[Item], n: int, seed: int) -> list[Molecule]:
        rows = _rows(items)
        return self.molecules(rows[turns(len(rows), min(n, len(rows)), seed, "reference")])


def _rows(items: Dataset[Item]) -> np.ndarray:
    assert isinstance(items, Part)  # `parts` makes nothing else
    return items.indices


class GdbMiniData(MoleculeData):
    """gdb-mini (see `gdb_mini`): enumerated and embedded at the first use, in about a minute."""

    def __init__(
        self,
        largest: int = 7,
        count: int = 10_000,
        conditioned: Sequence[str] = (),
        held_out_share: float = 0.1,
        max_bad_share: float = 0.05,
        skipped_path: str | None = None,
        batch_size: int = 64,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(
            partial(load_gdb_mini, largest, count),
            origin="gdb-mini",
            conditioned=conditioned,
            held_out_share=held_out_share,
            max_bad_share=max_bad_share,
            skipped_path=skipped_path,
            batch_size=batch_size,
            num_workers=num_workers,
            seed=seed,
        )


class MoleculeFileData(MoleculeData):
    """Your own molecules: an SDF, MOL, XYZ or SMILES file, or a folder of them (see `sources`)."""

    def __init__(
        self,
        path: str,
        elements: Sequence[str] | None = None,
        net_charge: int | None = None,
        properties: Sequence[str] | None = None,
        conditioned: Sequence[str] = (),
        held_out_share: float = 0.1,
        max_bad_share: float = 0.05,
        skipped_path: str | None = None,
        batch_size: int = 64,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(
            partial(load_path, path, elements, net_charge, properties),
            origin=str(path),
            conditioned=conditioned,
            held_out_share=held_out_share,
            max_bad_share=max_bad_share,
            skipped_path=skipped_path,
            batch_size=batch_size,
            num_workers=num_workers,
            seed=seed,
        )
