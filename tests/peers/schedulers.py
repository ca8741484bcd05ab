"""diffusers' schedulers run in float64, on times and noise that are given, against the exact denoiser.

Their modules say float32 and integer time steps in many places. `in_double` reads float32 as float64 there, the tables
of noise levels are then replaced by ours, and the loop is the one of their pipelines: what is compared are the updates.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.peers.bed import Run, in_double, start

diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed: pip install -e '.[peers]'")

# What a state of theirs is at noise level u: y = x_0 + u z times a scale that depends on the class.
EXPLODING = (
    "EulerDiscrete",
    "EulerAncestralDiscrete",
    "HeunDiscrete",
    "LMSDiscrete",
    "KDPM2Discrete",
    "DPMSolverSDE",
    "EDMEuler",
    "EDMDPMSolverMultistep",
)
TWO_STAGES = ("HeunDiscrete", "KDPM2Discrete", "DPMSolverSDE", "FlowMatchHeunDiscrete")
Noise = Callable[[], Tensor]


def of(name: str) -> Any:
    return getattr(diffusers, f"{name}Scheduler")


def level(name: str, ratios: Tensor, call: int) -> float:
    """The noise level sigma / alpha at which the `call`-th evaluation is made."""
    if name not in TWO_STAGES:
        return float(ratios[call])
    step, second = call // 2, call % 2 == 1
    if not second:
        return float(ratios[step])
    if name in ("HeunDiscrete", "FlowMatchHeunDiscrete"):
        return float(ratios[step + 1])
    return math.sqrt(float(ratios[step] * ratios[step + 1]))


def set_levels(name: str, scheduler: Any, ratios: Tensor) -> None:
    """Put our noise-to-signal ratios, of which the last may be 0, in place of the scheduler's own."""
    steps = len(ratios) - 1
    scheduler.set_timesteps(steps)
    levels = ratios / (1 + ratios) if name.startswith("FlowMatch") else ratios
    if name in TWO_STAGES:
        levels = torch.cat([levels[:1], levels[1:-1].repeat_interleave(2), levels[-1:]])
    if name == "IPNDM":
        scheduler.betas, scheduler.alphas = ratios / (1 + ratios**2).sqrt(), 1 / (1 + ratios**2).sqrt()
    else:
        scheduler.sigmas = levels
    if name == "KDPM2Discrete":
        middles = (ratios[1:] * ratios[:-1]).sqrt().repeat_interleave(2)
        scheduler.sigmas_interpol = torch.cat([torch.zeros(1), middles, torch.zeros(1)])
    calls = 2 * steps - 1 if name in TWO_STAGES else steps
    scheduler.timesteps = torch.arange(calls, 0, -1, dtype=torch.float64)
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(0)


def theirs(
    name: str,
    ratios: Tensor,
    noise: Iterator[Tensor] | None = None,
    prepare: Callable[[Any], None] = lambda scheduler: None,
    step: dict[str, Any] | None = None,
    kind: type | None = None,
    **config: Any,
) -> Run:
    """A run of the scheduler of that name from ratios[0] to ratios[-1].

    Args:
        noise: what its draws are, in order.
        prepare: called with the scheduler before the run.
        step: further arguments of its `step`.
        kind: a class in place of the one of that name.
        config: the scheduler's configuration.
    """
    kind = kind or of(name)
    module = sys.modules[of(name).__module__]
    run, flow = Run(), name.startswith("FlowMatch") or config.get("use_flow_sigmas", False)
    with pytest.MonkeyPatch.context() as patch, in_double(module):
        if noise is not None and hasattr(module, "randn_tensor"):
            patch.setattr(module, "randn_tensor", lambda *a, **k: next(noise))
        scheduler = kind(**{"num_train_timesteps": 50, **config})  # the table itself is not used
        set_levels(name, scheduler, ratios)
        prepare(scheduler)

        def scale(u: float) -> float:
            return 1.0 if name in EXPLODING else 1 / (1 + u) if flow else 1 / math.sqrt(1 + u**2)

        u = float(ratios[0])
        x = scale(u) * u * start()
        for call, t in enumerate(scheduler.timesteps):
            u = level(name, ratios, call)
            y = x / scale(u)
            clean = run.ask(y, u)
            if hasattr(scheduler, "scale_model_input"):
                scheduler.scale_model_input(x, t)
            out = output(scheduler, name, y, clean, u, flow)
            x = scheduler.step(out, t, x, return_dict=False, **(step or {}))[0]
        run.end = x / scale(float(ratios[-1]))
    return run


def output(scheduler: Any, name: str, y: Tensor, clean: Tensor, u: float, flow: bool) -> Tensor:
    """What a network would have said so that the scheduler finds this clean mean: noise, v, velocity, or EDM's F."""
    eps = (y - clean) / u
    if name.startswith("EDM"):
        data = scheduler.config.sigma_data
        return (clean - data**2 / (u**2 + data**2) * y) * math.sqrt(u**2 + data**2) / (u * data)
    if flow:
        return eps - clean
    if name == "IPNDM":
        return (eps - u * clean) / math.sqrt(1 + u**2)
    return eps


def on_the_table(
    name: str, steps: int, noise: Iterator[Tensor], step: dict[str, Any] | None = None, **config: Any
) -> tuple[Run, list[int], Tensor]:
    """The run of a scheduler that knows integer time steps only: its indices, and its float64 betas, too."""
    module, run = sys.modules[of(name).__module__], Run()
    with pytest.MonkeyPatch.context() as patch, in_double(module):
        patch.setattr(module, "randn_tensor", lambda *a, **k: next(noise), raising=False)
        scheduler = of(name)(**config)
        scheduler.set_timesteps(steps)
        indices = [int(t) for t in scheduler.timesteps]
        squares = [float(scheduler.alphas_cumprod[i]) for i in indices]
        x = math.sqrt(1 - squares[0]) * start()
        for index, square in zip(indices, squares, strict=True):
            u = math.sqrt((1 - square) / square)
            y = x / math.sqrt(square)
            eps = (y - run.ask(y, u)) / u
            x = scheduler.step(eps, torch.tensor(index), x, return_dict=False, **(step or {}))[0]
        run.end = x
        return run, indices, scheduler.betas
