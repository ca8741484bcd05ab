"""Steps that are found for a network: GITS, LD3 and adaptive solvers, beside the best grid in closed form.

    python -m benchmarks.solvers                        # the grids in closed form, which this reads
    python -m benchmarks.solvers.fitted                 # the mixture
    python -m benchmarks.solvers.fitted --run outputs/shapes --prompts 8 --samples 16 \
        --learned dpmpp_2m --iterations 20 --most 10 --gammas 1.0

Each grid is fitted to a solver and a budget on noise of its own, and judged like the others on the bed's. An adaptive
solver has the smallest tolerance that the budget allows. What finding the steps took is not counted in the budget,
which is why they stand apart. Writes results/solvers_fitted_<bed>.csv, .json and .md.
"""

from __future__ import annotations

import argparse
import csv
import math
import multiprocessing
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import yaml
from torch import Tensor

from benchmarks.machine import RESULTS, report
from benchmarks.solvers import ours
from benchmarks.solvers.__main__ import BUDGETS, prompts
from benchmarks.solvers.beds import Bed, mixture_beds, model_beds
from benchmarks.solvers.runs import quiet
from benchmarks.solvers.tables import Row, write
from framework.certify.gaussian_mixture import SIXTEEN_BED
from framework.denoiser import Denoiser, Prediction, Rescheduled
from framework.grids import Grid, Karras, UniformFlow, UniformLogSNR
from framework.grids.gits import GITS
from framework.grids.ld3 import LD3
from framework.noise import SampleKey
from framework.schedules import Schedule
from framework.solvers.adaptive import DOP853, RK45
from framework.spaces import Space
from framework.state import Condition
from framework.store import load

ADAPTIVE = {"rk45": RK45, "dop853": DOP853}
TOLERANCES = [float(v) for v in np.geomspace(30.0, 1e-9, 64)]
FITTING_SEED = 1


@dataclass(frozen=True)
class Job:
    """A solver with steps of a kind, on the bed of that index."""

    bed: int
    kind: str
    solver: str
    budget: int


@dataclass(frozen=True)
class Shared:
    """What the processes share: the beds; for each the denoiser that grids are fitted to, whose states are not packed,
    and their space and condition.
    """

    beds: Sequence[Bed]
    denoisers: Sequence[Denoiser]
    space: Space
    condition: Condition
    iterations: int
    gammas: Sequence[float]
    plain: dict[tuple[int, int], Tensor] = field(default_factory=dict)  # times that suit all solvers: bed, steps


SHARED: list[Shared] = []


@dataclass(frozen=True)
class On:
    """A grid that starts where the bed does."""

    grid: Grid
    bed: Bed

    def __call__(self, schedule: Schedule, steps: int) -> Tensor:
        times = ours.times_of(self.grid, self.bed, steps)
        assert times is not None
        return times


@dataclass
class Counted:
    """A denoiser, and how often it was asked."""

    inner: Denoiser
    calls: int = 0

    @property
    def schedule(self) -> Schedule:
        return self.inner.schedule

    def __call__(self, x_t: Tensor, t: Tensor, condition: Condition) -> Prediction:
        self.calls += 1
        return self.inner(x_t, t, condition)


def work(job: Job) -> tuple[Row | None, float]:
    """A row, None where the budget allows no step; and the seconds that finding the steps took."""
    shared = SHARED[0]
    bed, start = shared.beds[job.bed], time.perf_counter()
    if job.kind == "adaptive":
        return adaptive(bed, job), time.perf_counter() - start
    solver = ours.solvers(False, ())[job.solver]
    found = ours.most_steps(ours.Case(job.solver, "", solver, Karras()), bed, job.budget)
    if found is None:
        return None, 0.0
    steps, evaluations, _ = found
    samples = shared.condition.batch_size[0]
    fine = On(Karras(), bed)
    gits = GITS(samples=samples, fine=fine, gammas=shared.gammas)
    starts = (On(UniformFlow(), bed), On(UniformLogSNR(), bed), fine, gits)
    ld3 = LD3(samples=samples, iterations=shared.iterations, starts=starts, fine=fine)
    key = SampleKey(FITTING_SEED, tuple(range(samples)))
    grid = gits if job.kind == "gits" else ld3
    times = shared.plain.get((job.bed, steps)) if job.kind == "gits" else None
    if times is None:
        times = grid.fit(shared.denoisers[job.bed], solver, steps, shared.space, shared.condition, key)
    if job.kind == "gits" and len(shared.gammas) == 1:
        shared.plain[job.bed, steps] = times
    seconds = time.perf_counter() - start
    return row(bed, job, steps, evaluations, ours.walk(solver, bed, times)), seconds


