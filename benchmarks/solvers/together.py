"""Several runs at once, each in a thread, that ask one network in one batch.

A small network asked for four samples spends most of its time on what a call costs; eight runs that wait for each other
pay it once. Each has the results that it would have alone, but for rounding in the network.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TypeVar

import torch
from torch import Tensor

from benchmarks.solvers.beds import Bed
from framework.denoiser import Denoiser, Prediction
from framework.schedules import Schedule
from framework.state import Condition

Job, Result = TypeVar("Job"), TypeVar("Result")


class Together:
    """A denoiser that answers once all runs under way have asked; `leave` is called by a run that is done."""

    def __init__(self, inner: Denoiser, runs: int) -> None:
        self.inner, self.runs = inner, runs
        self.asked: dict[int, tuple[Tensor, Tensor, Condition]] = {}
        self.answers: dict[int, Tensor | BaseException] = {}
        self.changed = threading.Condition()

    @property
    def schedule(self) -> Schedule:
        return self.inner.schedule

    def __call__(self, x_t: Tensor, t: Tensor, condition: Condition) -> Prediction:
        me = threading.get_ident()
        with self.changed:
            self.asked[me] = (x_t, t.expand(len(x_t)), condition)
            self._answer_if_all_asked()
            self.changed.wait_for(lambda: me in self.answers)
            clean = self.answers.pop(me)
        if isinstance(clean, BaseException):
            raise clean
        return Prediction(clean, x_t, self.schedule.alpha(t), self.schedule.sigma(t))

    def leave(self) -> None:
        with self.changed:
            self.runs -= 1
            self._answer_if_all_asked()

    def _answer_if_all_asked(self) -> None:
        if not self.asked or len(self.asked) < self.runs:
            return
        states, times, conditions = zip(*self.asked.values(), strict=True)
        try:
            with torch.no_grad():
                clean = self.inner(torch.cat(states), torch.cat(times), torch.cat(conditions)).clean
            assert isinstance(clean, Tensor)
            parts: Sequence[Tensor | BaseException] = clean.split([len(x) for x in states])
        except Exception as error:
            parts = [error] * len(states)
        self.answers |= dict(zip(self.asked, parts, strict=True))
        self.asked.clear()
        self.changed.notify_all()


def run_together(
    work: Callable[[Bed, Job], Result], bed: Bed, jobs: Sequence[Job], runs: int
) -> Iterator[tuple[Job, Result]]:
    """work(bed, job) of each job, `runs` at a time, as they are done."""
    waiting: queue.SimpleQueue[Job] = queue.SimpleQueue()
    for job in jobs:
        waiting.put(job)
    runs = min(runs, len(jobs))
    shared = Together(bed.denoiser, runs)
    done: queue.SimpleQueue[tuple[Job, Result] | BaseException | None] = queue.SimpleQueue()

    def walk() -> None:
        try:
            while True:
                job = waiting.get_nowait()
                done.put((job, work(replace(bed, denoiser=shared), job)))
        except queue.Empty:
            pass
        except BaseException as error:
            done.put(error)
        finally:
            shared.leave()
            done.put(None)

    with ThreadPoolExecutor(runs) as pool:
        for _ in range(runs):
            pool.submit(walk)
        while runs:
            found = done.get()
            if isinstance(found, BaseException):
                raise found
            if found is None:
                runs -= 1
            else:
                yield found
