"""Sampling seconds of Diffract against the same number of bare network calls on the same batch.

Two ratios: to bare calls that follow each run (on a shared machine their times scatter by a tenth), and to the time
spent inside the network in the very same run, which is exact.

    python -m benchmarks.sampling_overhead [--run outputs/shapes] [--steps 20] [--rounds 15]
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


class Timed(torch.nn.Module):
    """A network that adds up the seconds spent in it."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network, self.seconds = network, 0.0

    def forward(self, x: torch.Tensor, level: torch.Tensor, condition: Any) -> torch.Tensor:
        start = time.perf_counter()
        out: torch.Tensor = self.network(x, level, condition)
        if x.is_cuda:
            torch.cuda.synchronize()
        self.seconds += time.perf_counter() - start
        return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", default="outputs/shapes")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    model = load(arguments.run, "cuda" if torch.cuda.is_available() else "cpu")
    results: dict[str, Any] = {}
    network = model.network
    cases = {
        "dpmpp_2m": (DPMpp2M(), 1.0),
        "dpmpp_2m, guided": (DPMpp2M(), 2.0),
        "ddpm (noise each step), guided": (DDPM(), 2.0),
    }
    for name, (solver, scale) in cases.items():
        pairs, inside = [], []
        for _ in range(arguments.rounds + 1):
            model.network = timed = Timed(network)
            samples = model.sample(
                [None] * SAMPLES,
                steps=arguments.steps,
                solver=solver,
                guidance=ClassifierFree(scale),
                batch_size=SAMPLES,
            )
            rows = SAMPLES * (2 if scale != 1 else 1)
            inside.append(samples.ledger.seconds / timed.seconds)
            model.network = network
            pairs.append(samples.ledger.seconds / bare(model, samples.ledger.calls, rows))
        pairs = pairs[1:]  # the first is the warm-up
        quartiles = statistics.quantiles(pairs, n=4)
        results[name] = {
            "to_bare_calls": {"median": quartiles[1], "lower_quartile": quartiles[0], "upper_quartile": quartiles[2]},
            "to_the_network_in_the_same_run": {"median": statistics.median(inside[1:]), "max": max(inside[1:])},
        }
    report(
        "sampling_overhead",
        f"python -m benchmarks.sampling_overhead --run {arguments.run} --steps {arguments.steps}",
        {"time_ratio": results, "samples": SAMPLES},
    )


if __name__ == "__main__":
    main()
