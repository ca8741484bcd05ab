"""PoseBusters' checks (Buttenschoen et al. 2024, arXiv:2308.05777), by its own package.

A molecule passes if it passes every test: it loads, is sanitised, converts to InChI, is one fragment, has no radicals;
bond lengths and angles are within 25 % of distance geometry's bounds and no atoms clash; aromatic rings and double
bonds are flat, other rings are not. The full configuration (`mol`) also wants an energy of at most 100 times the mean
of 50 conformers, which costs many times as much as all of the fast one (`mol_fast`).

Of all samples: what cannot be tested has not passed. The tests differ between versions of the package, so name it (0.6
added the one of radicals). Molecules are given as they were generated, and no hydrogens are added.
"""

from __future__ import annotations

import importlib.metadata
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np
import rdkit
from jaxtyping import Bool
from rdkit import rdBase

from framework.errors import UserError
from framework.metrics.measurement import Measurement
from modalities.molecules.metrics.measured import share
from modalities.molecules.metrics.parallel import Progress, each
from modalities.molecules.molecule import Molecule, to_rdkit

FAST, FULL = "mol_fast", "mol"
ENERGY = "energy_ratio"  # the function that the full configuration has and the fast one has not


@dataclass(frozen=True, eq=False)
class Busted:
    """The tests of M molecules.

    Attributes:
        tests: by name, which passed.
        costly: names of those that the fast configuration leaves out.
        version: of the package.
        config: its configuration.
    """

    tests: Mapping[str, Bool[np.ndarray, " m"]]
    costly: frozenset[str]
    version: str
    config: str

    def passed(self, *, costly: bool) -> Bool[np.ndarray, " m"]:
        """Which pass all tests; without the costly ones it is the verdict of the fast configuration."""
        return np.logical_and.reduce([held for name, held in self.tests.items() if costly or name not in self.costly])

    def measurements(self, seed: int) -> dict[str, Measurement]:
        """`posebusters_fast`, `posebusters_full` if the energy was tested, and `posebusters/TEST` of each."""
        result = {"posebusters_fast": share(self.passed(costly=False), seed)}
        if self.costly:
            result["posebusters_full"] = share(self.passed(costly=True), seed)
        return result | {f"posebusters/{name}": share(held, seed) for name, held in self.tests.items()}


def posebusters(
    molecules: Sequence[Molecule],
    *,
    config: str = FAST,
    limit: int | None = None,
    processes: int = 1,
    progress: Progress | None = None,
) -> Busted:
    """Test molecules.

    Arguments:
        config: FAST or FULL.
        limit: of molecules: only the first so many are tested.
        processes: how many work at once.
        progress: called with (molecules done, molecules).

    Raises:
        UserError: the package is not installed, or `config` is none of the two.
    """
    if config not in (FAST, FULL):
        raise UserError(f"PoseBusters has no configuration {config!r} for single molecules: {FAST} or {FULL}")
    try:
        version = importlib.metadata.version("posebusters")
        names, costly = _tests(config)
    except ImportError as error:  # also PackageNotFoundError
        raise UserError(
            f"PoseBusters' tests need its package ({error}): pip install 'diffract[molecules-judge]'"
        ) from error
    rows = each(partial(_bust, config=config), molecules[:limit], processes, progress)
    held = np.array([[row.get(name, False) for name in names] for row in rows], bool).reshape(len(rows), len(names))
    return Busted(dict(zip(names, held.T, strict=True)), costly, version, config)


def _bust(molecule: Molecule, config: str) -> dict[str, bool]:
    """Which tests a molecule passed; those that could not be done are missing or False."""
    if len(molecule) == 0 or not np.isfinite(molecule.positions).all():
        return {}
    with _silence():
        try:
            table = _buster(config).bust(to_rdkit(molecule))
        except Exception:  # whatever stops its code: the molecule was not found to be in order
            return {}
    # A test that was not done is NA, which is no True.
    return {name: table[name].iloc[0] is True or table[name].iloc[0] is np.True_ for name in table.columns}


@contextmanager
def _silence() -> Iterator[None]:
    """No word from the package or from RDKit, and RDKit's log as it was: the package switches all of it on.

    What it does once, when it is imported, stays: RDKit's messages then go through Python's logger `rdkit`.
    """
    status = dict(line.split(":") for line in rdBase.LogStatus().split())
    stream = rdkit.log_handler.stream
    loggers = [logging.getLogger(name) for name in ("rdkit", *_loggers("posebusters"))]
    disabled = [logger.disabled for logger in loggers]
    for logger in loggers:
        logger.disabled = True
    try:
        yield
    finally:
        for logger, was in zip(loggers, disabled, strict=True):
            logger.disabled = was
        rdkit.log_handler.setStream(stream)
        for channel, state in status.items():
            (rdBase.EnableLog if state == "enabled" else rdBase.DisableLog)(channel)


def _loggers(package: str) -> list[str]:
    return [name for name in logging.root.manager.loggerDict if name.split(".")[0] == package]


def _tests(config: str) -> tuple[list[str], frozenset[str]]:
    """The columns of PoseBusters' table, and which of them are the energy's."""
    names, costly = [], set()
    for module in _buster(config).config["modules"]:
        for output in module.get("chosen_binary_test_output", []):
            name = module.get("rename_outputs", {}).get(output, output).lower().replace(" ", "_")
            names.append(name)
            if module["function"] == ENERGY:
                costly.add(name)
    return names, frozenset(costly)


@lru_cache(maxsize=2)
def _buster(config: str) -> Any:
    from posebusters import PoseBusters

    return PoseBusters(config=config)
