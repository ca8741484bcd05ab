"""What an evaluation costs beyond the network in solvers that are no plan: adaptive ones, those of tokens, splitting.

benchmarks/step_cost.py measures the others, beside diffusers, which has no solver for such states but one of masks in
the order of confidence (`AmusedScheduler`), whose law is another. Processor microseconds an evaluation, the median
over rounds, with a denoiser that hands back what was made before. Adaptive solvers walk Gaussian data, whose exact
denoiser is two multiplications, since a constant prediction would need no steps.

    python -m benchmarks.loop_cost [--rounds 15]
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import dataclass
from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor

from benchmarks.groups import group
from benchmarks.machine import RESULTS, report
from framework.categories import Array, Categories
from framework.denoiser import Prediction
from framework.noise import SampleKey
from framework.processes.categorical import Categorical
from framework.processes.gaussian import Gaussian
from framework.processes.process import Process
from framework.processes.product import Product
from framework.sampler import sample
from framework.schedules import Flow, Schedule
from framework.solvers.splitting import Splitting
from framework.spaces import Euclidean, Space
from framework.spaces import Product as ProductSpace
from framework.state import Condition, State, combine

SIZES = ((1, 4, 64, 64), (64, 3, 32, 32))
TOKENS = ((1, 4096), (64, 256))
CLASSES, STEPS = 8, 20


@dataclass
class Given:
    """A denoiser that hands back a prediction; of Gaussian data of unit variance where there is none."""

    clean: State | None
    schedule: Schedule
    calls: int = 0

    def __call__(self, x_t: State, t: Tensor, condition: Condition) -> Prediction:
        self.calls += 1
        alpha, sigma = self.schedule.alpha_sigma(t)
        clean = combine([(alpha / (alpha**2 + sigma**2), x_t)]) if self.clean is None else self.clean
        return Prediction(clean, x_t, alpha, sigma)


@dataclass(frozen=True)
class Case:
    """A process, its space, and a prediction of its states for B rows."""

    process: Process
    space: Space
    clean: State | None
    rows: int


def cases(kind: str) -> list[Case]:
    """The small state of few rows, and the one of many."""
    found, generator = [], torch.Generator().manual_seed(0)
    for size, tokens in zip(SIZES, TOKENS, strict=True):
        rows, numbers, words = size[0], Euclidean(size[1:]), Categories(CLASSES, Array(tokens[1:]))
        law = torch.rand((*tokens, CLASSES), generator=generator).softmax(-1)
        if kind == "gaussian":
            found.append(Case(Gaussian(Flow(), numbers), numbers, None, rows))
        elif kind == "tokens":
            found.append(Case(Categorical(Flow(), words), words, law, rows))  # type: ignore[arg-type]
        else:
            both = Product({"x": Gaussian(Flow(), numbers), "y": Categorical(Flow(), words)})
            clean = TensorDict({"x": torch.randn(size, generator=generator), "y": law}, batch_size=[rows])
            space = ProductSpace({"x": numbers, "y": words})  # type: ignore[dict-item]
            found.append(Case(both, space, clean, rows))
    return found


@torch.no_grad()
def measure(solver: Any, case: Case, rounds: int) -> tuple[float, int]:
    """(microseconds an evaluation, evaluations of a run)."""
    condition, key = TensorDict({}, batch_size=[case.rows]), SampleKey(0, tuple(range(case.rows)))
    times = torch.linspace(1, 0, STEPS + 1, dtype=torch.float64)
    found = []
    for _ in range(rounds):
        denoiser = Given(case.clean, Flow())
        start = time.process_time()
        sample(denoiser, solver, times, case.space, condition, key, process=case.process)
        found.append(1e6 * (time.process_time() - start) / denoiser.calls)
    return statistics.median(found[1:] or found), denoiser.calls


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    results: dict[str, list[dict[str, float]]] = {}
    for name, solver in group("solver").items():
        if hasattr(solver, "plan"):
            continue
        kind = "both" if isinstance(solver, Splitting) else "gaussian" if hasattr(solver, "tableau") else "tokens"
        few = 3 if name == "first_hitting" else arguments.rounds  # an evaluation a token
        measured = [measure(solver, case, few) for case in cases(kind)]
        results[name] = [{"us_an_evaluation": cost, "evaluations": count} for cost, count in measured]
    sizes = [f"{'x'.join(map(str, a))} or {'x'.join(map(str, b))} tokens" for a, b in zip(SIZES, TOKENS, strict=True)]
    lines = [f"| solver | {sizes[0]} | {sizes[1]} |", "|---|---|---|"]
    for name, both in results.items():
        cells = [f"{r['us_an_evaluation']:.0f} us ({r['evaluations']} evaluations)" for r in both]
        lines.append(f"| {name} | {cells[0]} | {cells[1]} |")
    (RESULTS / "loop_cost.md").write_text("\n".join(lines) + "\n")
    report("loop_cost", f"python -m benchmarks.loop_cost --rounds {arguments.rounds}", {"solvers": results})
    print("\n".join(lines))


if __name__ == "__main__":
    main()
