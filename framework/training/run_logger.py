"""metrics.csv: a row a logged step, durable from the moment it is written, and continued when a run is resumed.

Columns are known only as they come up, so a new column rewrites the file (atomically); any other row is appended. On
resume the rows from the resumed step on are dropped: the run writes them again.
"""

from __future__ import annotations

import csv
import io
from argparse import Namespace
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from framework.files import write_text


class RunLogger(Logger):
    """Metrics of a run as `<folder>/metrics.csv` with the columns `step` and the metrics' names."""

    def __init__(self, folder: str) -> None:
        super().__init__()
        self.path = Path(folder) / "metrics.csv"
        self._columns = ["step"]
        self._rows: list[dict[str, str]] = []

    @property
    def name(self) -> str:
        return "metrics"

    @property
    def version(self) -> str:
        return "0"

    @rank_zero_only
    def resume_at(self, step: int) -> None:
        """Keep what an earlier part of the run wrote up to `step`."""
        if not self.path.exists():
            return
        with self.path.open(newline="") as file:
            reader = csv.DictReader(file)
            self._columns = list(reader.fieldnames or ["step"])
            self._rows = [row for row in reader if int(row["step"]) < step]
        self._rewrite()

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Nothing: the run's configuration is in config.yaml."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        row = {"step": str(step or 0)}
        row |= {name: repr(float(value)) for name, value in metrics.items() if name != "epoch"}
        if self._rows and self._rows[-1]["step"] == row["step"]:
            self._rows[-1] |= row
        else:
            self._rows.append(row)
            if set(row) <= set(self._columns) and self.path.exists():
                self._append(row)
                return
        self._columns += [name for name in row if name not in self._columns]
        self._rewrite()

    def _append(self, row: dict[str, str]) -> None:
        with self.path.open("a", newline="") as file:
            csv.DictWriter(file, self._columns, restval="").writerow(row)

    def _rewrite(self) -> None:
        text = io.StringIO()
        writer = csv.DictWriter(text, self._columns, restval="")
        writer.writeheader()
        writer.writerows(self._rows)
        write_text(self.path, text.getvalue())
