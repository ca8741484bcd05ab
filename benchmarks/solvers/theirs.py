r"""diffusers' deterministic schedulers on a bed, each in the coordinates that it works in.

A scheduler is asked for its own noise level at every call (`sigmas[step_index]`, or its table at the integer timestep),
and the network's clean mean at exactly that level is handed back in the form that the scheduler wants:

    preserving   x = (y, u) / sqrt(1 + u^2); clean mean          DPM-Solver, UniPC, DEIS, SA-Solver
    straight     alpha = 1 - sigma; clean mean or velocity       the same with use_flow_sigmas; FlowMatch*
    exploding    x = y; noise                                    Euler, Heun, LMS, KDPM2
    edm          x = y; EDM's F                                  EDM*
    table        alpha, sigma of the integer timestep; noise     DDIM, PNDM
    cosine       iPNDM's own path from alpha = 0; v              iPNDM

So rounding of timesteps costs them nothing here. An evaluation is a call of `step`, of which one each asks the network.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import diffusers
import torch
from torch import Tensor

from benchmarks.solvers.beds import LOW, RHOS, SHIFTS, TABLE, Bed, ratio

TABLE_ARGUMENTS = {"num_train_timesteps": 1000, "beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "linear"}
SPACINGS: dict[str, dict[str, Any]] = {
    "linspace": {"timestep_spacing": "linspace"},
    "trailing": {"timestep_spacing": "trailing"},
    "karras": {"timestep_spacing": "linspace", "use_karras_sigmas": True},
    "exponential": {"timestep_spacing": "linspace", "use_exponential_sigmas": True},
    "beta": {"timestep_spacing": "linspace", "use_beta_sigmas": True},
    "lu": {"timestep_spacing": "linspace", "use_lu_lambdas": True},
}


@dataclass(frozen=True)
class Peer:
    """A scheduler with all its arguments, and the coordinates of the module's docstring."""

    solver: str
    grid: str
    kind: str
    name: str
    arguments: dict[str, Any]
    generator: bool = False

    def make(self) -> Any:
        """A fresh scheduler."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            scheduler = getattr(diffusers, self.name)(**self.arguments)
        if "Singlestep" in self.name:
            scheduler.register_to_config(lower_order_final=True)
        return scheduler


def peers(kind: str) -> list[Peer]:
    """Every deterministic scheduler that walks beds of this kind, with each of its spacings."""
    if kind == "noise":
        return list(_from_noise())
    if kind == "table":
        return list(_of_the_table())
    return [peer for peer in map(_ended_early, _of_the_table()) if peer is not None]


def _ended_early(peer: Peer) -> Peer | None:
    """The same scheduler ending at the table's first entry, if it can."""
    if peer.name == "DEISMultistepScheduler":
        return peer
    if "final_sigmas_type" not in _known(peer.name) or (peer.kind == "edm" and peer.arguments["sigma_min"] != LOW):
        return None
    return replace(peer, arguments={**peer.arguments, "final_sigmas_type": "sigma_min"})


def _end(kind: str) -> dict[str, str]:
    """These end at the table's first entry: the step to sigma = 0 is refused, or (bh1) not a number."""
    return {"final_sigmas_type": "sigma_min"} if kind in ("dpmsolver", "bh1") else {}


def _exponential_integrators() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """The schedulers that take a clean mean, with their methods: (our name for it, class, arguments)."""
    for order, kind in product((1, 2, 3), ("dpmsolver++", "dpmsolver")):
        arguments = {"solver_order": order, "algorithm_type": kind, **_end(kind)}
        yield f"{kind} {order}M", "DPMSolverMultistepScheduler", arguments
    yield "dpmsolver++ 2M heun", "DPMSolverMultistepScheduler", {"solver_order": 2, "solver_type": "heun"}
    yield "dpmsolver++ 2M euler_at_final", "DPMSolverMultistepScheduler", {"solver_order": 2, "euler_at_final": True}
    yield (
        "dpmsolver++ 3M full order",
        "DPMSolverMultistepScheduler",
        {"solver_order": 3, "lower_order_final": False, "euler_at_final": True},
    )
    for order, kind in product((2, 3), ("dpmsolver++", "dpmsolver")):
        arguments = {"solver_order": order, "algorithm_type": kind, "lower_order_final": True, **_end(kind)}
        yield f"{kind} {order}S", "DPMSolverSinglestepScheduler", arguments
    for order, kind in product((1, 2, 3), ("bh1", "bh2")):
        arguments = {"solver_order": order, "solver_type": kind, **_end(kind)}
        yield f"unipc-{order} {kind}", "UniPCMultistepScheduler", arguments
    for order in (1, 2, 3):
        yield f"deis {order}", "DEISMultistepScheduler", {"solver_order": order}


