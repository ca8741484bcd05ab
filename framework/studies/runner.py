"""One cell: drawn, judged and written, or kept as a failure with its reason."""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from framework.errors import UserError
from framework.grids.fitted import Fitted
from framework.studies.cell import FAILED, NOT_APPLICABLE, OK, Cell, Protocol, digest
from framework.studies.cost import Probe, warm_up
from framework.studies.drawing import Batch, Sampler, distances, draw
from framework.studies.judging import SETS, parts_of_real, real_features, set_metrics, without_blocks
from framework.studies.plan import sampler_of
from framework.studies.reference import Reference, has_reference, nothing, solve
from framework.studies.runs import Opened, RunSpec, open_run, use_threads
from framework.studies.store import StudyFolder

SHOWN = "show.json"  # the samples as fragments of HTML
NOT_FINITE = "{count} of {n} samples are not finite: the method is not stable here at so few steps"


class NotFinite(Exception):
    """Samples that are no numbers cannot be judged."""


def reference_file(cell: Cell, spec: RunSpec) -> str:
    """Where the exact solution of a cell's samples lies, under reference/."""
    of = [cell.model_hash, cell.method.guidance.config, cell.prompts, cell.protocol.tolerance, cell.n]
    return f"{spec.file}-{cell.seed}-{digest([*of, cell.protocol.batch_size])}.safetensors"


def needs_reference(cell: Cell, opened: Opened) -> bool:
    """Whether a cell's samples have an error to the exact solution."""
    return (
        cell.steps is not None and not cell.stochastic and has_reference(opened.model) and cell.protocol.keeps("error")
    )


def solve_reference(cell: Cell, spec: RunSpec, folder: Path, threads: int) -> tuple[float, float]:
    """Solve for the samples of such a cell; returns seconds, and evaluations a sample."""
    use_threads(threads)
    opened, file = open_run(spec), StudyFolder(folder).references / reference_file(cell, spec)
    start = time.perf_counter()
    guidance = sampler_of(opened, cell.method, 1).guidance
    asked = solve(opened.model, guidance, opened.prompts(cell.n, cell.seed), cell.seed, cell.protocol, file)
    return time.perf_counter() - start, asked


def run_cell(cell: Cell, spec: RunSpec, folder: Path, made: Probe, threads: int) -> tuple[str, float]:
    """Draw, judge and write a cell; returns its status and the seconds that it took."""
    use_threads(threads)
    start = time.perf_counter()
    store, record = StudyFolder(folder), cell.record()
    if cell.steps is None:
        store.write_cell({**record, "status": NOT_APPLICABLE, "reason": cell.reason, "cost": {}, "set_metrics": {}})
        return NOT_APPLICABLE, 0.0
    try:
        opened = open_run(spec)
        _warm(opened, cell.protocol)
        sampler = sampler_of(opened, cell.method, cell.steps)
        extra = _fit(opened, sampler, cell)
        prompts = opened.prompts(cell.n, cell.seed)
        batches = list(draw(opened.model, sampler, prompts, cell.seed, cell.protocol))
        _check_finite(batches)
        columns, features, samples = _judged(cell, opened, spec, store, prompts, batches)
        sets, left_out = _sets(cell, opened, spec, store, features)

        about = {"model": spec.name, "method": cell.method.label, "seed": str(cell.seed), "budget": f"{cell.budget:g}"}
        shown = cell.protocol.shown

        def write(to: Path) -> None:
            show(opened, samples[:shown], prompts[:shown], about, to)

        record |= {"status": OK, "reason": "", "cost": cost_of(batches, made) | extra}
        record |= {"set_metrics": sets, "set_left_out": left_out}
        store.write_cell(record, columns, features, write if shown else None)
        return OK, time.perf_counter() - start
    except (UserError, NotFinite) as error:
        status, reason, trace = (NOT_APPLICABLE if isinstance(error, UserError) else FAILED), str(error), ""
    except Exception as error:  # whatever a method or a model does wrong, the other cells are drawn
        status, reason, trace = FAILED, f"{type(error).__name__}: {error}", traceback.format_exc()[-4000:]
    store.write_cell({
        **record, "status": status, "reason": reason, "traceback": trace, "cost": {}, "set_metrics": {}
    })  # fmt: skip
    return status, time.perf_counter() - start


