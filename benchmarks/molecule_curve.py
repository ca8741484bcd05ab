"""How good molecules become with the minutes of training: valid, strictly valid and stable ones, as a table and a plot.

    python -m benchmarks.molecule_curve --run outputs/gdb_mini [--minutes 1 2 4 6 8] [-n 300] [overrides]

The run is trained here; at each of the minutes (of training; judging is not counted) samples of the averaged
network are judged, and at the end a thousand of the last model's by `diffract evaluate`.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import lightning as L
import matplotlib

from benchmarks.machine import RESULTS, report
from experiments import evaluate
from experiments.configuration import allowed, compose, plain
from framework.metrics.measurement import read_metrics
from framework.training.run import train
from modalities.molecules.metrics.stability import stability
from modalities.molecules.metrics.validity import validity

matplotlib.use("Agg")
NAMES = ("valid_connected", "strict_valid", "molecule_stability")


class Curve(L.Callback):
    """Judges `n` samples at each of the minutes; `points` are (minutes, step, name, value, low, high)."""

    def __init__(self, minutes: list[float], n: int) -> None:
        self.minutes, self.n = sorted(minutes), n
        self.points: list[tuple[float, int, str, float, float, float]] = []
        self.seconds = 0.0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._since = time.perf_counter()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        spent = self.seconds + time.perf_counter() - self._since
        if not self.minutes or spent < 60 * self.minutes[0]:
            return
        self.seconds = spent
        self.judge(self.minutes.pop(0), trainer.global_step, pl_module)
        self._since = time.perf_counter()

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.seconds += time.perf_counter() - self._since
        self.judge(self.seconds / 60, trainer.global_step, pl_module)

    def judge(self, minutes: float, step: int, module: Any) -> None:
        samples = module.averaged_model().sample(None, self.n, seed=1, batch_size=100).samples
        found = validity(samples).measurements(0) | stability(samples).measurements(0)
        for name in NAMES:
            m = found[name]
            self.points.append((minutes, step, name, m.value, m.low, m.high))
        print(
            f"{minutes:.1f} min, step {step}: " + ", ".join(f"{name} {found[name].value:.3f}" for name in NAMES),
            flush=True,
        )


def draw(points: list[tuple[float, int, str, float, float, float]], file: Path) -> None:
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4))
    for name in NAMES:
        rows = [row for row in points if row[2] == name]
        minutes, values = [row[0] for row in rows], [row[3] for row in rows]
        spread = [[row[3] - row[4] for row in rows], [row[5] - row[3] for row in rows]]
        axes.errorbar(minutes, values, yerr=spread, marker="o", capsize=3, label=name.replace("_", " "))
    axes.set(xlabel="minutes of training", ylabel="share of samples", ylim=(0, 1), title="gdb-mini")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    figure.tight_layout()
    figure.savefig(file, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", required=True)
    parser.add_argument("--minutes", type=float, nargs="+", default=[1, 2, 4, 6, 8])
    parser.add_argument("-n", type=int, default=300)
    parser.add_argument("overrides", nargs="*")
    arguments = parser.parse_args()
    run = Path(arguments.run)
    words = ["experiment=molecules/gdb_mini", f"run={run}", "sampling.every_n_steps=0", *arguments.overrides]
    config = plain(compose("train", words))
    curve = Curve(arguments.minutes, arguments.n)
    train(config, allowed(config), words, callbacks=[curve])
    evaluate.run(compose("evaluate", [f"run={run}", "n=1000"]))
    metrics = read_metrics(run / "evaluation" / "metrics.json")
    draw(curve.points, RESULTS / "molecules_gdb_mini.png")
    report(
        "molecules_gdb_mini",
        "python -m benchmarks.molecule_curve --run outputs/gdb_mini " + " ".join(arguments.overrides),
        {
            "training_seconds": curve.seconds,
            "curve": [
                dict(zip(("minutes", "step", "metric", "value", "low", "high"), p, strict=True)) for p in curve.points
            ],
            "metrics": {name: measurement.to_dict() for name, measurement in metrics.items()},
        },
    )


if __name__ == "__main__":
    main()
