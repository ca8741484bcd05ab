"""A schedule and a grid as a family of times that is refined along one smooth curve, as an order needs.

Order is a statement about short steps, and a grid's ends are not short: at alpha = 0 and at sigma = 0 a step has
infinite length in log(alpha / sigma) however many there are. So the step to t = 0 is left out, and where a grid reaches
for the ends as it is refined (even steps of t do), its times are squeezed, linearly in t, between noise-to-signal
ratios HIGH and LOW. What happens at the ends is a law of its own (framework/certify/laws.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from framework.errors import UserError
from framework.grids import Grid, Karras
from framework.schedules import EDM, Schedule
from framework.solvers.plan import nodes

HIGH, LOW = 5.0, 0.1
COARSE, FINE = 40, 80  # the grids whose ends are compared


@dataclass(frozen=True)
class Path:
    """A schedule and a grid with their names, as a certificate states them."""

    schedule_name: str
    grid_name: str
    schedule: Schedule
    grid: Grid

    def times(self, steps: Sequence[int]) -> Iterator[Tensor]:
        """Times (n + 1,) for about each number of steps: a table of T times is only cut into parts of one length.

        Raises:
            UserError: the grid does not serve the schedule.
        """
        ends = self._ends()
        for n in _divisors(self.grid, steps):
            times = self.grid(self.schedule, n + 1)
            times = times[:-1] if float(times[-1]) == 0 else times
            if ends is not None:
                high, low = ends
                times = low + (times - times[-1]) / (times[0] - times[-1]) * (high - low)
                times[0], times[-1] = high, low  # to the last digit, for the reference's sake
            yield times

    def _ends(self) -> tuple[float, float] | None:
        """The times between which the grid is squeezed; None if its own ends stay as it is refined."""
        (a, b), (c, d) = (self._own_ends(n) for n in (COARSE, FINE))
        if a == c < float("inf") and d / b > 0.75:
            return None
        most = float(torch.exp(-0.5 * self.schedule.log_snr(torch.ones((), dtype=torch.float64))))
        ratios = torch.tensor([min(HIGH, most), LOW], dtype=torch.float64)
        high, low = self.schedule.time(-2 * ratios.log()).clamp(0.0, 1.0).tolist()
        return high, low

    def _own_ends(self, n: int) -> tuple[float, float]:
        """The ratios at the first time and at the last one that is not zero."""
        times = self.grid(self.schedule, n)
        first, last = nodes(self.schedule, times[times > 0][[0, -1]])
        return first.ratio, last.ratio


def _divisors(grid: Grid, steps: Sequence[int]) -> list[int]:
    """`steps` themselves; or, for a table of T times, the longest chain of halves that divide it."""
    table = getattr(grid, "timesteps", None)
    if table is None:
        return list(steps)
    parts: list[int] = []
    for n in range(min(steps), min(max(steps), table) + 1):
        chain = [n]
        while table % n == 0 and chain[0] % 2 == 0 and chain[0] // 2 >= min(steps):
            chain.insert(0, chain[0] // 2)
        if table % n == 0 and len(chain) >= len(parts):
            parts = chain
    if len(parts) < 2:
        raise UserError(f"a table of {table} times is not cut evenly into any of {min(steps)} to {max(steps)} steps")
    return parts


BASE = Path("edm", "karras", EDM(), Karras())
MIDWAY = Path("edm", "karras from 2 to 0.02", EDM(), Karras(sigma_min=0.02, sigma_max=2.0))
