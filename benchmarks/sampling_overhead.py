"""Sampling seconds of Diffract against the same number of bare network calls on the same batch.

python -m benchmarks.sampling_overhead [--run outputs/shapes] [--steps 20] [--rounds 7]
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import torch

from benchmarks.machine import report
from framework.guidance.classifier_free import ClassifierFree
from framework.solvers.ddim import DDPM
from framework.solvers.dpmpp import DPMpp2M
from framework.store import load

SAMPLES = 64


def bare(model: Any, calls: int, rows: int) -> float:
    """Seconds of `calls` forward passes of the network."""
    x = torch.randn(rows, *model.modality.space.shape, device=model.device)
    level = torch.full((rows,), 500.0, device=model.device)
    condition = model.condition([None] * rows)
    start = time.perf_counter()
    with torch.no_grad():
        for _ in range(calls):
            model.network(x, level, condition)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", default="outputs/shapes")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    model = load(arguments.run, "cuda" if torch.cuda.is_available() else "cpu")
    results = {}
    cases = {
        "dpmpp_2m": (DPMpp2M(), 1.0),
        "dpmpp_2m, guided": (DPMpp2M(), 2.0),
        "ddpm (noise each step), guided": (DDPM(), 2.0),
    }
    for name, (solver, scale) in cases.items():
        pairs = []
        for _ in range(arguments.rounds):
            samples = model.sample(
                [None] * SAMPLES,
                steps=arguments.steps,
                solver=solver,
                guidance=ClassifierFree(scale),
                batch_size=SAMPLES,
            )
            rows = SAMPLES * (2 if scale != 1 else 1)
            pairs.append(samples.ledger.seconds / bare(model, samples.ledger.calls, rows))
        results[name] = {"median": statistics.median(pairs), "min": min(pairs), "max": max(pairs)}
    report(
        "sampling_overhead",
        f"python -m benchmarks.sampling_overhead --run {arguments.run} --steps {arguments.steps}",
        {"time_ratio_ours_to_bare": results, "samples": SAMPLES},
    )


if __name__ == "__main__":
    main()
