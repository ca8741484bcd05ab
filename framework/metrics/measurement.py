"""A measured number is never alone: it carries its interval, the number of samples and the seed.

`metrics.json` is an interface that scripts read: `{name: {value, low, high, n, seed}}` in strict JSON, in
which what could not be measured is `null` (NaN in Python).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from rich.table import Table

from framework.files import write_text


@dataclass(frozen=True)
class Measurement:
    """A value with its 95 % interval, the number of samples behind it and the seed of its random choices.

    `value`, `low` and `high` are NaN where they could not be measured (too few samples).
    """

    value: float
    low: float
    high: float
    n: int
    seed: int

    def to_dict(self) -> dict[str, float | int | None]:
        """Return the five fields in plain Python types, with None for what is not finite."""
        return {
            "value": _finite_or_none(self.value),
            "low": _finite_or_none(self.low),
            "high": _finite_or_none(self.high),
            "n": int(self.n),
            "seed": int(self.seed),
        }


def write_metrics(path: str | Path, metrics: Mapping[str, Measurement]) -> None:
    """Write measurements as strict JSON; a reader sees the old file or the new one, never a part."""
    content = {name: measurement.to_dict() for name, measurement in metrics.items()}
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def read_metrics(path: str | Path) -> dict[str, Measurement]:
    """Read what `write_metrics` wrote.

    Raises:
        ValueError: if the file is not JSON of that form; the file and the metric are named.
    """
    try:
        content = json.loads(Path(path).read_text())
    except ValueError as error:
        raise ValueError(f"{path} is not a metrics file: it is not JSON ({error})") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} is not a metrics file: expected an object of name: measurement")
    expected = {field.name for field in fields(Measurement)}
    metrics = {}
    for name, record in content.items():
        if not isinstance(record, dict) or set(record) != expected:
            raise ValueError(f"{path}: metric {name!r} must have exactly the keys {', '.join(sorted(expected))}")
        numbers = {key: math.nan if record[key] is None else float(record[key]) for key in ("value", "low", "high")}
        metrics[name] = Measurement(**numbers, n=int(record["n"]), seed=int(record["seed"]))
    return metrics


def table(metrics: Mapping[str, Measurement], title: str = "Metrics") -> Table:
    """Return a rich Table of the measurements, with the ceiling of the real data beside each value that has
    one.

    A metric named `ceiling/NAME` is shown in the row of `NAME`.
    """
    prefix = "ceiling/"
    ceilings = {name.removeprefix(prefix): m for name, m in metrics.items() if name.startswith(prefix)}
    own = {name: m for name, m in metrics.items() if not name.startswith(prefix)}
    result = Table(title=title)
    result.add_column("metric")
    for heading in ("value", "95 % interval", "real data", "n", "seed"):
        result.add_column(heading, justify="right")
    for name in [*own, *(name for name in ceilings if name not in own)]:
        measurement, ceiling = own.get(name), ceilings.get(name)
        source = measurement if measurement is not None else ceiling
        assert source is not None
        result.add_row(
            name,
            _show(measurement.value) if measurement else "–",
            f"{_show(measurement.low)} … {_show(measurement.high)}" if measurement else "–",
            _show(ceiling.value) if ceiling else "–",
            str(source.n),
            str(source.seed),
        )
    return result


def _finite_or_none(number: float) -> float | None:
    return float(number) if math.isfinite(number) else None


def _show(number: float) -> str:
    return f"{number:.4g}" if math.isfinite(number) else "–"
