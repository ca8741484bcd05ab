"""A study's folder as it is written: each file is there as a whole or not at all, and a cell's JSON comes last.

    study.json                 what was asked for
    cells/<key>.json           a cell that is finished, or its failure with the reason
    cells/<key>.parquet        one row a sample: index, prompt, error, and a column for each score
    cells/<key>.safetensors    "features" (n, D)
    cells/<key>/               the first few samples in the format of their field, and as HTML: show.json
    reference/                 the exact solutions, and the features of real items
    probe/<run>.json           what the run costs on this machine

So a study that was killed goes on where it was: what has a JSON is done. `framework/studies/loaded.py` reads all this.
"""

from __future__ import annotations

import io
import json
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.numpy import save as format_tensors

from framework.errors import UserError
from framework.files import TEMPORARY, older, remove_leftovers, write_atomically, write_text

LEFTOVER = 24 * 3600.0  # seconds after which nobody is writing a cell any more


class StudyFolder:
    """Where a study lies."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.cells, self.references = self.path / "cells", self.path / "reference"

    def prepare(self) -> None:
        """Make the folder, and clear away what a killed process left half written.

        Other parts of the study may be writing: what is younger than a day is theirs.
        """
        for folder in (self.cells, self.references, self.path / "probe"):
            folder.mkdir(parents=True, exist_ok=True)
            remove_leftovers(folder, older_than=LEFTOVER)
        for leftover in self.cells.glob(f"{TEMPORARY}*/"):
            if older(leftover, LEFTOVER):
                shutil.rmtree(leftover, ignore_errors=True)

    def json(self, name: str) -> Any | None:
        """The content of a JSON file; None if it is not there or damaged."""
        try:
            return json.loads((self.path / name).read_text())
        except (OSError, ValueError):
            return None

    def write_json(self, name: str, content: Any) -> None:
        """Write a JSON file; what is not a number becomes null."""
        write_text(self.path / name, json.dumps(finite(content), indent=1, allow_nan=False) + "\n")

    def done(self, key: str) -> bool:
        """Whether a cell has ended, well or badly."""
        return (self.cells / f"{key}.json").is_file()

    def status(self, key: str) -> str | None:
        """How a cell ended; None if it has not."""
        found = self.json(f"cells/{key}.json")
        return None if found is None else str(found["status"])

    def contents(self) -> dict[str, str]:
        """The key of a finished cell for each content that there is."""
        found: dict[str, str] = {}
        for file in sorted(self.cells.glob("*.json")):
            record = self.json(f"cells/{file.name}")
            if record is not None and record.get("status") == "ok":
                found.setdefault(str(record.get("content")), str(record["key"]))
        return found

    def write_cell(
        self,
        record: Mapping[str, Any],
        columns: Mapping[str, Sequence[Any] | np.ndarray] | None = None,
        features: np.ndarray | None = None,
        show: Callable[[Path], object] | None = None,
    ) -> None:
        """Write a cell's files, its JSON last.

        Args:
            record: the JSON.
            columns: one row a sample.
            features: (n, D).
            show: writes samples into a folder that it is given.
        """
        key = record["key"]
        if columns is not None:
            buffer = io.BytesIO()
            pq.write_table(pa.table({name: _column(values) for name, values in columns.items()}), buffer)
            _write(self.cells / f"{key}.parquet", buffer.getvalue())
        if features is not None:
            code = format_tensors({"features": np.ascontiguousarray(features, np.float32)})
            _write(self.cells / f"{key}.safetensors", code)
        if show is not None:
            self._write_folder(self.cells / key, show)
        self.write_json(f"cells/{key}.json", record)

    def copy_cell(self, source: str, record: Mapping[str, Any]) -> None:
        """A cell of the same content as a finished one, under its own name."""
        found = self.json(f"cells/{source}.json") or {}
        key = record["key"]
        for suffix in (".parquet", ".safetensors"):
            file = self.cells / f"{source}{suffix}"
            if file.is_file():
                _write(self.cells / f"{key}{suffix}", file.read_bytes())
        folder = self.cells / source
        if folder.is_dir():
            self._write_folder(self.cells / key, lambda to: shutil.copytree(folder, to, dirs_exist_ok=True))
        self.write_json(f"cells/{key}.json", {**found, **record})

    def _write_folder(self, folder: Path, write: Callable[[Path], object]) -> None:
        fresh = Path(tempfile.mkdtemp(prefix=TEMPORARY, dir=folder.parent))
        try:
            fresh.chmod(0o755)
            write(fresh)
            shutil.rmtree(folder, ignore_errors=True)
            fresh.rename(folder)
        except BaseException:
            shutil.rmtree(fresh, ignore_errors=True)
            raise

    def check_is_free(self, name: str) -> None:
        """Refuse a folder that holds something else.

        Raises:
            UserError: it holds another study, or files of no study.
        """
        info = self.json("study.json")
        if info is not None and info.get("name") != name:
            raise UserError(f"out={self.path} holds the study '{info.get('name')}'; give '{name}' a folder of its own")
        known = {"study.json", "cells", "reference", "probe", "tables", "figures", "report.html", "runs"}
        if info is None and self.path.is_dir():
            strange = sorted(file.name for file in self.path.iterdir() if file.name not in known)
            if strange and not self.cells.is_dir():
                raise UserError(f"out={self.path} holds {strange[0]}, which is no study; name a folder that is new")


def finite(value: Any) -> Any:
    """Plain values with None for numbers that JSON has not."""
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value


def _write(path: Path, content: bytes) -> None:
    write_atomically(path, lambda file: file.write(content))


def _column(values: Sequence[Any] | np.ndarray) -> pa.Array:
    return pa.array(values) if len(values) and isinstance(values[0], str | int) else pa.array(np.asarray(values, float))
