"""What a law finds: whether it holds, in words, and by how much."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Check:
    """One law on one solver.

    Attributes:
        name: which law, as the keys of certify.json have it.
        passed: whether it holds; None where it is not asked of this solver, for the reason in `detail`.
        detail: one line for people.
        value: the number that was held against `limit`, if there is one.
        limit: the most that it may be.
        numbers: what else was measured.
    """

    name: str
    passed: bool | None
    detail: str
    value: float | None = None
    limit: float | None = None
    numbers: Mapping[str, float] = field(default_factory=dict)


def within(name: str, value: float, limit: float, detail: str) -> Check:
    """A law that holds where `value` is at most `limit`; a value that is not a number is too large."""
    return Check(name, bool(value <= limit), f"{detail}: {value:.2g}, at most {limit:.2g}", value, limit)


def attempt(name: str, law: Callable[[], Check]) -> Check:
    """The law's finding; a solver that breaks under it has failed it, and says how."""
    try:
        return law()
    except Exception as error:
        return Check(name, False, f"{type(error).__name__}: {error}".partition("\n")[0])
