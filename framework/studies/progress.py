"""What a person sees of a study while it runs: what it will cost, and then what is left."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

EVERY = 15.0  # seconds between lines where there is no terminal


@dataclass
class Watch:
    """Counts what is done, in estimated seconds, and says how long the rest will take at the pace so far.

    Args:
        total: estimated seconds of all work, on one process.
        jobs: processes.
    """

    total: float
    jobs: int
    done: float = 0.0
    cells: int = 0
    started: float = field(default_factory=time.perf_counter)

    def left(self) -> float:
        """Seconds, estimated; by the plan alone before a twentieth is done."""
        rest = max(self.total - self.done, 0.0)
        if self.done < 0.05 * self.total or not self.done:
            return rest / self.jobs
        return rest * (time.perf_counter() - self.started) / self.done


def words(seconds: float) -> str:
    """A time as a person says it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


class Watched:
    """Tells of finished work: a bar on a terminal, a line now and then elsewhere."""

    def __init__(self, name: str, count: int, total: float, jobs: int, bar: Progress) -> None:
        self.name, self.count, self.watch, self.bar = name, count, Watch(max(total, 1e-9), jobs), bar
        self.task = bar.add_task(name, total=self.watch.total)
        self.said = time.perf_counter()

    def finished(self, what: str, estimated: float) -> None:
        """One piece of work is done, which was estimated to take so many seconds."""
        self.watch.cells += 1
        self.watch.done += estimated
        left = words(self.watch.left())
        text = f"{self.name} {self.watch.cells}/{self.count}, about {left} left · {what}"
        self.bar.update(self.task, completed=self.watch.done, description=text)
        now = time.perf_counter()
        last = self.watch.cells == self.count
        if self.bar.disable and (now - self.said > EVERY or last):
            print(text, flush=True)
            self.said = now


@contextmanager
def watching(name: str, count: int, total: float, jobs: int) -> Iterator[Watched]:
    """A `Watched` while the block runs."""
    columns = (BarColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Progress(*columns, disable=not Console().is_terminal) as bar:
        yield Watched(name, count, total, jobs, bar)


@dataclass(frozen=True)
class Price:
    """What a run's part of a study costs."""

    run: str
    cells: int
    finished: int
    impossible: int
    evaluations: float
    seconds: float
    per_evaluation: float


def price_table(prices: Sequence[Price], jobs: int) -> Table:
    """The cost before the start, measured from a probe of each run."""
    table = Table(title="What it will cost (measured on this machine)")
    table.add_column("run")
    for heading in ("cells", "done", "not applicable", "evaluations left", "ms each", "time left"):
        table.add_column(heading, justify="right")
    for price in prices:
        table.add_row(
            price.run, str(price.cells), str(price.finished), str(price.impossible), f"{price.evaluations:,.0f}",
            f"{1000 * price.per_evaluation:.3g}", words(price.seconds / jobs),
        )  # fmt: skip
    total = sum(price.seconds for price in prices) / jobs
    several = f"{jobs} processes" if jobs > 1 else "one process"
    table.caption = f"about {words(total)} in all, in {several}"
    return table