def cost_of(batches: Sequence[Batch], made: Probe) -> dict[str, Any]:
    """The ledger of a cell: evaluations and operations a sample, seconds a sample over the batches, peak memory."""
    count = sum(len(batch) for batch in batches)
    forward, backward = (sum(getattr(batch.ledger, name) for batch in batches) / count for name in
                         ("forward", "backward"))  # fmt: skip
    seconds = [batch.seconds / len(batch) for batch in batches]
    evaluations = forward + backward * made.backward
    return {
        "evaluations": evaluations,
        "forward": forward,
        "backward": backward,
        "flops": evaluations * made.flops,
        "seconds_p50": float(np.percentile(seconds, 50)),
        "seconds_p95": float(np.percentile(seconds, 95)),
        "seconds_of": "sample",
        "batches": len(batches),
        "peak_bytes": max(batch.peak_bytes for batch in batches),
    }


def _warm(opened: Opened, protocol: Protocol) -> None:
    """The first call of a process for a run is slow, and is not counted."""
    name = (opened.spec.folder, opened.spec.device, protocol.batch_size)
    if name not in _WARM:
        warm_up(opened.model, opened.prompts(protocol.n, 0), protocol)
        _WARM.add(name)


_WARM: set[tuple[str, str, int]] = set()


def _fit(opened: Opened, sampler: Sampler, cell: Cell) -> dict[str, float]:
    """Fit a grid that is fitted to the model, which is no part of sampling; the seconds that it took."""
    if not isinstance(sampler.grid, Fitted):
        return {}
    fitted = opened.model.fit_grid(
        sampler.grid, solver=sampler.solver, steps=sampler.steps, guidance=sampler.guidance,
        batch_size=cell.protocol.batch_size,
    )  # fmt: skip
    return {"fit_seconds": float(fitted.record.get("seconds", 0.0))}


def _check_finite(batches: Sequence[Batch]) -> None:
    wrong = sum(int((~torch.isfinite(batch.rows)).any(1).sum()) for batch in batches)
    if wrong:
        raise NotFinite(NOT_FINITE.format(count=wrong, n=sum(len(batch) for batch in batches)))


def _judged(
    cell: Cell, opened: Opened, spec: RunSpec, store: StudyFolder, prompts: Sequence[Any], batches: Sequence[Batch]
) -> tuple[dict[str, Any], np.ndarray | None, Any]:
    """The table's columns, the features, and all samples."""
    modality = opened.model.modality
    samples = modality.join([batch.samples for batch in batches])
    columns: dict[str, Any] = {"index": list(range(cell.n)), "prompt": ["" if p is None else str(p) for p in prompts]}
    if cell.protocol.keeps("error"):
        columns["error"] = _errors(cell, opened, spec, store, batches)
    if opened.data is None:
        return columns, None, samples
    for name, score in modality.scores(samples, prompts, opened.data, cell.seed).items():
        if cell.protocol.keeps(name):
            columns[name] = score.values
    wanted = cell.protocol.keeps_any(SETS)
    return columns, modality.features(samples, opened.data) if wanted else None, samples


def _errors(cell: Cell, opened: Opened, spec: RunSpec, store: StudyFolder, batches: Sequence[Batch]) -> list[float]:
    if not needs_reference(cell, opened):
        return nothing(cell.n)
    solution = Reference(store.references / reference_file(cell, spec))
    found: list[float] = []
    for batch in batches:
        exact = solution.at(batch.start, batch.rows)
        found += nothing(len(batch)) if exact is None else distances(batch.rows, exact, batch.size)
    return found


def _sets(
    cell: Cell, opened: Opened, spec: RunSpec, store: StudyFolder, features: np.ndarray | None
) -> tuple[dict[str, float], dict[str, list[float]]]:
    """The distances of sets, and those without each block of samples."""
    if features is None:
        return {}, {}
    found = real_features(opened, cell.protocol, store.references / real_file(spec, cell.protocol))
    if found is None:
        return {}, {}
    real, _ = parts_of_real(found)
    kept = [name for name in SETS if cell.protocol.keeps(name)]
    whole, left_out = set_metrics(features, real), without_blocks(features, real)
    return {name: whole[name] for name in kept}, {name: left_out[name] for name in kept if name in left_out}


def real_file(spec: RunSpec, protocol: Protocol) -> str:
    """Where the features of a run's real items lie, under reference/."""
    return f"{spec.file}-real-{digest([spec.data, protocol.real])}.safetensors"


def show(opened: Opened, samples: Any, prompts: Sequence[Any], about: Mapping[str, str], folder: Path) -> None:
    """Write samples in the format of their field, and as fragments of HTML for the report."""
    modality = opened.model.modality
    rows = [{"prompt": str(prompt), "index": str(i), **about} for i, prompt in enumerate(prompts)]
    modality.render(samples, prompts, folder, rows)
    (folder / SHOWN).write_text(json.dumps(modality.show(samples, prompts)) + "\n")
