"""Every solver on every grid at 5 to 50 evaluations, beside diffusers on the same network and noise.

    python -m benchmarks.solvers                          # the mixture
    python -m benchmarks.solvers --run outputs/shapes     # a trained model, of any modality with one Gaussian process

Writes results/solvers_<bed>.csv, .json, .md and .png. The exact solutions of a trained model take some thousand
evaluations and are kept in the run's folder. About 20 minutes on two cores. Arguments of solvers that are turned are
left out at the largest budget on a trained model, where they would take a third of the time.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

from benchmarks.machine import RESULTS, report
from benchmarks.solvers import ours, theirs
from benchmarks.solvers.beds import Bed, mixture_beds, model_beds
from benchmarks.solvers.runs import quiet
from benchmarks.solvers.tables import Row, plot, solver_table, verdict_table, verdicts, write
from benchmarks.solvers.together import run_together
from framework.model import Model
from framework.store import load
from modalities.images.shapes import KINDS

BUDGETS = (5, 6, 8, 10, 20, 50)
BEDS: list[Bed] = []  # filled before the processes are forked, which share it
AT_ONCE = 8  # runs on a trained model, each of a few samples, whose network is asked together
CHUNK = 96
Job = tuple[str, Any]
Chunk = tuple[int, list[Job]]


def work(chunk: Chunk) -> list[Row]:
    """Several jobs on the bed of that index."""
    index, jobs = chunk
    at_once = 1 if BEDS[index].network == "mixture16" else AT_ONCE
    return [row for _, rows in run_together(errors_of, BEDS[index], jobs, at_once) for row in rows]


def errors_of(bed: Bed, job: Job) -> list[Row]:
    """All budgets of one solver on one grid."""
    (side, case), rows = job, []
    costly = bed.network != "mixture16" and side == "ours" and "=" in case.solver
    run: Callable[..., theirs.Outcome | None] = ours.run if side == "ours" else theirs.run
    for budget in BUDGETS[:-1] if costly else BUDGETS:
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
        median = float(errors.quantile(0.5)) if math.isfinite(rms) else math.nan
        counts = (budget, outcome.steps, outcome.evaluations)
        rows.append(Row(bed.name, side, case.solver, case.grid, *counts, median, rms))
    return rows


def chunks() -> list[Chunk]:
    """Every run of both sides; of our solvers' arguments the order alone is turned where the network costs a lot."""
    found: list[Chunk] = []
    for index, bed in enumerate(BEDS):
        turned = tuple(ours.TURNS) if bed.network == "mixture16" else ours.ORDERS
        jobs: list[Job] = [("ours", case) for case in ours.cases(bed.kind, turned=turned)]
        jobs += [("theirs", peer) for peer in theirs.peers(bed.kind)]
        found += [(index, jobs[i : i + CHUNK]) for i in range(0, len(jobs), CHUNK)]
    return found


def prompts(model: Model, n: int) -> Sequence[Any]:
    """Complete prompts, as different as they come; captions of images are the data's to know, and here are shapes'."""
    given = [f"a {kind}" for kind in KINDS][:n] if model.modality.name == "images" else model.modality.examples(n)
    return model.modality.complete(given, 0, range(n))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, help="the folder of a run; without it the mixture is measured")
    parser.add_argument("--samples", type=int, default=256, help="of the mixture")
    parser.add_argument("--prompts", type=int, default=12, help="samples of the model")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    quiet()
    start = time.perf_counter()
    if arguments.run is None:
        name, beds = "mixture16", mixture_beds(arguments.samples)
    else:
        name = yaml.safe_load((arguments.run / "config.yaml").read_text())["name"]
        model = load(arguments.run)
        beds = model_beds(name, model, prompts(model, arguments.prompts), arguments.run / "references")
    BEDS.extend(beds)
    todo, rows = chunks(), []
    count, done = sum(len(jobs) for _, jobs in todo), 0
    print(f"{count} runs of {len(BUDGETS)} budgets on {[bed.name for bed in BEDS]}", flush=True)
    with multiprocessing.get_context("fork").Pool(arguments.processes, quiet) as pool:
        for (_, jobs), found in zip(todo, pool.imap(work, todo), strict=True):
            rows += found
            done += len(jobs)
            print(f"{done} of {count}, {time.perf_counter() - start:.0f} s", flush=True)
    rows.sort(key=lambda row: (row.bed, row.side, row.solver, row.grid, row.budget))
    found = verdicts(rows)
    name = f"solvers_{name.replace('/', '_')}"
    text = verdict_table(found)
    text += "".join(f"\n## {bed.name}\n\n{solver_table(rows, bed.name)}" for bed in BEDS)
    write(rows, RESULTS / f"{name}.csv")
    (RESULTS / f"{name}.md").write_text(text)
    plot(rows, RESULTS / f"{name}.png")
    seconds = time.perf_counter() - start
    command = "python -m benchmarks.solvers"
    command += f" --run outputs/{arguments.run.name} --prompts {arguments.prompts}" if arguments.run else ""
    report(name, command, {"seconds": seconds, "verdicts": found})
    print(verdict_table(found))
    lost = [v for v in found if not v["at_least_as_good"]]
    print(f"ours is at least as good in {len(found) - len(lost)} of {len(found)}")


if __name__ == "__main__":
    main()