def _known(name: str) -> tuple[str, ...]:
    """The names of a class's arguments."""
    code = getattr(diffusers, name).__init__.__wrapped__.__code__
    known: tuple[str, ...] = code.co_varnames[: code.co_argcount]
    return known


def _spacings_of(name: str) -> Iterator[str]:
    """The spacings that a class offers, but `leading`, which starts elsewhere."""
    known = _known(name)
    for spacing, arguments in SPACINGS.items():
        keys = [key for key in arguments if key != "timestep_spacing" or "timestep_spacing" in known]
        if all(key in known for key in keys) and not (spacing == "trailing" and "timestep_spacing" not in known):
            yield spacing


def _spaced(name: str, spacing: str) -> dict[str, Any]:
    known = _known(name)
    return {key: value for key, value in SPACINGS[spacing].items() if key in known}


def _of_the_table() -> Iterator[Peer]:
    for solver, name, arguments in _exponential_integrators():
        for spacing in _spacings_of(name):
            chosen = {**TABLE_ARGUMENTS, **arguments, **_spaced(name, spacing), "prediction_type": "sample"}
            yield Peer(solver, spacing, "preserving", name, chosen)
    for solver, name in {
        "euler": "EulerDiscreteScheduler",
        "heun": "HeunDiscreteScheduler",
        "lms": "LMSDiscreteScheduler",
        "kdpm2": "KDPM2DiscreteScheduler",
    }.items():
        for spacing in _spacings_of(name):
            yield Peer(solver, spacing, "exploding", name, {**TABLE_ARGUMENTS, **_spaced(name, spacing)})
    for spacing in ("linspace", "trailing"):
        common = {**TABLE_ARGUMENTS, "timestep_spacing": spacing, "set_alpha_to_one": True}
        yield Peer("ddim", spacing, "table", "DDIMScheduler", {**common, "clip_sample": False})
        yield Peer("pndm", spacing, "table", "PNDMScheduler", {**common, "skip_prk_steps": True})
    high = ratio(TABLE, 1.0)
    shapes = [("karras", 7.0), *(("karras", rho) for rho in RHOS), ("exponential", 7.0)]
    for (shape, rho), low in product(shapes, (0.002, LOW, 0.03)):
        common = {"sigma_min": low, "sigma_max": high, "sigma_schedule": shape, "rho": rho}
        grid = f"{shape} {low:.3g}" + ("" if rho == 7 else f" rho={rho:g}")
        yield Peer("edm euler", grid, "edm", "EDMEulerScheduler", common)
        for order in (1, 2, 3):
            arguments = {**common, "solver_order": order}
            yield Peer(f"edm dpmsolver++ {order}M", grid, "edm", "EDMDPMSolverMultistepScheduler", arguments)


def _from_noise() -> Iterator[Peer]:
    for solver, name, arguments in _exponential_integrators():
        for shift in (1.0, *SHIFTS):
            flow = {"use_flow_sigmas": True, "flow_shift": shift, "prediction_type": "sample"}
            yield Peer(solver, f"flow shift {shift:g}", "straight", name, {**arguments, **flow})
    for shift in (1.0, *SHIFTS):
        for spacing in ("uniform", "karras", "exponential", "beta"):
            flags = {} if spacing == "uniform" else {f"use_{spacing}_sigmas": True}
            grid = f"flow shift {shift:g}" + ("" if spacing == "uniform" else f" {spacing}")
            yield Peer("flow euler", grid, "velocity", "FlowMatchEulerDiscreteScheduler", {"shift": shift, **flags})
        yield Peer("flow heun", f"flow shift {shift:g}", "velocity", "FlowMatchHeunDiscreteScheduler", {"shift": shift})
    yield Peer("ipndm", "its own", "cosine", "IPNDMScheduler", {})


