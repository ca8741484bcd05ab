"""What a solver's step costs beyond the network, beside `scheduler.step` of diffusers for the same method.

The network is taken out: our denoiser and theirs hand back a tensor that was made before, so that what is left is
coefficients, state arithmetic, memory and noise. Ours is timed as `sample()` does it, plan included, with the times
given; theirs as `scheduler.step` called in a loop. A second ratio adds what comes before the loop on both sides: our
grid, their `set_timesteps`. A third replaces the denoiser by a network that predicts noise: on our side
`NetworkDenoiser`, on theirs prediction_type="epsilon" with `scale_model_input`.

Both sides run in turns in one process on one thread and are timed in processor seconds, which on a shared machine
leaves the others' work out; a ratio is the median over rounds of ours / theirs. A step is a step of ours, and for a
singlestep method as many of theirs as it has evaluations.

    python -m benchmarks.step_cost [--rounds 31] [--only dpmpp_2m]
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import diffusers
import torch
from tensordict import TensorDict
from torch import Tensor, nn

from benchmarks.groups import group
from benchmarks.machine import RESULTS, report
from framework.denoiser import Denoiser, NetworkDenoiser, Prediction, TableIndex
from framework.grids import Trailing
from framework.noise import SampleKey
from framework.parametrizations import Epsilon
from framework.sampler import sample
from framework.schedules import DDPMBetas, Schedule
from framework.solvers.plan import Solver
from framework.spaces import Euclidean
from framework.state import Condition

SIZES = ((1, 4, 64, 64), (64, 3, 32, 32))
STEPS = (20, 50)
FEWEST, LONGEST = 5, 2.0  # rounds of a case, and seconds after which no more are begun
BETAS = {"num_train_timesteps": 1000, "beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "linear"}


@dataclass(frozen=True)
class Peer:
    """A scheduler of diffusers.

    Attributes:
        name: its class.
        arguments: of the class, beside the betas.
        clean: whether it takes a clean prediction; if not, it is given noise, and converts it.
        generator: whether `step` takes a generator.
        betas: whether the class takes betas.
        stages: evaluations of one of our steps where theirs counts each evaluation as a step.
    """

    name: str
    arguments: dict[str, Any]
    clean: bool = True
    generator: bool = False
    betas: bool = True
    stages: int = 1

    def make(self, epsilon: bool) -> Any:
        """The scheduler, for a network of epsilon or of clean predictions."""
        arguments = {**(BETAS if self.betas else {}), **self.arguments}
        if not epsilon and self.clean:
            arguments["prediction_type"] = "sample"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return getattr(diffusers, self.name)(**arguments)


def _multistep(**arguments: Any) -> Peer:
    noisy = arguments.get("algorithm_type", "").startswith("sde")
    return Peer("DPMSolverMultistepScheduler", arguments, generator=noisy)


def _singlestep(order: int, kind: str = "dpmsolver++") -> Peer:
    arguments = {"solver_order": order, "algorithm_type": kind, "lower_order_final": True}
    if kind == "dpmsolver":
        arguments["final_sigmas_type"] = "sigma_min"  # zero is refused
    return Peer("DPMSolverSinglestepScheduler", arguments, stages=order)


def _unipc(order: int, kind: str) -> Peer:
    return Peer("UniPCMultistepScheduler", {"solver_order": order, "solver_type": kind})


PEERS = {
    "ddim": Peer("DDIMScheduler", {"clip_sample": False}),
    "ddpm": Peer("DDPMScheduler", {"clip_sample": False}, generator=True),
    "euler": Peer("EulerDiscreteScheduler", {}),
    "euler_ancestral": Peer("EulerAncestralDiscreteScheduler", {}, clean=False, generator=True),
    "heun": Peer("HeunDiscreteScheduler", {}, clean=False),
    "dpm_solver_2": _singlestep(2, "dpmsolver"),
    "dpm_solver_3": _singlestep(3, "dpmsolver"),
    "dpmpp_2s": _singlestep(2),
    "dpmpp_3s": _singlestep(3),
    "dpmpp_2m": _multistep(solver_order=2),
    "dpmpp_3m": _multistep(solver_order=3),
    "dpmpp_3m_exact": _multistep(solver_order=3),
    "sde_dpmpp_1": _multistep(solver_order=1, algorithm_type="sde-dpmsolver++"),
    "sde_dpmpp_2m": _multistep(solver_order=2, algorithm_type="sde-dpmsolver++"),
    "sde_dpmpp_2m_heun": _multistep(solver_order=2, algorithm_type="sde-dpmsolver++", solver_type="heun"),
    "dpmpp_sde": Peer("DPMSolverSDEScheduler", {"noise_sampler_seed": 0}, clean=False),
    "deis": Peer("DEISMultistepScheduler", {"solver_order": 3}),
    "lms": Peer("LMSDiscreteScheduler", {}, clean=False),
    "ipndm": Peer("IPNDMScheduler", {"num_train_timesteps": 1000}, clean=False, betas=False),
    "unipc": _unipc(3, "bh2"),
    "unip": Peer(
        "UniPCMultistepScheduler",
        {"solver_order": 3, "solver_type": "bh2", "disable_corrector": tuple(range(1000))},
    ),
    "sde_dpmpp_3m": _multistep(solver_order=3, algorithm_type="sde-dpmsolver++"),
    "sa_solver": Peer("SASolverScheduler", {"predictor_order": 3, "corrector_order": 3}, generator=True),
}
"""Our names (conf/solver) and the scheduler of diffusers that says it is the same method."""


@dataclass(frozen=True)
class Given:
    """A denoiser that costs nothing: a prediction that was made before."""

    schedule: Schedule
    clean: Tensor

    def __call__(self, x_t: Tensor, t: Tensor, condition: Condition) -> Prediction:
        return Prediction(self.clean, x_t, 1.0, 1.0)


class GivenNetwork(nn.Module):
    """A network that costs nothing."""

    def __init__(self, output: Tensor) -> None:
        super().__init__()
        self.output = output

    def forward(self, x: Tensor, level: Tensor, condition: Condition) -> Tensor:
        return self.output


def ours(solver: Solver, steps: int, output: Tensor, start: Tensor, epsilon: bool, grid: bool) -> Callable[[], Tensor]:
    """A run of ours from `start`; `grid` puts the making of the times into it."""
    schedule, space = DDPMBetas(), Euclidean(tuple(output.shape[1:]))
    denoiser: Denoiser = Given(schedule, output)
    if epsilon:
        denoiser = NetworkDenoiser(GivenNetwork(output), schedule, Epsilon(), space, TableIndex())
    condition = TensorDict({}, batch_size=[len(output)])
    key = SampleKey(0, tuple(range(len(output))))
    times = Trailing()(schedule, steps)

    def run() -> Tensor:
        here = Trailing()(schedule, steps) if grid else times
        return sample(denoiser, solver, here, space, condition, key, initial=start)  # type: ignore[return-value]

    return run


def theirs(peer: Peer, steps: int, output: Tensor, start: Tensor, epsilon: bool) -> Callable[[], tuple[float, float]]:
    """A run of theirs: the seconds of `set_timesteps`, and of the loop over `step`."""
    scheduler = peer.make(epsilon)
    generator = torch.Generator().manual_seed(0)
    extra = {"generator": generator} if peer.generator else {}

    def run() -> tuple[float, float]:
        before = time.process_time()
        scheduler.set_timesteps(steps * peer.stages)
        if hasattr(scheduler, "noise_sampler"):
            scheduler.noise_sampler = None
        if hasattr(scheduler, "is_scale_input_called"):
            scheduler.is_scale_input_called = True  # else it logs a warning in each step, which is not its work
        begin = time.process_time()
        x = start
        for t in scheduler.timesteps:
            if epsilon:
                scheduler.scale_model_input(x, t)
            x = scheduler.step(output, t, x, return_dict=False, **extra)[0]
        return begin - before, time.process_time() - begin

    return run


def seconds(run: Callable[[], Any]) -> float:
    """How long one call takes."""
    start = time.process_time()
    run()
    return time.process_time() - start


def spread(values: list[float]) -> dict[str, float]:
    """Median and quartiles."""
    low, median, high = statistics.quantiles(values, n=4)
    return {"median": median, "lower_quartile": low, "upper_quartile": high}


@torch.no_grad()
def measure(solver: Solver, peer: Peer | None, size: tuple[int, ...], steps: int, rounds: int) -> dict[str, Any]:
    """Microseconds a step of both, and their ratios; `steps` evaluations, or nearly."""
    steps = steps // (peer.stages if peer else 1)
    generator = torch.Generator().manual_seed(0)
    output, start = (torch.randn(size, generator=generator) for _ in range(2))
    loop, whole = (ours(solver, steps, output, start, False, grid) for grid in (False, True))
    network = ours(solver, steps, output, start, True, True)
    their_loop = theirs(peer, steps, output, start, False) if peer else None
    their_network = theirs(peer, steps, output, start, True) if peer else None
    for run in (loop, whole, network, their_loop, their_network):
        if run is not None:
            run()
    samples: dict[str, list[float]] = {key: [] for key in ("loop", "whole", "network")}
    peers: dict[str, list[float]] = {key: [] for key in samples}
    begin = time.process_time()
    for done in range(rounds):
        if done >= FEWEST and time.process_time() - begin > LONGEST:
            break
        samples["loop"].append(seconds(loop))
        if their_loop is not None:
            before, inside = their_loop()
            peers["loop"].append(inside)
            peers["whole"].append(before + inside)
        samples["whole"].append(seconds(whole))
        samples["network"].append(seconds(network))
        if their_network is not None:
            peers["network"].append(sum(their_network()))
    result: dict[str, Any] = {"steps": steps, "size": list(size)}
    for key, values in samples.items():
        result[key] = {"ours_us_a_step": spread([1e6 * v / steps for v in values])}
        if peer is not None:
            result[key]["theirs_us_a_step"] = spread([1e6 * v / steps for v in peers[key]])
            result[key]["ratio"] = spread([a / b for a, b in zip(values, peers[key], strict=True)])
    return result


def markdown(results: dict[str, list[dict[str, Any]]]) -> str:
    """The ratios as a table, a row a solver."""
    head = [f"{'x'.join(map(str, size))}, {steps}" for size in SIZES for steps in STEPS]
    lines = ["| solver | diffusers | " + " | ".join(head) + " |", "|---|---|" + "---|" * len(head)]
    for name, cases in results.items():
        cells = []
        for case in cases:
            mine = f"{case['loop']['ours_us_a_step']['median']:.0f}"
            if "ratio" not in case["loop"]:
                cells.append(f"{mine} us")
                continue
            ratios = "/".join(f"{case[key]['ratio']['median']:.2f}" for key in ("loop", "whole", "network"))
            cells.append(f"{ratios} ({mine} us)")
        peer = PEERS[name].name.removesuffix("Scheduler") if name in PEERS else ""
        lines.append(f"| {name} | {peer} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=31)
    parser.add_argument("--only", nargs="*", default=None, help="names of conf/solver; all by default")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    diffusers.utils.logging.set_verbosity_error()
    results: dict[str, list[dict[str, Any]]] = {}
    for name, solver in group("solver").items():
        if not hasattr(solver, "plan") or (arguments.only and name not in arguments.only):
            continue  # a loop of its own: adaptive, categorical
        peer = PEERS.get(name)
        results[name] = [measure(solver, peer, size, steps, arguments.rounds) for size in SIZES for steps in STEPS]
        print(markdown({name: results[name]}).splitlines()[-1], flush=True)
    table = markdown(results)
    if arguments.only is None:
        (RESULTS / "step_cost.md").write_text(table)
        report("step_cost", f"python -m benchmarks.step_cost --rounds {arguments.rounds}", {"solvers": results})
    print(table)


if __name__ == "__main__":
    main()
