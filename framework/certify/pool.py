"""Many solvers certified at once: a process each, since a solver's work is thousands of small steps in Python."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context

import torch

from framework.certify.certificate import Certificate, Effort, certify
from framework.sampler import Loop
from framework.solvers.plan import Solver


def certify_all(
    solvers: Mapping[str, Solver | Loop], effort: Effort, workers: int = 1
) -> Iterator[tuple[str, Certificate]]:
    """Name and certificate of each solver as it is finished; `workers` processes, 1 is this one.

    Loops come first: some of them take longest, and should not be waited for at the end.
    """
    names = sorted(solvers, key=lambda name: not isinstance(solvers[name], Loop))
    if workers <= 1 or len(solvers) == 1:
        for name in names:
            yield name, certify(solvers[name], effort)
        return
    with ProcessPoolExecutor(min(workers, len(solvers)), get_context("spawn"), _one_thread) as pool:
        futures = {pool.submit(certify, solvers[name], effort): name for name in names}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        finally:  # whoever stops listening does not wait for the rest
            pool.shutdown(wait=False, cancel_futures=True)


def _one_thread() -> None:
    torch.set_num_threads(1)
