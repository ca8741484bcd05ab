"""What comes of the runs: the table, who is best at each budget, and the plot."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot


@dataclass(frozen=True)
class Row:
    """One run: the root mean square error of each sample's elements, as median and root mean square over samples."""

    bed: str
    side: str
    solver: str
    grid: str
    budget: int
    steps: int
    evaluations: int
    median: float
    rms: float


MEASURES = ("median", "rms")
ROUNDING = 1e-6
"""What the same method on the same times may differ by: their levels go through float32."""


def write(rows: Iterable[Row], file: Path) -> None:
    """All rows as CSV."""
    with file.open("w", newline="") as opened:
        writer = csv.DictWriter(opened, [field.name for field in fields(Row)], lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({**asdict(row), "median": f"{row.median:.4g}", "rms": f"{row.rms:.4g}"})


def best(rows: Iterable[Row], measure: str) -> Row | None:
    """The row of least error; what is not a number has diverged."""
    finite = [row for row in rows if math.isfinite(getattr(row, measure))]
    return min(finite, key=lambda row: getattr(row, measure), default=None)


def verdicts(rows: Sequence[Row]) -> list[dict[str, object]]:
    """Each bed, measure and budget: our best, their best, and whether ours is at least as good."""
    found: list[dict[str, object]] = []
    for bed in dict.fromkeys(row.bed for row in rows):
        for measure in MEASURES:
            for budget in sorted({row.budget for row in rows}):
                here = [row for row in rows if row.bed == bed and row.budget == budget]
                ours, theirs = (best((r for r in here if r.side == side), measure) for side in ("ours", "theirs"))
                if ours is None or theirs is None:
                    continue
                a, b = getattr(ours, measure), getattr(theirs, measure)
                found.append(
                    {
                        "bed": bed,
                        "measure": measure,
                        "budget": budget,
                        "ours": a,
                        "our_run": f"{ours.solver}, {ours.grid}",
                        "theirs": b,
                        "their_run": f"{theirs.solver}, {theirs.grid}",
                        "ratio": a / b,
                        "at_least_as_good": a <= b * (1 + ROUNDING),
                    }
                )
    return found


def verdict_table(found: Sequence[dict[str, object]]) -> str:
    """The verdicts in Markdown."""
    lines = [
        "| bed | error | evaluations | ours | solver, grid | diffusers | scheduler, spacing | ours / theirs |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for v in found:
        ratio = f"{v['ratio']:.2f}" if v["at_least_as_good"] else f"**{v['ratio']:.2f}**"
        lines.append(
            f"| {v['bed']} | {v['measure']} | {v['budget']} | {v['ours']:.3g} | {v['our_run']} "
            f"| {v['theirs']:.3g} | {v['their_run']} | {ratio} |"
        )
    return "\n".join(lines) + "\n"


def solver_table(rows: Sequence[Row], bed: str, measure: str = "median") -> str:
    """Each solver's error on the grid that suits it best at each budget."""
    budgets = sorted({row.budget for row in rows})
    lines = ["| | " + " | ".join(map(str, budgets)) + " |", "|---|" + "---|" * len(budgets)]
    here = [row for row in rows if row.bed == bed]
    for side in ("ours", "theirs"):
        for solver in dict.fromkeys(row.solver for row in here if row.side == side):
            cells = []
            for budget in budgets:
                found = best((r for r in here if (r.side, r.solver, r.budget) == (side, solver, budget)), measure)
                cells.append(f"{getattr(found, measure):.2g} ({found.grid})" if found else "")
            name = solver if side == "ours" else f"*diffusers {solver}*"
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def plot(rows: Sequence[Row], file: Path, measure: str = "median") -> None:
    """Error over evaluations: a thin line a solver and grid, a thick one along the best of each side."""
    beds = list(dict.fromkeys(row.bed for row in rows))
    figure, axes = pyplot.subplots(1, len(beds), figsize=(5.5 * len(beds), 4.5), squeeze=False)
    colours = {"ours": "tab:blue", "theirs": "tab:orange"}
    for axis, bed in zip(axes[0], beds, strict=True):
        here = [row for row in rows if row.bed == bed]
        for side, colour in colours.items():
            mine = [row for row in here if row.side == side]
            for run in dict.fromkeys((row.solver, row.grid) for row in mine):
                line = sorted((r.budget, getattr(r, measure)) for r in mine if (r.solver, r.grid) == run)
                axis.plot(*zip(*line, strict=True), color=colour, alpha=0.12, linewidth=0.7)
            budgets = sorted({row.budget for row in mine})
            envelope = [best((r for r in mine if r.budget == b), measure) for b in budgets]
            values = [getattr(row, measure) if row else math.nan for row in envelope]
            label = "best of Diffract" if side == "ours" else "best of diffusers"
            axis.plot(budgets, values, color=colour, linewidth=2.5, marker="o", label=label)
        lowest = min(getattr(row, measure) for row in here if math.isfinite(getattr(row, measure)))
        axis.set(xscale="log", yscale="log", title=bed, ylim=(lowest / 2, 2))
        axis.set_xticks(budgets, [str(b) for b in budgets])
        axis.minorticks_off()
        axis.set_xlabel("network evaluations")
        axis.set_ylabel(f"{measure} error to the exact solution")
        axis.grid(alpha=0.3)
        axis.legend()
    figure.tight_layout()
    figure.savefig(file, dpi=110)
    pyplot.close(figure)
