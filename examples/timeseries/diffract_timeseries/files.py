"""Tables on the disk: a column a channel, a row a step, and nothing where a value is missing."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from jaxtyping import Float

from framework.errors import DataError

SUFFIXES = (".csv", ".parquet")
MISSING = ["", "nan", "NaN", "NA", "null"]

Table = dict[str, Float[np.ndarray, " steps"]]


def read_table(path: Path) -> Table:
    """The numeric columns of a CSV (lines that begin with # are remarks) or Parquet file, NaN where a value is missing.

    Raises:
        DataError: it is no such table, or has no numbers in it.
    """
    try:
        table = pa.parquet.read_table(path) if path.suffix == ".parquet" else _read_csv(path)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as a table: {error}") from error
    numeric = {
        name: np.array(column.cast(pa.float64()).to_pylist(), dtype=np.float64)  # None becomes NaN
        for name, column in zip(table.column_names, table.columns, strict=True)
        if pa.types.is_integer(column.type) or pa.types.is_floating(column.type) or pa.types.is_null(column.type)
    }
    if not numeric or table.num_rows == 0:
        raise DataError(f"{path} has no column of numbers; a table has a column for each channel, with its name on top")
    return numeric


def write_csv(
    path: Path, channels: Sequence[str], values: Float[np.ndarray, "l c"], remarks: Mapping[str, str]
) -> Path:
    """Write one series, with the remarks on top."""
    rows = [",".join("" if np.isnan(x) else f"{x:.7g}" for x in row) for row in values]
    lines = [*(f"# {key}: {' '.join(text.split())}" for key, text in remarks.items()), ",".join(channels), *rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def columns(table: Table, channels: Sequence[str], path: Path) -> Float[np.ndarray, "steps c"]:
    """The columns of these names; all of one that is not there is missing.

    Raises:
        DataError: the table has none of them, or not a single value.
    """
    if not any(name in table for name in channels):
        raise DataError(f"{path} has the columns {', '.join(table)}, and none of the channels {', '.join(channels)}")
    steps = len(next(iter(table.values())))
    values = np.stack([table.get(name, np.full(steps, np.nan)) for name in channels], 1)
    if not np.isfinite(values).any():
        raise DataError(f"{path} has no value in any of its {steps} rows")
    return np.where(np.isfinite(values), values, np.nan)


def _read_csv(path: Path) -> pa.Table:
    text = "".join(line for line in path.open(encoding="utf-8") if not line.startswith("#"))
    options = pa.csv.ConvertOptions(null_values=MISSING, strings_can_be_null=True)
    # A line with an empty cell of the only column is a row, too.
    return pa.csv.read_csv(
        io.BytesIO(text.encode()), parse_options=pa.csv.ParseOptions(ignore_empty_lines=False), convert_options=options
    )
