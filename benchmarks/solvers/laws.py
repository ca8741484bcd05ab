r"""Stochastic solvers approximate a law and not a path: how far the samples' law is from the data's, on the mixture.

    sliced       the sliced 2-Wasserstein distance to exact draws, over fixed directions
    deviation    the root mean square over dimensions of std / exact std - 1: noise that a solver loses or adds
    weights      half the sum over components of |share - weight|: modes that it loses
    nll          the mean of -log p of the samples less that of exact draws, in nats

The first two and the last say what is wrong before a picture would. `floor` is what as many exact draws score.

    python -m benchmarks.solvers.laws
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import os
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.machine import RESULTS, report
from benchmarks.solvers import ours, theirs
from benchmarks.solvers.beds import BEDS, TABLE, Bed
from benchmarks.solvers.runs import quiet
from framework.certify.gaussian_mixture import SIXTEEN, SIXTEEN_BED
from framework.noise import SampleKey

BUDGETS = (5, 6, 8, 10, 20, 50)
DIRECTIONS, EXACT = 128, 16384


@dataclass(frozen=True)
class Law:
    """The scores of one run."""

    side: str
    solver: str
    grid: str
    budget: int
    evaluations: int
    sliced: float
    deviation: float
    weights: float
    nll: float


class Judge:
    """The exact draws that samples are compared with; `n` of them at a time."""

    def __init__(self, n: int) -> None:
        self.exact = SIXTEEN.sample(EXACT, seed=1)
        generator = torch.Generator().manual_seed(2)
        directions = torch.randn(SIXTEEN.dimensions, DIRECTIONS, dtype=torch.float64, generator=generator)
        self.directions = directions / directions.norm(dim=0)
        levels = (torch.arange(n, dtype=torch.float64) + 0.5) / n
        self.quantiles = torch.quantile(self.exact @ self.directions, levels, dim=0)
        self.one = torch.ones((), dtype=torch.float64)
        self.nll = float(-SIXTEEN.log_density(self.exact, *self._end(EXACT)).mean())

    def _end(self, n: int) -> tuple[Tensor, Tensor]:
        return self.one.expand(n), 0 * self.one.expand(n)

    def __call__(self, y: Tensor) -> tuple[float, float, float, float]:
        """sliced, deviation, weights, nll of samples (n, d)."""
        y = y.double()
        sliced = ((y @ self.directions).sort(dim=0).values - self.quantiles).square().mean().sqrt()
        deviation = (y.std(0) / self.exact.std(0) - 1).square().mean().sqrt()
        parts, _, _ = SIXTEEN.responsibilities(y, *self._end(len(y)))
        shares = torch.bincount(parts.argmax(1), minlength=len(SIXTEEN.weights)) / len(y)
        weights = (shares - torch.tensor(SIXTEEN.weights, dtype=torch.float64)).abs().sum() / 2
        nll = float(-parts.logsumexp(1).mean()) - self.nll
        return float(sliced), float(deviation), float(weights), nll


def bed_of(n: int) -> Bed:
    """The mixture from the table's start; there is no one solution."""
    noise = SampleKey(0, tuple(range(n))).normal((SIXTEEN.dimensions,), torch.zeros((), dtype=torch.float64))
    schedule, end = BEDS["table"]
    condition, denoiser = SIXTEEN_BED.condition(range(n)), SIXTEEN_BED.denoiser(schedule)
    return Bed("mixture16", "table", denoiser, SIXTEEN_BED.space, condition, noise, TABLE, end, noise)


SHARED: dict[str, Bed | Judge] = {}


def work(job: tuple[str, ours.Case | theirs.Peer]) -> list[Law]:
    """All budgets of one solver on one grid."""
    side, case = job
    bed, judge = SHARED["bed"], SHARED["judge"]
    assert isinstance(bed, Bed) and isinstance(judge, Judge)
    found = []
    for budget in BUDGETS:
        if isinstance(case, ours.Case):
            outcome = ours.run(case, bed, budget)
        else:
            try:
                outcome = theirs.run(case, bed, budget)
            except (ValueError, IndexError, AssertionError):
                continue  # a scheduler that cannot walk a spacing of its own
        if outcome is not None:
            scores = judge(outcome.y) if bool(outcome.y.isfinite().all()) else (math.nan,) * 4
            found.append(Law(side, case.solver, case.grid, budget, outcome.evaluations, *scores))
    return found


def table(laws: list[Law], floor: tuple[float, float, float, float]) -> str:
    """Each solver on the grid that suits it best by the sliced distance, at each budget."""
    lines = ["| solver | " + " | ".join(f"{b} evaluations" for b in BUDGETS) + " |", "|---|" + "---|" * len(BUDGETS)]
    for side in ("ours", "theirs"):
        for solver in dict.fromkeys(law.solver for law in laws if law.side == side):
            cells = []
            for budget in BUDGETS:
                here = [law for law in laws if (law.side, law.solver, law.budget) == (side, solver, budget)]
                best = min((law for law in here if math.isfinite(law.sliced)), key=lambda law: law.sliced, default=None)
                cells.append(_cell(best) if best else "")
            name = solver if side == "ours" else f"*diffusers {solver}*"
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines.append(
        f"| exact draws | {floor[0]:.3f} / {floor[1]:.3f} / {floor[2]:.3f} / {floor[3]:+.2f} |"
        + " |" * (len(BUDGETS) - 1)
    )
    return "\n".join(lines) + "\n"


def _cell(law: Law) -> str:
    return f"{law.sliced:.3f} / {law.deviation:.3f} / {law.weights:.3f} / {law.nll:+.2f} ({law.grid})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=2048)
    arguments = parser.parse_args()
    quiet()
    SHARED.update(bed=bed_of(arguments.samples), judge=Judge(arguments.samples))
    judge = SHARED["judge"]
    assert isinstance(judge, Judge)
    jobs: list[tuple[str, ours.Case | theirs.Peer]] = [
        ("ours", case) for case in ours.cases("table", stochastic=True, turned=())
    ]
    jobs += [("theirs", peer) for peer in theirs.stochastic_peers()]
    laws: list[Law] = []
    with multiprocessing.get_context("fork").Pool(os.cpu_count(), quiet) as pool:
        for found in pool.imap_unordered(work, jobs):
            laws += found
    laws.sort(key=lambda law: (law.side, law.solver, law.grid, law.budget))
    floor = judge(SIXTEEN.sample(arguments.samples, seed=3))
    text = table(laws, floor)
    Path(RESULTS / "solver_laws.md").write_text(text)
    rows = [[law.side, law.solver, law.grid, law.budget, *_numbers(law)] for law in laws]
    columns = ["side", "solver", "grid", "budget", "evaluations", "sliced", "deviation", "weights", "nll"]
    report("solver_laws", "python -m benchmarks.solvers.laws", {"floor": floor, "columns": columns, "rows": rows})


def _numbers(law: Law) -> list[float]:
    return [law.evaluations, *(round(v, 5) for v in (law.sliced, law.deviation, law.weights, law.nll))]


if __name__ == "__main__":
    main()
