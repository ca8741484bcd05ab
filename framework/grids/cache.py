"""Where fitted grids are kept: a file beside the model for each model, solver, number of steps and way of fitting.

    <run>/grids/gits-dpmpp2m-10-3f9a0c61b2d4.json

The last part of the name is a hash of all that the grid depends on, the network's weights included, so that weights
that change ask for another file, and never read an old one.
"""

from __future__ import annotations

import hashlib
import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from framework.errors import UserError
from framework.grids.fitted import FittedGrid

logger = logging.getLogger(__name__)


@dataclass
class GridCache:
    """Fitted grids in memory and, if there is a folder, in files."""

    folder: Path | None = None
    _memory: dict[str, FittedGrid] = field(default_factory=dict, init=False, repr=False)

    def get(self, name: str, depends_on: str, fit: Callable[[], FittedGrid]) -> FittedGrid:
        """The grid that was fitted to this before, or else a new one, which is kept.

        Args:
            name: how its file begins.
            depends_on: all that it depends on, as text.
            fit: makes a new one.
        """
        digest = hashlib.sha256(depends_on.encode()).hexdigest()[:12]
        file = f"{name}-{digest}.json"
        if file not in self._memory:
            found = self._read(file, depends_on)
            self._memory[file] = found if found is not None else self._make(file, depends_on, fit)
        return self._memory[file]

    def _read(self, file: str, depends_on: str) -> FittedGrid | None:
        if self.folder is None or not (self.folder / file).is_file():
            return None
        try:
            grid = FittedGrid.load(self.folder / file)
        except UserError as error:
            warnings.warn(f"{error}; it is fitted anew", stacklevel=4)
            return None
        return grid if grid.record.get("depends_on") == depends_on else None

    def _make(self, file: str, depends_on: str, fit: Callable[[], FittedGrid]) -> FittedGrid:
        logger.info("fitting %s", file.rpartition("-")[0])
        grid = fit()
        grid = replace(grid, record={**grid.record, "depends_on": depends_on})
        told = ", ".join(f"{name} {error:.3g}" for name, error in grid.record.get("error", {}).items())
        logger.info("fitted in %.1f s; distance to many steps: %s", grid.record["seconds"], told or "not measured")
        if self.folder is not None:
            try:
                grid.save(self.folder / file)
                logger.info("kept in %s", self.folder / file)
            except OSError as error:
                warnings.warn(
                    f"{self.folder / file} cannot be written ({error}), so the next run fits again", stacklevel=4
                )
        return grid
