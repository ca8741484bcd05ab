"""CIFAR-10 from a local Parquet file: train, judge, and keep the loss curve, the sheet and the numbers.

    python -m benchmarks.cifar10 --data train.parquet --run outputs/cifar10_cpu               # two CPU cores, < 1 h
    python -m benchmarks.cifar10 --data train.parquet --run outputs/cifar10_latent --preset images/cifar10_latent
    python -m benchmarks.cifar10 --data train.parquet --run outputs/cifar10 \
        --preset images/cifar10 --minutes 20 trainer.max_steps=100000                                   # one GPU

    python -m benchmarks.cifar10 --table                     # all results side by side: pixels, latents, CPU and GPU

A run that is already there is judged and not trained again. Reported beside the metrics: parameters, images/s in
training (a model in latents has its autoencoder first, which is timed apart), seconds a sample, and the share of the
machine's measured matrix-multiplication peak that training reaches (an image is the work of three forward passes).
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import time
from pathlib import Path
from typing import Any

import matplotlib
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.machine import RESULTS, report
from experiments import evaluate, train
from experiments.autoencoder import first_stage, has_first_stage
from experiments.configuration import compose, plain
from framework.store import load

matplotlib.use("Agg")


def peak_flops(dtype: torch.dtype) -> float:
    """Floating-point operations a second of a large matrix product, the best of ten."""
    cuda = torch.cuda.is_available()
    n = 8192 if cuda else 2048
    a = torch.randn(n, n, dtype=dtype, device="cuda" if cuda else "cpu")
    best = float("inf")
    for _ in range(10):
        start = time.perf_counter()
        a @ a
        if cuda:
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return 2 * n**3 / best


def forward_flops(run: Path) -> float:
    """Floating-point operations of one image through the run's network."""
    model = load(run)
    x, level = torch.randn(1, *model.modality.space.shape), torch.zeros(1)  # type: ignore[attr-defined]
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.network(x, level, model.condition([None]))
    return float(counter.get_total_flops())


def curve(run: Path, file: Path) -> list[dict[str, float]]:
    """Draw the run's losses; returns the validation rows."""
    from matplotlib import pyplot

    with (run / "metrics.csv").open(newline="") as opened:
        rows = list(csv.DictReader(opened))
    figure, axes = pyplot.subplots(figsize=(7, 4))
    for name, style in (("train/loss", {"alpha": 0.5, "lw": 0.8}), ("val/loss", {"marker": "o"})):
        points = [(int(row["step"]) + 1, float(row[name])) for row in rows if row.get(name)]
        axes.plot(*zip(*points, strict=True), label=name, **style)
    axes.set(xlabel="step", ylabel="loss", yscale="log", title=f"CIFAR-10, {run.name}")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(file, dpi=110)
    return [{k: float(v) for k, v in row.items() if v} for row in rows if row.get("val/loss")]


def table() -> str:
    """The results that are there, a row each."""
    head = ["preset", "device", "parameters, M", "images/s", "seconds a sample", "Frechet", "held-out real images"]
    rows = [head, ["---"] * len(head)]
    for file in sorted(RESULTS.glob("images_cifar10*.json")):
        result = json.loads(file.read_text())
        metrics = result["metrics"]
        numbers = [result.get("parameters_millions"), result["images_per_second"], result.get("seconds_per_sample")]
        frechet = [metrics[key]["value"] for key in ("frechet", "ceiling/frechet")]
        cells = ["" if number is None else f"{number:.3g}" for number in (*numbers, *frechet)]
        rows.append([file.stem, result["machine"]["device"], *cells])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def seconds_a_sample(run: Path, count: int = 64) -> float:
    """Wall seconds of a guided sample with the run's own solver and steps, in a batch, decoding included."""
    model = load(run, "cuda" if torch.cuda.is_available() else "cpu")
    prompts = list(model.modality.examples(count))
    model.sample(prompts[:2], steps=2)
    start = time.perf_counter()
    model.sample(prompts, batch_size=count)
    return (time.perf_counter() - start) / count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data")
    parser.add_argument("--run")
    parser.add_argument("--table", action="store_true", help="print the table of all results, and measure nothing")
    parser.add_argument("--preset", default="images/cifar10_cpu")
    parser.add_argument("--minutes", type=int, default=60)
    parser.add_argument("-n", type=int, default=1000)
    parser.add_argument("overrides", nargs="*")
    arguments = parser.parse_args()
    if arguments.table:
        print(table())
        return
    if arguments.data is None or arguments.run is None:
        parser.error("--data and --run are needed")
    run, seconds, before = Path(arguments.run), float("nan"), 0.0
    words = [f"experiment={arguments.preset}", f"data.path={arguments.data}", f"run={run}", *arguments.overrides]
    if not (run / "model").exists():
        settings = plain(compose("train", words))
        start = time.perf_counter()
        if has_first_stage(settings):
            first_stage(settings)
            before = time.perf_counter() - start
        start = time.perf_counter()
        train.run(compose("train", [*words, f"trainer.max_time=00:00:{arguments.minutes:02d}:00"]))
        seconds = time.perf_counter() - start
    evaluate.run(compose("evaluate", [f"run={run}", f"n={arguments.n}", "batch_size=128"]))
    name = arguments.preset.replace("/", "_")
    RESULTS.mkdir(exist_ok=True)
    validation = curve(run, RESULTS / f"{name}_loss.png")
    shutil.copy(run / "evaluation" / "samples" / "sheet.png", RESULTS / f"{name}_sheet.png")
    metrics: dict[str, Any] = json.loads((run / "evaluation" / "metrics.json").read_text())
    counts = torch.load(sorted((run / "checkpoints").glob("*.ckpt"))[-1], weights_only=True)["counts"]
    dtype = torch.bfloat16 if torch.cuda.is_available() else torch.float32
    peak, work = peak_flops(dtype), 3 * forward_flops(run)
    rate = counts["samples_seen"] / seconds
    report(
        name,
        " ".join(
            ["python -m benchmarks.cifar10 --data train.parquet --preset", arguments.preset, *arguments.overrides]
        ),
        {
            "parameters_millions": sum(p.numel() for p in load(run).network.parameters()) / 1e6,
            "seconds_per_sample": seconds_a_sample(run),
            "first_stage_seconds": before,
            "images_seen": counts["samples_seen"],
            "seconds": None if seconds != seconds else seconds,
            "images_per_second": None if rate != rate else rate,
            "training_flops_per_image": work,
            "measured_peak_flops": peak,
            "share_of_peak": None if rate != rate else rate * work / peak,
            "validation": validation,
            "metrics": metrics,
        },
    )


if __name__ == "__main__":
    main()
