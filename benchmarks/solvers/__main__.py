"""Every solver on every grid at 5 to 50 evaluations, beside diffusers on the same network and noise.

    python -m benchmarks.solvers [--run outputs/shapes] [--only mixture16] [--samples 256]

Writes results/solvers.csv, .json, .md and .png. The exact solutions of a trained model take some thousand evaluations
and are kept in the run's folder. About 20 minutes on two cores.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.machine import RESULTS, report
from benchmarks.solvers import ours, theirs
from benchmarks.solvers.beds import Bed, mixture_beds, model_beds
from benchmarks.solvers.runs import quiet
from benchmarks.solvers.tables import Row, plot, solver_table, verdict_table, verdicts, write
from framework.store import load
from modalities.images.shapes import KINDS

BUDGETS = (5, 6, 8, 10, 20, 50)
BEDS: list[Bed] = []  # filled before the processes are forked, which share it
Job = tuple[int, str, Any]


def work(job: Job) -> list[Row]:
    """All budgets of one solver on one grid and bed."""
    index, side, case = job
    bed, rows = BEDS[index], []
    run: Callable[..., theirs.Outcome | None] = ours.run if side == "ours" else theirs.run
    for budget in BUDGETS:
        try:
            outcome = run(case, bed, budget)
        except Exception as error:
            if side == "ours":
                raise RuntimeError(f"{case.solver} on {case.grid}, {bed.name}, {budget} evaluations") from error
            continue  # a scheduler that cannot walk a spacing of its own at that number of steps
        if outcome is None:
            continue
        errors = bed.errors(outcome.y)
        rms = float(errors.square().mean().sqrt())
        median = float(errors.median()) if math.isfinite(rms) else math.nan
        counts = (budget, outcome.steps, outcome.evaluations)
        rows.append(Row(bed.name, side, case.solver, case.grid, *counts, median, rms))
    return rows


def jobs() -> list[Job]:
    """Every run of both sides; arguments of our solvers are turned only where the network costs nothing."""
    found: list[Job] = []
    for index, bed in enumerate(BEDS):
        cheap = bed.network == "mixture16"
        found += [(index, "ours", case) for case in ours.cases(bed.kind, turned=cheap)]
        found += [(index, "theirs", peer) for peer in theirs.peers(bed.kind)]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", default="outputs/shapes", help="a trained images/shapes")
    parser.add_argument("--only", default="", help="beds whose name contains this")
    parser.add_argument("--samples", type=int, default=256, help="of the mixture")
    parser.add_argument("--prompts", type=int, default=12, help="samples of the model")
    arguments = parser.parse_args()
    quiet()
    start = time.perf_counter()
    beds = []
    if arguments.only in "mixture16":
        beds += mixture_beds(arguments.samples)
    if arguments.only in "images/shapes":
        prompts = [f"a {kind}" for kind in KINDS][: arguments.prompts]
        beds += model_beds("images/shapes", load(arguments.run), prompts, Path(arguments.run) / "references")
    BEDS.extend(beds)
    todo, rows = jobs(), []
    print(f"{len(todo)} runs of {len(BUDGETS)} budgets on {[bed.name for bed in BEDS]}", flush=True)
    with multiprocessing.get_context("fork").Pool(os.cpu_count(), quiet) as pool:
        for done, found in enumerate(pool.imap_unordered(work, todo, chunksize=4), start=1):
            rows += found
            if done % 200 == 0:
                print(f"{done} of {len(todo)}, {time.perf_counter() - start:.0f} s", flush=True)
    rows.sort(key=lambda row: (row.bed, row.side, row.solver, row.grid, row.budget))
    found = verdicts(rows)
    name = "solvers" if not arguments.only else f"solvers_{arguments.only.replace('/', '_')}"
    text = verdict_table(found)
    text += "".join(f"\n## {bed.name}\n\n{solver_table(rows, bed.name)}" for bed in BEDS)
    write(rows, RESULTS / f"{name}.csv")
    (RESULTS / f"{name}.md").write_text(text)
    plot(rows, RESULTS / f"{name}.png")
    seconds = time.perf_counter() - start
    report(name, f"python -m benchmarks.solvers --run {arguments.run}", {"seconds": seconds, "verdicts": found})
    print(verdict_table(found))
    lost = [v for v in found if not v["at_least_as_good"]]
    print(f"ours is at least as good in {len(found) - len(lost)} of {len(found)}")


if __name__ == "__main__":
    main()
