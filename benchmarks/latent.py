"""A model in latents beside one in pixels: images/s in training, seconds a sample, and how well captions are obeyed.

    python -m benchmarks.latent --pixels outputs/shapes --latents outputs/shapes_latent [-n 512] [--rounds 9]

Both runs are there already; each is continued in memory from fresh weights for a few steps at a time, in turns in this
process, so that a change in the machine's mood hits both. Times are processor seconds, which on a shared machine leaves
the others' work out: on a quiet one with T threads a wall second is up to T of them, of both alike. A training step is
all of it: batch, encoding or cache, loss, gradients, clipping, AdamW, average. Sampling is all of it too, decoding
included, with each run's own solver, steps and guidance.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import yaml

from benchmarks.machine import report
from experiments import evaluate
from experiments.configuration import allowed, compose
from framework.build import build
from framework.latents import TrainedAutoencoder
from framework.noise import BatchKey
from framework.store import build_model, load
from framework.training.latents import latent_data
from framework.training.module import DiffusionTraining

WARM_UP = 3
SAMPLES = 64


class Trained:
    """A run that takes training steps, one at a time."""

    def __init__(self, run: Path) -> None:
        self.config = yaml.safe_load((run / "config.yaml").read_text())
        allow = allowed(self.config)
        data = build(self.config["data"], allow)
        data.setup("fit")
        cached = (self.config.get("autoencoder") or {}).get("cache")
        source = latent_data(self.config, allow, data) if cached else data
        torch.manual_seed(0)
        self.module = DiffusionTraining(
            build_model(self.config, allow),
            build(self.config["objective"], allow),
            build(self.config["optimizer"], allow),
            condition_dropout=self.config["condition_dropout"],
        )
        trained = list(self.module.network.parameters())
        self.optimizer = torch.optim.AdamW(trained, lr=1e-4, betas=(0.9, 0.99), weight_decay=0.0, fused=True)
        self.batches: Iterator[Any] = iter(source.train_dataloader())
        self.size, self.step = self.config["data"]["batch_size"], 0

    def steps(self, count: int) -> float:
        """Processor seconds of so many steps."""
        start = time.process_time()
        for _ in range(count):
            x_0, condition = self.module.encode(next(self.batches))
            loss = self.module.loss(x_0, condition, BatchKey(0, self.step, 0, len(x_0)))
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.module.network.parameters(), 1.0)
            self.optimizer.step()
            self.step += 1
            self.module.ema.update(self.module.network, self.size, self.step * self.size)
        return time.process_time() - start


def sampling(run: Path) -> float:
    """Processor seconds a sample."""
    model = load(run)
    model.sample([None] * 2, steps=2)
    start = time.process_time()
    model.sample([None] * SAMPLES, batch_size=SAMPLES)
    return (time.process_time() - start) / SAMPLES


def spread(pairs: list[float]) -> dict[str, float]:
    """Median and ends."""
    return {"median": statistics.median(pairs), "min": min(pairs), "max": max(pairs)}


def measure(runs: dict[str, Path], steps: int, rounds: int) -> dict[str, Any]:
    """Rates of both and their ratios, turn by turn."""
    trained = {name: Trained(run) for name, run in runs.items()}
    for one in trained.values():
        one.steps(WARM_UP)
    before = TrainedAutoencoder.pictures_encoded
    rates: dict[str, list[float]] = {name: [] for name in runs}
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, one in trained.items():
            rates[name].append(steps * one.size / one.steps(steps))
        encoded = TrainedAutoencoder.pictures_encoded - before
        for name, run in runs.items():
            seconds[name].append(sampling(run))
    return {
        "parameters": {name: sum(p.numel() for p in one.module.network.parameters()) for name, one in trained.items()},
        "training_images_per_cpu_second": {name: spread(values) for name, values in rates.items()},
        "sampling_cpu_seconds_a_sample": {name: spread(values) for name, values in seconds.items()},
        "training_ratio_latents_to_pixels": spread(_ratios(rates["latents"], rates["pixels"])),
        "sampling_time_ratio_latents_to_pixels": spread(_ratios(seconds["latents"], seconds["pixels"])),
        "pictures_encoded_in_training": encoded,
    }


def _ratios(top: list[float], bottom: list[float]) -> list[float]:
    return [a / b for a, b in zip(top, bottom, strict=True)]


def judged(runs: dict[str, Path], n: int) -> dict[str, Any]:
    """Caption accuracy of both on the same held-out captions, and of the autoencoder's reconstructions."""
    found: dict[str, Any] = {}
    for name, run in runs.items():
        with tempfile.TemporaryDirectory() as out:
            metrics = evaluate.run(compose("evaluate", [f"run={run}", f"n={n}", f"out={out}"]))
        found[name] = {
            key: {"value": m.value, "low": m.low, "high": m.high, "n": m.n}
            for key, m in metrics.items()
            if key in ("caption_accuracy/single", "ceiling/caption_accuracy/single", "frechet", "recall")
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pixels", default="outputs/shapes")
    parser.add_argument("--latents", default="outputs/shapes_latent")
    parser.add_argument("-n", type=int, default=512, help="captions to judge on; 0: speed alone")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    runs = {"pixels": Path(arguments.pixels), "latents": Path(arguments.latents)}
    result = measure(runs, arguments.steps, arguments.rounds)
    if arguments.n:
        result["judged"] = judged(runs, arguments.n)
    report("latent", f"python -m benchmarks.latent -n {arguments.n} --rounds {arguments.rounds}", result)


if __name__ == "__main__":
    main()
