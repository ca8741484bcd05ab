"""Items that cannot be used: skipped, counted, named in `skipped.csv`; too many of them are an error.

A set of data from the world holds truncated, empty and mislabelled files. One of them must not end a training
of days, and a thousand of them must not pass unseen.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from framework.errors import DataError

__all__ = ["BadItem", "DataError", "check_share", "write_skipped"]


@dataclass(frozen=True)
class BadItem:
    """An item that was skipped: its name in the source, and why."""

    name: str
    reason: str


def write_skipped(bad: Sequence[BadItem], path: str | Path) -> None:
    """Write the columns name, reason; an empty list leaves a table with its header only."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["name", "reason"])
        table.writerows((item.name, item.reason) for item in bad)


def check_share(bad: Sequence[BadItem], total: int, max_share: float, source: str) -> None:
    """Raise DataError when more than `max_share` of `total` items are bad, naming the first few."""
    if total == 0:
        raise DataError(f"{source}: there are no items at all")
    if len(bad) <= max_share * total and len(bad) < total:
        return
    first = "; ".join(f"{item.name!r}: {item.reason}" for item in bad[:5])
    more = f"; and {len(bad) - 5} more" if len(bad) > 5 else ""
    raise DataError(
        f"{source}: {len(bad)} of {total} items are bad, more than max_bad_share={max_share:g} allows "
        f"({first}{more}); repair or remove them, or set data.max_bad_share"
    )
