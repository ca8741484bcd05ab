"""What audio costs, stage by stage: clips a second to encode, train, sample and decode, and seconds of sound a second.

A run of `diffract train experiment=audio/...` is loaded; its own data are encoded and trained on (forward, backward and
optimiser, without data loading), its own prompts sampled as the run samples.

    python -m benchmarks.audio --run outputs/notes [--clips 64] [--data path]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import yaml

from benchmarks.machine import report
from framework import load
from framework.build import USER_CONFIG, build

ROUNDS = 3


def best(action: Callable[[], Any]) -> float:
    """Seconds of the fastest of ROUNDS calls, after one to warm up."""
    action()
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", required=True)
    parser.add_argument("--data", default=None, help="where the run's data lie now")
    parser.add_argument("--clips", type=int, default=64)
    arguments = parser.parse_args()
    config = yaml.safe_load((Path(arguments.run) / "config.yaml").read_text())
    if arguments.data is not None:
        config["data"]["path"] = arguments.data
    data, model = build(config["data"], USER_CONFIG), load(arguments.run)
    data.setup("fit")
    loader = iter(data.train_dataloader())
    batch = next(loader)
    size = len(batch["length"])
    seconds: dict[str, float] = {}
    seconds["read"] = best(lambda: next(loader)) / size
    seconds["encode"] = best(lambda: model.modality.encode(batch)) / size
    clean, condition = model.modality.encode(batch)
    network = model.network.train().requires_grad_(True)
    optimizer = torch.optim.AdamW(network.parameters(), 1e-5, fused=True)

    def step() -> None:
        z = torch.randn_like(clean)
        t = torch.rand(size, dtype=torch.float64)
        alpha, sigma = (v.reshape(-1, 1, 1, 1).float() for v in (model.schedule.alpha(t), model.schedule.sigma(t)))
        out = network(alpha * clean + sigma * z, model.noise_level(model.schedule, t).float(), condition)
        (out - clean).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()

    seconds["train"] = best(step) / size
    network.eval()
    prompts = list(model.modality.prompts(data, arguments.clips, 0))
    drawn = model.sample(prompts, seed=0)
    total = best(lambda: model.sample(prompts, seed=0)) / len(prompts)
    given = model.modality.encode({"waveform": drawn.samples.samples, "length": drawn.samples.lengths,
                                   "label": torch.full((len(prompts),), -1), "caption": [""] * len(prompts),
                                   "labels": torch.full((len(prompts), max(1, len(data.heads))), -1)})  # fmt: skip
    seconds["decode"] = best(lambda: model.modality.decode(*given)) / len(prompts)
    seconds["sample"] = total - seconds["decode"]
    sound = float(drawn.samples.seconds.mean())
    defaults = model.defaults
    result = {
        "run": config["name"],
        "clips_a_second": {name: 1 / value for name, value in seconds.items()},
        "mean_clip_seconds": sound,
        "seconds_of_sound_made_a_second": sound / total,
        "batch": size,
        "sampling": f"{type(defaults.solver).__name__}, {defaults.steps} steps, guidance {defaults.guidance}",
        "parameters": sum(p.numel() for p in network.parameters()),
    }
    report(f"audio_throughput_{Path(config['name']).name}", f"python -m benchmarks.audio --run {arguments.run}", result)


if __name__ == "__main__":
    main()
