"""Training images/s of Diffract against a bare PyTorch loop with the same network, data, loss, clipping and averaging.

Both train in this process, in turns, so that a change in the machine's mood hits both. Each turn times the steps after
a warm-up; the ratio is the median over turns.

    python -m benchmarks.training_overhead [--experiment images/shapes] [--steps 40] [--rounds 5]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import lightning as L
import torch

from benchmarks.machine import report
from experiments.configuration import allowed, compose, plain
from framework.build import build
from framework.store import build_model
from framework.training.run import train

WARM_UP = 5


class Stopwatch(L.Callback):
    """The seconds between the end of step WARM_UP and the end of the last one."""

    def __init__(self) -> None:
        self.start = self.end = 0.0

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        _synchronise()
        if trainer.global_step == WARM_UP:
            self.start = time.perf_counter()
        self.end = time.perf_counter()


def _synchronise() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def ours(config: dict[str, Any], allow: Any, steps: int) -> float:
    """Seconds of `steps` steps of a run with everything on that runs every step; no checkpoint or preview falls in."""
    watch = Stopwatch()
    with tempfile.TemporaryDirectory() as folder:
        settings = {**config, "run": folder, "logger": {}}
        settings["logger"] = {"csv": {"_target_": "framework.training.run_logger.RunLogger", "folder": folder}}
        settings["checkpoint"] = {"every_n_steps": 10**9, "keep": 1}
        settings["sampling"] = {**config["sampling"], "every_n_steps": 0}
        settings["trainer"] = {**config["trainer"], "max_steps": WARM_UP + steps, "val_check_interval": 10**9}
        train(settings, allow, callbacks=[watch])
    return watch.end - watch.start


def bare(config: dict[str, Any], allow: Any, steps: int) -> float:
    """Seconds of the same work in a loop of a dozen lines."""
    from modalities.images.modality import Images

    data = build(config["data"], allow)
    data.setup()
    config = Images.adapt(config, data)
    torch.manual_seed(0)
    model = build_model(config, allow)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    network = model.to(device).network.train()
    average = [p.detach().clone() for p in network.parameters()]
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, betas=(0.9, 0.99), weight_decay=0.0)
    conditions, start = model.modality.conditions, 0.0  # type: ignore[attr-defined]
    for step, batch in enumerate(data.train_dataloader()):
        if step == WARM_UP:
            _synchronise()
            start = time.perf_counter()
        if step == WARM_UP + steps:
            break
        x_0 = batch["image"].to(device).float() / 127.5 - 1
        condition = conditions.encode(batch).to(device)
        null = conditions.null(condition)
        keep = torch.rand(len(x_0), device=device) >= 0.1
        for key in condition.keys():  # noqa: SIM118
            shape = keep.reshape(-1, *[1] * (condition[key].ndim - 1))
            condition[key] = torch.where(shape, condition[key], null[key])
        t, z = torch.rand(len(x_0), 1, 1, 1, device=device), torch.randn_like(x_0)
        prediction = network((1 - t) * x_0 + t * z, 1000 * t.flatten(), condition)
        loss = (prediction - (z - x_0)).square().mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        torch._foreach_lerp_(average, [p.detach() for p in network.parameters()], 0.001)
    _synchronise()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--experiment", default="images/shapes")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    composed = compose("train", [f"experiment={arguments.experiment}", f"run={Path(tempfile.gettempdir()) / 'none'}"])
    config, allow = plain(composed), allowed(composed)
    seconds: dict[str, list[float]] = {"ours": [], "bare": []}
    for _ in range(arguments.rounds):
        seconds["ours"].append(ours(config, allow, arguments.steps))
        seconds["bare"].append(bare(config, allow, arguments.steps))
    images = arguments.steps * config["data"]["batch_size"]
    rates = {name: images / statistics.median(values) for name, values in seconds.items()}
    pairs = [a / b for a, b in zip(seconds["ours"], seconds["bare"], strict=True)]
    report(
        f"training_overhead_{arguments.experiment.replace('/', '_')}",
        f"python -m benchmarks.training_overhead --experiment {arguments.experiment} --steps {arguments.steps} "
        f"--rounds {arguments.rounds}",
        {
            "images_per_second": rates,
            "seconds": seconds,
            "time_ratio_ours_to_bare": {"median": statistics.median(pairs), "min": min(pairs), "max": max(pairs)},
        },
    )


if __name__ == "__main__":
    main()