def stochastic_peers() -> list[Peer]:
    """The schedulers that draw noise, from the table's last entry; `generator` says which ones take a generator."""
    found = []
    for order, kind in ((1, "midpoint"), (2, "midpoint"), (2, "heun"), (3, "midpoint")):
        name, arguments = "DPMSolverMultistepScheduler", {"solver_order": order, "solver_type": kind}
        arguments |= {"algorithm_type": "sde-dpmsolver++"}
        found.append((f"sde-dpmsolver++ {order}M {kind}", "preserving", name, arguments, True))
    for order in (2, 3):
        orders = {"predictor_order": order, "corrector_order": order}
        found.append((f"sa-solver {order}", "preserving", "SASolverScheduler", orders, True))
    found.append(("euler ancestral", "exploding", "EulerAncestralDiscreteScheduler", {}, True))
    found.append(("kdpm2 ancestral", "exploding", "KDPM2AncestralDiscreteScheduler", {}, True))
    found.append(("dpmsolver sde", "exploding", "DPMSolverSDEScheduler", {"noise_sampler_seed": 0}, False))
    found.append(("ddpm", "table", "DDPMScheduler", {"clip_sample": False}, True))
    peers = []
    for solver, kind, name, arguments, generator in found:
        for spacing in _spacings_of(name):
            chosen = {**TABLE_ARGUMENTS, **arguments, **_spaced(name, spacing)}
            if kind == "preserving":
                chosen["prediction_type"] = "sample"
            peers.append(Peer(solver, spacing, kind, name, chosen, generator))
    return peers


@dataclass
class Outcome:
    """The end of a run, y = x / alpha, and what it cost."""

    y: Tensor
    steps: int
    evaluations: int


@torch.no_grad()
def run(peer: Peer, bed: Bed, budget: int, seed: int = 0) -> Outcome | None:
    """The most steps that `budget` evaluations allow; None if there is no such number of steps."""
    extra = {"generator": torch.Generator().manual_seed(seed)} if peer.generator else {}
    scheduler = peer.make()
    steps = _most_steps(scheduler, budget)
    if steps is None:
        return None
    scheduler.set_timesteps(steps)
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(0)  # else the first of two equal timesteps is skipped
    if hasattr(scheduler, "is_scale_input_called"):
        scheduler.is_scale_input_called = True  # the state is handed to the network unscaled, at its own level
    frame = Frame(peer, scheduler)
    x = bed.state(*frame.level(0, scheduler.timesteps[0]))
    for i, t in enumerate(scheduler.timesteps):
        alpha, sigma = frame.level(i, t)
        output = frame.output(x, bed.clean(x, alpha, sigma), alpha, sigma)
        x = scheduler.step(output, t, x, return_dict=False, **extra)[0]
    return Outcome(x / frame.last_alpha(), steps, len(scheduler.timesteps))


def _most_steps(scheduler: Any, budget: int) -> int | None:
    for steps in range(budget, 0, -1):
        try:
            scheduler.set_timesteps(steps)
        except (ValueError, IndexError, ZeroDivisionError):
            continue
        if len(scheduler.timesteps) <= budget:
            return steps
    return None


class Frame:
    """Where a scheduler is, and what it wants to be told."""

    def __init__(self, peer: Peer, scheduler: Any) -> None:
        self.kind, self.name, self.scheduler = peer.kind, peer.name, scheduler

    def level(self, i: int, t: Tensor) -> tuple[float, float]:
        """(alpha, sigma) of the state at call i."""
        if self.kind == "table":
            power = float(self.scheduler.alphas_cumprod[int(t)])
            return math.sqrt(power), math.sqrt(1 - power)
        if self.kind == "cosine":
            return float(self.scheduler.alphas[i]), float(self.scheduler.betas[i])
        if self.name.startswith(("KDPM2", "DPMSolverSDE")) and not self.scheduler.state_in_first_order:
            return 1.0, self._between(i)
        return self._of_sigma(float(self.scheduler.sigmas[i]))

    def _between(self, i: int) -> float:
        """The level within the step."""
        if self.name == "DPMSolverSDEScheduler":
            return float(self.scheduler.mid_point_sigma)
        return float(self.scheduler.sigmas_interpol[i - 1 if "Ancestral" in self.name else i])

    def _of_sigma(self, sigma: float) -> tuple[float, float]:
        if self.kind == "preserving":
            return 1 / math.sqrt(1 + sigma**2), sigma / math.sqrt(1 + sigma**2)
        if self.kind in ("straight", "velocity"):
            return 1 - sigma, sigma
        return 1.0, sigma

    def last_alpha(self) -> float:
        """alpha after the last call."""
        if self.kind in ("table", "cosine"):
            return 1.0
        return self._of_sigma(float(self.scheduler.sigmas[-1]))[0]

    def output(self, x: Tensor, clean: Tensor, alpha: float, sigma: float) -> Tensor:
        """The network's prediction as the scheduler's kind of network would give it."""
        if self.kind in ("preserving", "straight"):
            return clean
        noise = (x - alpha * clean) / sigma
        if self.kind == "velocity":
            return noise - clean
        if self.kind == "cosine":
            return alpha * noise - sigma * clean
        if self.kind == "edm":
            data = self.scheduler.config.sigma_data
            total = sigma**2 + data**2
            return (clean - data**2 / total * x) * (math.sqrt(total) / (sigma * data))
        return noise