def adaptive(bed: Bed, job: Job) -> Row | None:
    """The most exact run within the budget."""
    ends, best = torch.tensor([1.0, 0.0], dtype=torch.float64), None
    make = ADAPTIVE[job.solver]
    for tolerance in TOLERANCES:
        counted = Counted(bed.denoiser)
        y = ours.walk(make(rtol=tolerance, atol=tolerance), bed, ends, denoiser=counted)
        if counted.calls > job.budget:
            break
        best = row(bed, job, counted.calls // make.evaluations_per_step, counted.calls, y)
    return best


def row(bed: Bed, job: Job, steps: int, evaluations: int, y: Tensor) -> Row:
    errors = bed.errors(y)
    rms, median = float(errors.square().mean().sqrt()), float(errors.quantile(0.5))
    return Row(bed.name, "ours", job.solver, job.kind, job.budget, steps, evaluations, median, rms)


def closed_forms(file: Path) -> dict[tuple[str, str, int], tuple[float, str]]:
    """The least median error of each bed, solver and budget on the grids of conf/grid as they are, and which it is."""
    names, best = set(ours.group("grid")), {}
    with file.open(newline="") as opened:
        for found in csv.DictReader(opened):
            key, error = (found["bed"], found["solver"], int(found["budget"])), float(found["median"])
            if found["side"] == "ours" and found["grid"] in names and not error >= best.get(key, (math.inf, ""))[0]:
                best[key] = (error, found["grid"])
    return best


def table(rows: Sequence[Row], bed: str, closed: dict[tuple[str, str, int], tuple[float, str]]) -> str:
    """Each solver: the best grid in closed form, GITS and LD3 at each budget, the least in bold; adaptive solvers."""
    budgets = sorted({r.budget for r in rows})
    here = {(r.solver, r.grid, r.budget): r.median for r in rows if r.bed == bed}
    lines = ["| solver | grid | " + " | ".join(map(str, budgets)) + " |", "|---|---|" + "---|" * len(budgets)]
    for solver in dict.fromkeys(r.solver for r in rows if r.bed == bed):
        kinds = [kind for kind in ("gits", "ld3", "adaptive") if any(k[:2] == (solver, kind) for k in here)]
        cells: dict[str, list[tuple[float, str]]] = {
            kind: [(here.get((solver, kind, b), math.nan), "") for b in budgets] for kind in kinds
        }
        if solver not in ADAPTIVE:
            nothing = (math.nan, "")
            cells = {"closed form": [closed.get((bed, solver, b), nothing) for b in budgets], **cells}
        least = [
            min((c[i][0] for c in cells.values() if not math.isnan(c[i][0])), default=0) for i in range(len(budgets))
        ]
        for kind, found in cells.items():
            shown = [cell(*pair, best=pair[0] == low) for pair, low in zip(found, least, strict=True)]
            lines.append(f"| {solver} | {kind} | " + " | ".join(shown) + " |")
    return "\n".join(lines) + "\n"


def cell(error: float, grid: str, best: bool) -> str:
    if math.isnan(error):
        return ""
    number = f"**{error:.2g}**" if best else f"{error:.2g}"
    return f"{number} ({grid})" if grid else number


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, help="the folder of a run; without it the mixture is measured")
    parser.add_argument("--prompts", type=int, default=12, help="samples of the model that errors are measured on")
    parser.add_argument("--samples", type=int, default=64, help="that grids are fitted to")
    parser.add_argument("--learned", nargs="*", help="solvers for which LD3 learns times; all without it")
    parser.add_argument("--iterations", type=int, default=100, help="of LD3")
    parser.add_argument("--gammas", nargs="*", type=float, default=GITS.gammas, help="of GITS; one suits all solvers")
    parser.add_argument("--most", type=int, default=BUDGETS[-1], help="evaluations up to which LD3 learns times")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    quiet()
    start = time.perf_counter()
    if arguments.run is None:
        name, beds = "mixture16", mixture_beds(256)[:2]
        condition = SIXTEEN_BED.condition(range(arguments.samples))
        denoisers, space = [bed.denoiser for bed in beds], SIXTEEN_BED.space
    else:
        model = load(arguments.run)
        name = yaml.safe_load((arguments.run / "config.yaml").read_text())["name"]
        beds = model_beds(name, model, prompts(model, arguments.prompts), arguments.run / "references")
        condition = model.condition(prompts(model, arguments.samples))
        own, space = model.denoiser(), model.modality.space
        denoisers = [own if own.schedule == bed.schedule else Rescheduled(own, bed.schedule) for bed in beds]
    SHARED.append(Shared(beds, denoisers, space, condition, arguments.iterations, arguments.gammas))
    methods = ours.solvers(False, ())
    todo = [
        Job(i, kind, solver, budget)
        for i in range(len(beds))
        for kind, solvers in {"gits": methods, "ld3": arguments.learned or methods, "adaptive": ADAPTIVE}.items()
        for solver in solvers
        for budget in BUDGETS
        if kind != "ld3" or budget <= arguments.most
    ]
    rows: list[Row] = []
    seconds: dict[str, list[float]] = {"gits": [], "ld3": [], "adaptive": []}
    with multiprocessing.get_context("fork").Pool(arguments.processes, quiet) as pool:
        for done, (job, (found, took)) in enumerate(zip(todo, pool.imap(work, todo), strict=True), start=1):
            rows += [found] if found else []
            seconds[job.kind].append(took)
            if done % 50 == 0:
                print(f"{done} of {len(todo)}, {time.perf_counter() - start:.0f} s", flush=True)
    rows.sort(key=lambda r: (r.bed, r.solver in ADAPTIVE, r.solver, r.grid, r.budget))
    closed = closed_forms(RESULTS / f"solvers_{name.replace('/', '_')}.csv")
    text = "".join(f"## {bed.name}\n\n{table(rows, bed.name, closed)}\n" for bed in beds)
    file = f"solvers_fitted_{name.replace('/', '_')}"
    write(rows, RESULTS / f"{file}.csv")
    (RESULTS / f"{file}.md").write_text(text)
    command = f"python -m benchmarks.solvers.fitted --most {arguments.most}"
    if arguments.run:
        command += f" --run outputs/{arguments.run.name} --prompts {arguments.prompts} --samples {arguments.samples}"
        command += f" --iterations {arguments.iterations} --gammas {' '.join(f'{g:g}' for g in arguments.gammas)}"
        command += f" --learned {' '.join(arguments.learned or [])}".rstrip()
    if len(arguments.gammas) == 1:
        seconds["gits"].clear()  # one fit serves all solvers, and the others take no time
    median = {kind: float(np.median(values)) for kind, values in seconds.items() if values}
    report(file, command, {"seconds": time.perf_counter() - start, "median_seconds_to_find": median})
    print(text)


if __name__ == "__main__":
    main()
