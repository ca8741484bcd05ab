"""study.json: what was asked for, of which models, under which protocol, and where."""

from __future__ import annotations

import datetime
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import metadata
from typing import Any

import torch

from framework.studies.cell import Cell
from framework.studies.cost import Probe
from framework.studies.plan import Study
from framework.studies.reference import exact
from framework.studies.runs import RunSpec, open_run
from framework.studies.store import StudyFolder

PACKAGES = ("diffract", "torch", "numpy", "scipy", "pandas", "tensordict", "safetensors")


@dataclass(frozen=True)
class How:
    """How the work is done, which changes no number but seconds and memory.

    Attributes:
        jobs: processes.
        part: (k, n): only every n-th cell, from the k-th (1 to n).
        retry: failed cells are tried again.
        command: what was typed.
    """

    jobs: int = 1
    part: tuple[int, int] = (1, 1)
    retry: bool = False
    command: str = ""

    @cached_property
    def threads(self) -> int:
        """Of each process: those that torch would use in one, divided."""
        return max(1, torch.get_num_threads() // self.jobs)


def tell(
    study: Study,
    specs: Sequence[RunSpec],
    probes: Mapping[str, Probe],
    metrics: Mapping[str, list[dict[str, Any]]],
    store: StudyFolder,
    how: How,
    cells: Sequence[Cell],
) -> None:
    """Write study.json; when it was first begun, and with what, stays."""
    before = store.json("study.json") or {}
    runs: dict[str, dict[str, Any]] = {}
    for spec in specs:
        probe = probes[spec.file]
        entry: dict[str, Any] = {
            "run": spec.name, "name": spec.name, "folder": spec.folder, "domain": open_run(spec).domain,
            "experiment": spec.experiment, "training_seed": spec.training_seed, "model_hash": spec.model_hash,
            "parameters": probe.parameters, "flops_per_evaluation": probe.flops,
            "backward_per_evaluation": probe.backward, "seconds_per_evaluation": probe.per_evaluation,
        }  # fmt: skip
        if spec.variant:
            known = runs.get(spec.name, {}).get("variants", {})
            entry = {**runs.get(spec.name, entry), "variants": {**known, spec.variant: entry}}
        runs[spec.name] = entry
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    store.write_json(
        "study.json",
        {
            "name": study.name,
            "axis": study.axis,
            "created": before.get("created", now),
            "command": how.command or before.get("command", ""),
            "environment": before.get("environment") or environment(how),
            "protocol": settings(study),
            "budget_unit": study.protocol.unit,
            "runs": list(runs.values()),
            "metrics": {name: entries for name, entries in metrics.items()},
            "planned": list(dict.fromkeys(cell.key for cell in cells)),
        },
    )


def settings(study: Study) -> dict[str, Any]:
    """The protocol as plain settings, for the report."""
    protocol, tuning = study.protocol, study.tuning
    solution = type(exact(protocol.tolerance)).__name__
    said: dict[str, Any] = {
        **protocol.settles,
        "budgets": list(study.budgets),
        "budget_unit": protocol.unit,
        "seeds": list(study.seeds),
        "margin": study.margin,
        "solvers": [choice.name for choice in study.solvers],
        "grids": [choice.name for choice in study.grids],
        "guidance": [choice.name for choice in study.guidance],
        "noise": "the same initial noise and uniforms for every cell of a seed"
        + (", one Brownian path a sample" if protocol.brownian else ""),
        "reference": f"{solution} on the probability-flow ODE, tolerance {protocol.tolerance:g}",
        "evaluations": "forward passes a sample, guidance counted; a backward pass by its floating-point operations",
        "seconds": "of a sample: a batch's seconds over its rows, after a first call that is not counted",
    }
    if tuning is not None:
        said["tuning"] = {
            "seeds": list(tuning.seeds),
            "n": tuning.n,
            "candidates": {s.name: [f"{a.name} · {b.name}" for a, b in tuning.candidates(s)] for s in study.solvers},
            "by": list(tuning.by),
        }
    return said


def environment(how: How) -> dict[str, Any]:
    """What seconds depend on, and the versions of what was used."""
    versions: dict[str, str | None] = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = None
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    return {
        "python": platform.python_version(), "platform": platform.platform(), "versions": versions, "device": device,
        "cpus": os.cpu_count(), "jobs": how.jobs, "threads": how.threads,
    }  # fmt: skip
