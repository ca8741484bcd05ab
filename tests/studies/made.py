"""Studies that were never run: folders with known truths, for tests of analysis and report.

`write(folder)` makes one over three domains: the quality of method m at e evaluations is floor + gap_m (4/e)^order_m,
plus what each sample (shared by all methods: the same noise) and each method's own chance add.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from safetensors.numpy import save_file

COLOURS = ("#b33", "#3b3", "#33b", "#bb3")


@dataclass(frozen=True)
class MadeMethod:
    """A method: its label and how it does in each domain: (gap at 4 evaluations, order)."""

    solver: str
    grid: str
    gaps: Mapping[str, tuple[float, float]]
    stochastic: bool = False

    @property
    def label(self) -> str:
        return f"{self.solver} · {self.grid}"


# alpha is best in all domains but the last; beta and gamma are equal there and everywhere; epsilon is stochastic.
METHODS = (
    MadeMethod("alpha", "even", {"pictures": (0.20, 2), "sounds": (0.20, 2), "graphs": (0.60, 1)}),
    MadeMethod("beta", "even", {"pictures": (0.40, 2), "sounds": (0.40, 2), "graphs": (0.40, 2)}),
    MadeMethod("gamma", "even", {"pictures": (0.40, 2), "sounds": (0.40, 2), "graphs": (0.40, 2)}),
    MadeMethod("delta", "steep", {"pictures": (0.80, 1), "sounds": (0.80, 1), "graphs": (0.20, 2)}),
    MadeMethod("epsilon", "steep", {"pictures": (0.90, 1), "sounds": (0.90, 1), "graphs": (0.90, 1)}, stochastic=True),
)
METRIC_KEYS = ("name", "label", "better", "kind", "unit", "ceiling")
METRICS = {
    "pictures": [
        ("accuracy", "accuracy", "higher", "binary", "", 0.99),
        ("frechet", "Fréchet distance", "lower", "set", "", 0.5),
    ],
    "sounds": [
        ("loudness_error", "loudness error", "lower", "value", "dB", None),
        ("intelligible", "intelligible", "higher", "binary", "", 0.97),
    ],
    "graphs": [
        ("valid", "valid", "higher", "binary", "", 1.0),
        ("strain", "strain energy", "lower", "value", "kcal/mol", 1.5),
    ],
}
ERROR = ("error", "error to the exact solution", "lower", "value", "", None)


def write(
    folder: str | Path,
    *,
    domains: Sequence[str] = ("pictures", "sounds", "graphs"),
    methods: Sequence[MadeMethod] = METHODS,
    budgets: Sequence[int] = (4, 8, 16, 32),
    seeds: Sequence[int] = (0, 1, 2),
    n: int = 64,
    trainings: int = 1,
    failures: bool = True,
    rng_seed: int = 0,
) -> Path:
    """Write a study's folder and return it.

    Args:
        trainings: runs of each experiment, with training seeds 0, 1, ..
        failures: make the last method fail at the smallest budget, and be not applicable at the largest.
    """
    folder = Path(folder)
    (folder / "cells").mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(rng_seed)
    runs, metrics, planned = [], {}, []
    for domain in domains:
        for training_seed in range(trainings):
            name = domain if trainings == 1 else f"{domain}-{training_seed}"
            runs.append(_run(name, domain, training_seed))
            metrics[name] = [dict(zip(METRIC_KEYS, entry, strict=True)) for entry in (ERROR, *METRICS[domain])]
            luck = 1 + (0.1 * rng.normal() if trainings > 1 else 0.0)
            for seed in seeds:
                shared = rng.normal(size=n)
                for order, method in enumerate(methods):
                    for budget in budgets:
                        gap, power = method.gaps[domain]
                        quality = luck * gap * (4 / budget) ** power
                        status = "ok"
                        if failures and method is methods[-1]:
                            status = {budgets[0]: "failed", budgets[-1]: "not applicable"}.get(budget, "ok")
                        record = _record(name, domain, training_seed, method, order, budget, seed, n, status)
                        planned.append(record["key"])
                        _write_cell(folder, record, domain, method, quality, shared, rng)
    study = {
        "name": "made", "axis": "solvers", "created": "2026-01-01T00:00:00Z",
        "command": "diffract compare study=made runs=[" + ",".join(run["run"] for run in runs) + "]",
        "environment": {"python": "3.11", "torch": "2.11", "device": "cpu"},
        "protocol": {"n": n, "seeds": list(seeds), "budgets": list(budgets), "margin": 0.02},
        "budget_unit": "evaluations", "runs": runs, "metrics": metrics, "planned": planned,
    }  # fmt: skip
    (folder / "study.json").write_text(json.dumps(study, indent=2))
    return folder


def show(samples: Sequence[int]) -> list[str]:
    """Fragments of HTML as a modality would give them for its samples."""
    circle = '<circle cx="4" cy="4" r="3" fill="{}"/>'
    return [
        f'<svg viewBox="0 0 8 8" role="img" aria-label="sample {i}">{circle.format(COLOURS[i % 4])}</svg>'
        for i in samples
    ]


def rows(table, **keys):
    """The rows of a table with these entries (NaN: those that have none)."""
    for name, value in keys.items():
        table = table[table[name].isna() if isinstance(value, float) and math.isnan(value) else table[name] == value]
    return table


def only(table, **keys):
    """The one row with these entries."""
    found = rows(table, **keys)
    assert len(found) == 1, found
    return found.iloc[0]


def edit(folder, key, change):
    """Change what the JSON of a cell says, in place."""
    file = folder / "cells" / f"{key}.json"
    record = json.loads(file.read_text())
    change(record)
    file.write_text(json.dumps(record))


def _run(name: str, domain: str, training_seed: int) -> dict:
    return {
        "run": f"outputs/{name}", "name": name, "domain": domain, "experiment": f"{domain}/made",
        "training_seed": training_seed, "model_hash": f"{name:0<12}", "parameters": 123456, "flops_per_evaluation": 2e8,
    }  # fmt: skip


def _record(
    run: str,
    domain: str,
    training_seed: int,
    method: MadeMethod,
    order: int,
    budget: int,
    seed: int,
    n: int,
    status: str,
) -> dict:
    steps = budget // (2 if method.solver == "beta" else 1)
    cost = {
        "evaluations": float(budget), "forward": float(budget), "backward": 0.0, "flops": 2e8 * budget,
        "seconds_p50": 0.01 * budget + 0.002 * order, "seconds_p95": 0.012 * budget + 0.002 * order,
        "peak_bytes": 10_000_000 + 1000 * order,
    }  # fmt: skip
    reason = {"ok": "", "failed": "samples are not finite", "not applicable": "needs an even budget"}[status]
    return {
        "key": f"{run}.{method.solver}.{budget}.{seed}", "run": f"outputs/{run}", "domain": domain,
        "experiment": f"{domain}/made", "training_seed": training_seed, "method": method.label,
        "solver": method.solver, "grid": method.grid, "guidance": "none",
        "solver_config": {"name": method.solver}, "grid_config": {"name": method.grid},
        "guidance_config": {}, "budget": budget, "steps": steps, "seed": seed, "n": n, "status": status,
        "reason": reason, "phase": "compared", "order": order, "stochastic": method.stochastic,
        "cost": cost if status == "ok" else {}, "set_metrics": {},
    }  # fmt: skip


def _write_cell(
    folder: Path,
    record: dict,
    domain: str,
    method: MadeMethod,
    quality: float,
    shared: np.ndarray,
    rng: np.random.Generator,
) -> None:
    n = len(shared)
    own = rng.normal(size=n)
    if record["status"] == "ok":
        error = quality * np.exp(0.5 * shared + 0.2 * own - 0.145)
        table = {"index": np.arange(n), "prompt": [f"class {i % 10}" for i in range(n)]}
        table["error"] = np.full(n, math.nan) if method.stochastic else error
        right = (shared + 0.3 * own < 1.5 - 3 * quality).astype(float)
        value = 2 + quality + 0.5 * shared + 0.1 * own
        if domain == "pictures":
            table["accuracy"] = right
            record["set_metrics"] = {"frechet": 1 + 4 * quality + 0.1 * shared.mean() + 0.02 * rng.normal()}
        elif domain == "sounds":
            table |= {"loudness_error": value, "intelligible": right}
        else:
            # What is not valid has no strain energy.
            table |= {"valid": right, "strain": np.where(right == 1, value, math.nan)}
        pd.DataFrame(table).to_parquet(folder / "cells" / f"{record['key']}.parquet")
        features = np.stack([shared + quality, own], axis=1).astype(np.float32)
        save_file({"features": features}, folder / "cells" / f"{record['key']}.safetensors")
    (folder / "cells" / f"{record['key']}.json").write_text(json.dumps(record))
