"""What the checks found: a result for each, as a table for people, as JSON for scripts, as an error for tests.

A failure that its author has declared, with a reason, is no failure of the report; if it passes after
all, that is said.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from rich.table import Table
from rich.text import Text


class Status(StrEnum):
    """How a check ended."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"
    FAILED_AS_EXPECTED = "failed as expected"
    PASSED_UNEXPECTEDLY = "passed unexpectedly"


COLOURS: Mapping[Status, str] = {
    Status.PASSED: "green",
    Status.FAILED: "red",
    Status.SKIPPED: "dim",
    Status.FAILED_AS_EXPECTED: "yellow",
    Status.PASSED_UNEXPECTEDLY: "yellow",
}


class ConformanceError(AssertionError):
    """Checks failed; the message names each with what it found."""


@dataclass(frozen=True)
class Result:
    """What one check found.

    Attributes:
        name: of the check.
        status: how it ended.
        detail: what was found, in words and numbers, or why it was skipped.
        items: how many items (rows of states, prompts, batches, files, solvers) were looked at.
        seconds: how long it took.
        demands: what the check demands.
        expected: the reason for which its author expects it to fail, if any.
        figures: what was measured, by name and unit, for scripts.
    """

    name: str
    status: Status
    detail: str
    items: int = 0
    seconds: float = 0.0
    demands: str = ""
    expected: str | None = None
    figures: Mapping[str, float] = field(default_factory=dict)

    @property
    def failed(self) -> bool:
        """Whether it failed and nobody had said that it would."""
        return self.status is Status.FAILED

    @property
    def words(self) -> str:
        """The detail, with the reason of an expected failure."""
        if self.status is Status.FAILED_AS_EXPECTED:
            return f"{self.expected} ({self.detail})"
        if self.status is Status.PASSED_UNEXPECTEDLY:
            return f"{self.detail}; it was expected to fail ({self.expected}): take the expectation away"
        return self.detail


@dataclass(frozen=True)
class Report:
    """The results of all checks of one modality, in the order in which they ran."""

    modality: str
    results: tuple[Result, ...]

    def __getitem__(self, name: str) -> Result:
        """The result of the check of that name; KeyError if it was not run."""
        for result in self.results:
            if result.name == name:
                return result
        raise KeyError(name)

    @property
    def failures(self) -> list[Result]:
        """The failures that nobody expected."""
        return [result for result in self.results if result.failed]

    @property
    def passed(self) -> bool:
        """Whether there is no such failure."""
        return not self.failures

    @property
    def counts(self) -> dict[str, int]:
        """How many checks ended in each way."""
        return {str(status): sum(result.status is status for result in self.results) for status in Status}

    @property
    def summary(self) -> str:
        """The counts in a line: "21 passed, 1 skipped"."""
        return ", ".join(f"{count} {status}" for status, count in self.counts.items() if count)

    def raise_for_failures(self) -> None:
        """Raise ConformanceError if a check failed that was not expected to."""
        if self.passed:
            return
        lines = [f"{result.name}: {result.detail}" for result in self.failures]
        raise ConformanceError(f"modality {self.modality!r} does not conform:\n" + "\n".join(lines))

    def table(self) -> Table:
        """The results as a table of rich's."""
        table = Table(title=f"{self.modality}: {self.summary}", title_justify="left")
        table.add_column("check", no_wrap=True)
        table.add_column("result")
        for heading in ("items", "seconds"):
            table.add_column(heading, justify="right")
        table.add_column("what was found", overflow="fold")
        for result in self.results:
            status = Text(str(result.status), style=COLOURS[result.status])
            table.add_row(result.name, status, str(result.items), f"{result.seconds:.2f}", Text(result.words))
        return table

    def __rich__(self) -> Table:
        return self.table()

    def to_dict(self) -> dict[str, Any]:
        """Plain values: modality, passed, counts, and a row a check."""
        rows = [
            {
                "name": result.name,
                "status": str(result.status),
                "detail": result.detail,
                "items": result.items,
                "seconds": round(result.seconds, 4),
                "demands": result.demands,
                "expected": result.expected,
                "figures": dict(result.figures),
            }
            for result in self.results
        ]
        return {"modality": self.modality, "passed": self.passed, "counts": self.counts, "checks": rows}

    def to_json(self) -> str:
        """The same as JSON."""
        return json.dumps(self.to_dict(), indent=1, allow_nan=False) + "\n"
