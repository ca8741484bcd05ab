"""What the commands print: the composed configuration, a bar for sampling, and what takes time before it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import yaml
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.syntax import Syntax


def show_config(config: dict[str, Any]) -> None:
    """Print a configuration as YAML."""
    text = yaml.safe_dump(config, sort_keys=False)
    console = Console()
    console.print(Syntax(text, "yaml", background_color="default") if console.is_terminal else text, highlight=False)


@contextmanager
def sampling_bar(total: int) -> Iterator[Callable[[int], None]]:
    """A bar over `total` samples on a terminal, nothing elsewhere; yields what to call with the number finished."""
    columns = (
        TextColumn("sampling"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, disable=not Console().is_terminal) as bar:
        task = bar.add_task("", total=total)
        yield lambda done: bar.update(task, completed=done)


class _Lines(logging.Handler):
    """Messages as lines of their own, also while a bar is shown."""

    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), flush=True)


def show_messages(name: str) -> None:
    """Print what the logger of that name, and those below it, have to say."""
    logger = logging.getLogger(name)
    logger.setLevel(logging.INFO)
    if not any(isinstance(handler, _Lines) for handler in logger.handlers):
        logger.addHandler(_Lines())
