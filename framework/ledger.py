"""What a sample cost: network evaluations and seconds, counted where they happen.

An evaluation is one sample through the network once, so that guidance's doubled batch counts twice and a batch of any
size costs each of its samples the same. The ledger belongs to one run and is handed out with its result; nothing else
keeps it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch


@dataclass
class Ledger:
    """Counts of one run.

    Attributes:
        samples: finished samples.
        calls: forward calls of the network, whatever their batch.
        forward: samples through the network, forward.
        backward: samples through the network, backward.
        seconds: wall-clock seconds inside `timed`.
    """

    samples: int = 0
    calls: int = 0
    forward: int = 0
    backward: int = 0
    seconds: float = 0.0

    def count_forward(self, rows: int) -> None:
        """Enter one forward call with `rows` samples."""
        self.calls += 1
        self.forward += rows

    def count_backward(self, rows: int) -> None:
        """Enter one backward pass through `rows` samples."""
        self.backward += rows

    @property
    def evaluations_per_sample(self) -> float:
        """Forward evaluations that each finished sample cost."""
        return self.forward / self.samples if self.samples else float("nan")

    @contextmanager
    def timed(self, device: torch.device) -> Iterator[None]:
        """Add the seconds that the block takes, with all that it has set off on a GPU."""
        _finish(device)
        start = time.perf_counter()
        try:
            yield
        finally:
            _finish(device)
            self.seconds += time.perf_counter() - start


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
