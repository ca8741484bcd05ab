"""One function over many molecules, in this process or in several."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
Progress = Callable[[int, int], None]
CHUNK = 8


def each(
    function: Callable[[Item], Result], items: Sequence[Item], processes: int = 1, progress: Progress | None = None
) -> list[Result]:
    """function(item) for each, in order.

    Arguments:
        function: of a module's top level where there are several processes.
        processes: how many work at once; new ones are spawned, since a fork of a process with threads may hang.
        progress: called with (items done, items).
    """
    results: list[Result] = []

    def note(result: Result) -> None:
        results.append(result)
        if progress is not None:
            progress(len(results), len(items))

    if processes <= 1:
        for item in items:
            note(function(item))
    else:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(processes, mp_context=context) as pool:
            for result in pool.map(function, items, chunksize=CHUNK):
                note(result)
    return results
