"""Whether methods became worse since an older study: the same methods, budgets and seeds, sample by sample.

Sample i of a seed has the same noise in both, so that differences are paired, and tested as those between methods are.
The family within which Holm's correction holds the chance of any false alarm to 5 % is all comparisons of the two
studies. Worse is what has certainly changed, and by more than the margin of equivalence; a change within the margin is
none, however certain. A method that does not work any more is worse.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from rich.table import Table

from framework.errors import UserError
from framework.studies.evidence import compare as compare_methods
from framework.studies.loaded import load
from framework.studies.responses import Responses, responses
from framework.studies.statistics.families import holm

LEVEL = 0.95


@dataclass(frozen=True)
class Change:
    """One method at one budget by one metric, then and now; p is after Holm's correction."""

    run: str
    metric: str
    method: str
    budget: float
    before: float
    now: float
    low: float
    high: float
    p: float
    verdict: Literal["worse", "better", "unchanged", "cannot be told"]
    reason: str = ""


class _Tested(NamedTuple):
    """A change with what it is judged by.

    Attributes:
        p: alone, that there is none.
        p_equivalent: alone, that it is the margin or more.
        margin: in the metric's units.
        sign: 1 where more is better, else -1.
    """

    change: Change
    p: float
    p_equivalent: float
    margin: float
    sign: int


def compare(old: Path, new: Path, *, margin: float | None = None) -> list[Change]:
    """Every comparison that both studies allow.

    Args:
        old, new: their folders.
        margin: of equivalence: absolute for shares, else a share of the value; by default the newer study's.

    Raises:
        UserError: they have no method, budget and seed of a run in common.
    """
    before, now = load(old), load(new)
    margin = now.margin if margin is None else margin
    found: list[_Tested] = []
    for run in before.runs:
        if run not in now.runs:
            continue
        theirs, ours = responses(before, run), responses(now, run)
        for metric in theirs:
            if metric in ours:
                found += _changes(theirs[metric], ours[metric], margin)
    if not found:
        raise UserError(f"{old} and {new} have no method in common at any budget and seed: there is nothing to compare")
    adjusted, equivalent = (holm(np.array(ps)) for ps in ([t.p for t in found], [t.p_equivalent for t in found]))
    return [
        t.change if t.change.verdict == "worse" else replace(t.change, p=float(p), verdict=_verdict(t, p, same))
        for t, p, same in zip(found, adjusted, equivalent, strict=True)
    ]


def _verdict(tested: _Tested, p: float, equivalent: float) -> Literal["worse", "better", "unchanged", "cannot be told"]:
    gain = tested.sign * (tested.change.now - tested.change.before)
    if gain == 0 or equivalent < 1 - LEVEL:
        return "unchanged"
    if not p < 1 - LEVEL or abs(gain) <= tested.margin:
        return "cannot be told"
    return "better" if gain > 0 else "worse"


def _changes(old: Responses, new: Responses, margin: float) -> Iterator[_Tested]:
    methods = [method for method in old.methods if method in new.methods]
    seeds = [seed for seed in old.seeds if seed in new.seeds]
    if not seeds:
        return
    pair = [_part(each, methods, seeds) for each in (old, new)]
    size = min(values.shape[-1] for values, _ in pair)
    for budget in (budget for budget in old.budgets if budget in new.budgets):
        places = [each.budgets.index(budget) for each in (old, new)]
        values = np.stack([part[:, b, :, :size] for (part, _), b in zip(pair, places, strict=True)])
        stacked = values.reshape(2 * len(methods), 1, -1)
        left = [kept[:, b] for (_, kept), b in zip(pair, places, strict=True) if kept is not None]
        alike = len(left) == 2 and left[0].shape == left[1].shape
        blocks = np.concatenate(left)[:, None] if alike else None
        both = replace(old, values=stacked, left_out=blocks, seeds=tuple(seeds))
        now, then = np.arange(len(methods)) + len(methods), np.arange(len(methods))
        with np.errstate(invalid="ignore"):
            compared = compare_methods(both, 0, now, then, margin=margin, level=LEVEL)
        estimates = compared.differences.estimates
        for m, method in enumerate(methods):
            known = [np.isfinite(stacked[row, 0]).any() for row in (m, m + len(methods))]
            if not known[0]:
                continue
            means = [float(np.nanmean(stacked[row, 0])) if ok else math.nan for row, ok in
                     zip((m, m + len(methods)), known, strict=True)]  # fmt: skip
            place = (new.methods.index(method), places[1])
            gone = not known[1] and bool(new.failed[place].any() or new.reasons[place])
            change = Change(
                old.run.name, old.metric.name, method, budget, means[0], means[1], float(estimates.low[m]),
                float(estimates.high[m]),
                float(compared.differences.p[m]), "worse" if gone else "cannot be told",
                str(new.reasons[place]) if gone else "",
            )  # fmt: skip
            if known[1] or gone:
                ps = (compared.differences.p[m], compared.p_equivalent[m])
                alone, equivalent = (math.nan if gone else float(p) for p in ps)
                yield _Tested(change, alone, equivalent, float(compared.margin[m]), old.metric.sign)


def _part(of: Responses, methods: list[str], seeds: list[int]) -> tuple[np.ndarray, np.ndarray | None]:
    """Values (m, b, s, n) and left-out values (m, b, s, k) of some methods and seeds."""
    rows, columns = [of.methods.index(method) for method in methods], [of.seeds.index(seed) for seed in seeds]
    values = of.values.reshape(len(of.methods), len(of.budgets), len(of.seeds), -1)[rows][:, :, columns]
    return values, None if of.left_out is None else of.left_out[rows][:, :, columns]


def table(changes: list[Change]) -> Table:
    """What changed; what did not is counted in the caption."""
    shown = Table(title="Against the older study")
    for heading in ("run", "metric", "method"):
        shown.add_column(heading)
    for heading in ("budget", "before", "now", "p (Holm)", "verdict"):
        shown.add_column(heading, justify="right")
    told = [change for change in changes if change.verdict in ("worse", "better")]
    for change in told:
        style = "red" if change.verdict == "worse" else "green"
        shown.add_row(
            change.run, change.metric, change.method, f"{change.budget:g}", f"{change.before:.4g}",
            change.reason or f"{change.now:.4g}", f"{change.p:.2g}", change.verdict, style=style,
        )  # fmt: skip
    rest = len(changes) - len(told)
    shown.caption = f"{rest} of {len(changes)} comparisons: unchanged, or cannot be told"
    return shown
