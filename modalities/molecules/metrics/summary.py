"""All metrics of a set of molecules, each with its interval and with that of real molecules beside it.

    valid_all, valid_connected, strict_valid      of all samples                                      (`validity`)
    atom_stability, molecule_stability            by explicit bonds; of all atoms, of all samples     (`stability`)
    unique, novel, vun                            of the valid and connected, of the unique, of all   (`novelty`)
    edm_atom_stability, edm_molecule_stability,
    edm_valid, edm_unique                         by bonds that are looked up from distances          (`edm_lookup`)
    bond_length_w1, angle_w1, dihedral_w1         distances to the data, Angstrom and degrees, over valid samples, and
    bond_length_covered, ...                      the share of the data that has a type in them       (`geometry`)
    size_js, element_js                           divergences in bits                                 (`geometry`)
    mmff_strain_median, _mean, _rmsd, _measured   kcal/mol and Angstrom, and of how many              (`strain`)
    with full: xtb_strain_...                     the same by GFN2-xTB                                (`strain`)
               posebusters_fast, posebusters_full, posebusters/TEST      of all samples               (`posebusters`)
    ceiling/NAME                                  NAME for held-out real molecules in place of the samples

Each n is the number that the value is a share or a mean of: atoms, samples, valid ones.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence, Set

import numpy as np

from framework.errors import DataError
from framework.metrics.measurement import Measurement
from modalities.molecules.metrics.edm_lookup import edm_lookup
from modalities.molecules.metrics.geometry import composition, geometry
from modalities.molecules.metrics.novelty import novelty
from modalities.molecules.metrics.parallel import Progress
from modalities.molecules.metrics.posebusters import FULL, posebusters
from modalities.molecules.metrics.stability import stability
from modalities.molecules.metrics.strain import mmff_strain, xtb_strain
from modalities.molecules.metrics.validity import validity
from modalities.molecules.molecule import Molecule


def judge(
    samples: Sequence[Molecule],
    reference: Sequence[Molecule],
    train_smiles: Set[str],
    seed: int,
    full: bool = False,
    *,
    limit: int | None = None,
    processes: int = 1,
    progress: Progress | None = None,
) -> dict[str, Measurement]:
    """Measure samples against real molecules.

    Arguments:
        samples: generated molecules.
        reference: real molecules that the model did not learn from. A random half is what distributions are compared
            with; the other, at most as many as the samples, takes the place of the samples for the ceilings.
        train_smiles: of the training molecules, written by `canonical_smiles`.
        seed: of the samples; also of the halves, the blocks and the bootstraps.
        full: also GFN2-xTB and PoseBusters, which take about a second for each molecule.
        limit: of samples, and of real molecules, that `full` looks at; None: all.
        processes: of `full`.
        progress: of `full`: called with (molecules done, molecules), for one part after the other.

    Raises:
        DataError: there are no samples, or fewer than two real molecules.
    """
    if not samples or len(reference) < 2:
        raise DataError(
            f"{len(samples)} samples and {len(reference)} real molecules: at least 1 and 2 are needed to compare them"
        )
    order = np.random.default_rng(seed).permutation(len(reference))
    half = (len(reference) + 1) // 2
    real = [reference[i] for i in order[:half]]
    kept = [reference[i] for i in order[half:]][: len(samples)]
    result: dict[str, Measurement] = {}
    for prefix, molecules in {"": samples, "ceiling/": kept}.items():
        measured = _measured(molecules, real, train_smiles, seed)
        if full:
            measured |= _thorough(molecules, seed, limit, processes, progress)
        result |= {prefix + name: measurement for name, measurement in measured.items()}
    return result


def versions() -> dict[str, str]:
    """Versions of the packages that verdicts depend on, for those that are installed."""
    found = {}
    for name in ("rdkit", "posebusters", "tblite"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _measured(
    molecules: Sequence[Molecule], real: Sequence[Molecule], train_smiles: Set[str], seed: int
) -> dict[str, Measurement]:
    verdicts = validity(molecules)
    valid = [molecule for molecule, held in zip(molecules, verdicts.valid, strict=True) if held]
    result = verdicts.measurements(seed)
    result |= stability(molecules).measurements(seed)
    result |= novelty(verdicts.connected_smiles(), train_smiles, seed)
    result |= edm_lookup(molecules).measurements(seed)
    result |= geometry(valid, real, seed)
    result |= composition(molecules, real, seed)
    return result | mmff_strain(molecules).measurements(seed, "mmff_strain")


def _thorough(
    molecules: Sequence[Molecule], seed: int, limit: int | None, processes: int, progress: Progress | None
) -> dict[str, Measurement]:
    relaxed = xtb_strain(molecules, limit=limit, processes=processes, progress=progress)
    busted = posebusters(molecules, config=FULL, limit=limit, processes=processes, progress=progress)
    return relaxed.measurements(seed, "xtb_strain") | busted.measurements(seed)
