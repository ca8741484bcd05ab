"""Strain: how much energy a molecule gives off when it relaxes, and how far its atoms move.

    strain = E(x) - E(x after minimisation)        in kcal/mol
    rmsd   = that of all atoms after superposition, in Angstrom

with the MMFF94 force field (Halgren 1996), or with GFN2-xTB (Bannwarth et al. 2019), a tight-binding method, through
tblite. Only what is strictly valid has an energy of its own: with hydrogens missing the number would be another
molecule's. What has none, and what does not converge, is a failure with its reason: the median is of the others, so
read it beside how many these are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from rdkit.Chem import rdForceFieldHelpers
from rdkit.rdBase import BlockLogs

from framework.errors import UserError
from framework.metrics.measurement import Measurement
from modalities.molecules.metrics.measured import mean, median, share
from modalities.molecules.metrics.parallel import Progress, each
from modalities.molecules.metrics.validity import strict_mol
from modalities.molecules.molecule import Molecule

MMFF_ITERATIONS = 2000
XTB_ITERATIONS = 500
XTB_GRADIENT = 5e-4  # Hartree/Bohr, the largest component at which a geometry counts as relaxed
KCAL_PER_HARTREE, BOHR = 627.5094740631, 0.529177210903
INVALID, PARAMETERS, UNCONVERGED, FAILED = "not strictly valid", "no parameters", "not converged", "no energy"


@dataclass(frozen=True, eq=False)
class Relaxation:
    """One molecule's; NaN with a reason where it failed."""

    strain: float = float("nan")
    rmsd: float = float("nan")
    failure: str = ""


@dataclass(frozen=True, eq=False)
class Strain:
    """Of M molecules.

    Attributes:
        energies: strain in kcal/mol, NaN where it failed.
        rmsd: in Angstrom, NaN where it failed.
        failures: how many failed for which reason.
    """

    energies: Float[np.ndarray, " m"]
    rmsd: Float[np.ndarray, " m"]
    failures: Mapping[str, int]

    def measurements(self, seed: int, name: str) -> dict[str, Measurement]:
        """`NAME_median` and `NAME_mean` in kcal/mol, `NAME_rmsd` (median) in Angstrom, over those that converged, whose
        share of all is `NAME_measured`."""
        done = np.isfinite(self.energies)
        return {
            f"{name}_median": median(self.energies[done], seed),
            f"{name}_mean": mean(self.energies[done], seed),
            f"{name}_rmsd": median(self.rmsd[done], seed),
            f"{name}_measured": share(done, seed),
        }


def mmff_strain(
    molecules: Sequence[Molecule], *, limit: int | None = None, processes: int = 1, progress: Progress | None = None
) -> Strain:
    """Strain by MMFF94.

    Arguments:
        limit: of molecules: only the first so many are relaxed.
        processes: how many work at once.
        progress: called with (molecules done, molecules).
    """
    return _strain(mmff_relaxation, molecules[:limit], processes, progress)


def xtb_strain(
    molecules: Sequence[Molecule], *, limit: int | None = None, processes: int = 1, progress: Progress | None = None
) -> Strain:
    """Strain by GFN2-xTB; about 0.1 s each for molecules of QM9. Arguments as `mmff_strain`.

    Raises:
        UserError: tblite is not installed.
    """
    try:
        import tblite.interface  # noqa: F401
    except ImportError as error:
        raise UserError(f"GFN2-xTB needs tblite ({error}): pip install 'diffract[molecules-judge]'") from error
    return _strain(xtb_relaxation, molecules[:limit], processes, progress)


def mmff_relaxation(molecule: Molecule) -> Relaxation:
    """One molecule's by MMFF94."""
    mol = strict_mol(molecule)
    if mol is None:
        return Relaxation(failure=INVALID)
    with BlockLogs():
        properties = rdForceFieldHelpers.MMFFGetMoleculeProperties(mol)
        field = None if properties is None else rdForceFieldHelpers.MMFFGetMoleculeForceField(mol, properties)
        if field is None:
            return Relaxation(failure=PARAMETERS)
        before = field.CalcEnergy()
        unfinished = field.Minimize(maxIts=MMFF_ITERATIONS)
        after = field.CalcEnergy()
    if not np.isfinite(before) or not np.isfinite(after):
        return Relaxation(failure=FAILED)
    if unfinished:
        return Relaxation(failure=UNCONVERGED)
    return Relaxation(before - after, superposed_rmsd(mol.GetConformer().GetPositions(), molecule.positions))


def xtb_relaxation(molecule: Molecule) -> Relaxation:
    """One molecule's by GFN2-xTB, its charge the sum of the formal ones and its shell closed."""
    from scipy.optimize import minimize
    from tblite.exceptions import TBLiteRuntimeError, TBLiteValueError
    from tblite.interface import Calculator

    if strict_mol(molecule) is None:
        return Relaxation(failure=INVALID)
    start = np.asarray(molecule.positions, np.float64) / BOHR
    try:
        calculator = Calculator("GFN2-xTB", molecule.elements, start, charge=float(molecule.charges.sum()))
        calculator.set("verbosity", 0)

        def energy(flat: Float[np.ndarray, " c"]) -> tuple[float, Float[np.ndarray, " c"]]:
            calculator.update(positions=flat.reshape(-1, 3))
            point = calculator.singlepoint()
            return float(point.get("energy")), point.get("gradient").reshape(-1)

        before = energy(start.reshape(-1))[0]
        options = {"maxiter": XTB_ITERATIONS, "gtol": XTB_GRADIENT, "ftol": 0.0}
        relaxed = minimize(energy, start.reshape(-1), jac=True, method="L-BFGS-B", options=options)
    except (TBLiteRuntimeError, TBLiteValueError):
        return Relaxation(failure=FAILED)
    if np.abs(relaxed.jac).max() > XTB_GRADIENT:
        return Relaxation(failure=UNCONVERGED)
    rmsd = superposed_rmsd(relaxed.x.reshape(-1, 3) * BOHR, molecule.positions)
    return Relaxation((before - float(relaxed.fun)) * KCAL_PER_HARTREE, rmsd)


def superposed_rmsd(x: Float[np.ndarray, "n 3"], y: Float[np.ndarray, "n 3"]) -> float:
    """The least root mean square distance of N atoms over rotations and translations (Kabsch 1976), reflections not."""
    a, b = x - x.mean(0), y - y.mean(0)
    left, scales, right = np.linalg.svd(a.T @ b)
    scales[-1] *= np.sign(np.linalg.det(left) * np.linalg.det(right))
    squared = (a**2).sum() + (b**2).sum() - 2 * scales.sum()
    return float(np.sqrt(max(squared, 0.0) / len(x)))


def _strain(
    relax: Callable[[Molecule], Relaxation], molecules: Sequence[Molecule], processes: int, progress: Progress | None
) -> Strain:
    results = each(relax, molecules, processes, progress)
    failures = Counter(result.failure for result in results if result.failure)
    return Strain(
        np.array([result.strain for result in results], np.float64),
        np.array([result.rmsd for result in results], np.float64),
        dict(failures.most_common()),
    )
