"""How long things take: figures for a first look, which nothing is held against."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from framework.noise import BatchKey
from framework.state import batch_size
from framework.testing.subject import Passed, Skipped, Subject
from framework.testing.walks import STEPS, draw, two_solvers

AGAIN = 2  # times, of which the shortest counts


def speed(subject: Subject) -> Passed:
    """How many seconds an item takes to be encoded and decoded and, with a network, a training step and a sample: for
    a first look, on this machine. Nothing is demanded.
    """
    try:
        return _timed(subject)
    except Exception as error:  # what cannot be done is another check's to tell
        raise Skipped(f"it cannot be timed: {type(error).__name__}: {error}") from error


def _timed(subject: Subject) -> Passed:
    batch = subject.batches[0]
    rows = batch_size(subject.encode(batch)[0])
    found = {
        "seconds_per_item_encoded": _shortest(lambda: subject.encode(batch)) / rows,
        "seconds_per_item_decoded": _shortest(lambda: subject.modality.decode(subject.state, subject.condition))
        / subject.rows,
    }
    if subject.network is not None:
        solver = next(iter(two_solvers(subject).values()))
        everyone = list(range(subject.rows))
        found["seconds_per_training_step"] = _shortest(_step(subject))
        found["seconds_per_sample"] = _shortest(lambda: draw(subject, subject.shaken, solver, everyone)) / subject.rows
    words = ", ".join(f"{value:.2g} {name.replace('_', ' ')}" for name, value in found.items())
    return Passed(f"{words} ({subject.rows} rows, samples in {STEPS} steps)", rows, found)


def _step(subject: Subject) -> Callable[[], None]:
    """A loss and its gradient on the first items."""
    network = subject.backbone.train()
    denoiser, objective = subject.model(network).denoiser(), subject.loss
    uniforms = (torch.arange(subject.rows, dtype=torch.float64) + 0.5) / subject.rows

    def step() -> None:
        network.zero_grad()
        key = BatchKey(0, 0, size=subject.rows)
        objective(denoiser, subject.state, subject.condition, key, uniforms=uniforms).loss.mean().backward()

    return step


def _shortest(work: Callable[[], object]) -> float:
    """Seconds that something takes at best."""
    took = []
    for _ in range(AGAIN):
        begun = time.perf_counter()
        work()
        took.append(time.perf_counter() - begun)
    return min(took)
