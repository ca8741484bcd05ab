"""Molecules that took long to compute or to read are kept as a file: $DIFFRACT_CACHE/molecules/<name>-<hash>.npz.

The hash is of all that they depend on, RDKit's version and `VERSION` included. A file that is damaged is made again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import rdkit

from framework.data.bad_items import BadItem
from framework.errors import DataError
from framework.metrics.feature_net import cache_folder
from modalities.molecules.arrays import MoleculeArrays

# Raise it with any change of what is kept, or of how it comes about.
VERSION = 1
logger = logging.getLogger(__name__)


class Found(NamedTuple):
    """Molecules, and what is not among them and why."""

    molecules: MoleculeArrays
    bad: Sequence[BadItem] = ()


def load_or_make(
    name: str, depends_on: Mapping[str, Any], make: Callable[[], Found], folder: Path | None = None
) -> Found:
    """The molecules that were made of the same before, else new ones, which are kept.

    Args:
        name: how the file's name begins.
        depends_on: all that decides what is made, as JSON values; RDKit's version is added.
        make: makes them.
        folder: of the cache; by default `molecules` in $DIFFRACT_CACHE or in ~/.cache/diffract.
    """
    identity = {**depends_on, "rdkit": rdkit.__version__, "version": VERSION}
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
    path = (cache_folder() / "molecules" if folder is None else folder) / f"{name}-{digest}.npz"
    if path.is_file():
        try:
            molecules, record = MoleculeArrays.load(path)
            return Found(molecules, tuple(BadItem(*row) for row in record["bad"]))
        except (DataError, KeyError, TypeError) as error:
            warnings.warn(f"{error}: it is made again", stacklevel=2)
    logger.info("making %s, which is kept in %s", name, path)
    start = time.monotonic()
    found = make()
    logger.info(
        "%s: %d molecules in %.0f s; %d left out", name, len(found.molecules), time.monotonic() - start, len(found.bad)
    )
    try:
        found.molecules.save(path, {"bad": [[item.name, item.reason] for item in found.bad], "identity": identity})
    except OSError as error:
        warnings.warn(f"'{path}' cannot be written ({error}), so the next run makes it again", stacklevel=2)
    return found
