"""Our parts as a scheduler's configuration of diffusers.

Each part says which options it may come from; every scheduler class that the solver has is tried with them, and the
first whose configuration reads back as the same parts is the answer. What is returned is therefore right by
construction, and what cannot be said in diffusers is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import torch

from framework.betas import CosineBetas, LinearBetas, ScaledLinearBetas, SigmoidBetas, ZeroTerminal
from framework.clipping import Clip, DynamicThreshold
from framework.errors import UserError
from framework.grids import Karras, Leading, Trailing, UniformLogSNR
from framework.grids.levels import (
    BetaCurve,
    ExponentialCurve,
    FlowLevels,
    KarrasCurve,
    LeadingStride,
    LeadingStrideWithoutLast,
    Linspace,
    LinspaceWithoutLast,
    Rounded,
    TableLevels,
    TrailingStride,
)
from framework.interchange.options import CLASS, SCHEDULERS, Values
from framework.interchange.read import from_diffusers
from framework.interchange.sampling import ByLength, Sampling
from framework.parametrizations import Data, Epsilon, Flow, Parametrization, V
from framework.parametrizations import Karras as Preconditioned
from framework.schedules import EDM, DDPMBetas, Schedule, TabulatedBetas
from framework.solvers.adams import DEIS, LMS
from framework.solvers.ancestral import EulerAncestral
from framework.solvers.ddim import DDIM, DDPM
from framework.solvers.dpm_solver import DPMSolver2, DPMSolver3
from framework.solvers.dpmpp import DPMpp2M, DPMpp2S, DPMpp3M, DPMpp3S
from framework.solvers.dpmpp_sde import DPMppSDE
from framework.solvers.edm import Euler, Heun
from framework.solvers.exponential import DataPrediction
from framework.solvers.ipndm import IPNDM
from framework.solvers.runge_kutta import RungeKutta
from framework.solvers.sa_solver import SASolver
from framework.solvers.sde_dpmpp import SDEDPMpp1, SDEDPMpp2M, SDEDPMpp2MHeun, SDEDPMpp3M
from framework.solvers.unipc import BH1, UniP, UniPC

Choice = tuple[str, Values]


def to_diffusers(sampling: Sampling) -> Values:
    """The configuration of a scheduler that samples so, complete, with its `_class_name`.

    What is an argument of theirs and no option (DDIM's eta, churn, `mu` of dynamic shifting) cannot be said.

    Raises:
        UserError: no scheduler of diffusers samples so; the message says how near one comes.
    """
    nearest: list[str] = []
    for name, options in _choices(sampling):
        config = {CLASS: name, **{o: v for o, v in {**SCHEDULERS[name], **options}.items() if o in SCHEDULERS[name]}}
        try:
            back = from_diffusers(config)
        except UserError:
            continue
        differing = [part for part in _PARTS if not _same(getattr(back, part), getattr(sampling, part))]
        if not differing:
            return config
        if not nearest or len(differing) < len(nearest):
            nearest = differing
    parts = " and ".join(f"the {part} {getattr(sampling, part)!r}" for part in nearest) or f"{sampling.solver!r}"
    raise UserError(f"no scheduler of diffusers samples so: none has {parts} with the rest")


def _same(a: object, b: object) -> bool:
    """Equal, or tables of the same betas under two names."""
    if isinstance(a, TabulatedBetas) and isinstance(b, TabulatedBetas):
        return a.betas == b.betas
    return a == b


_PARTS = ("schedule", "parametrization", "grid", "solver", "noise_level", "clipping")


def _choices(sampling: Sampling) -> Iterator[Choice]:
    schedule = list(_of_schedule(sampling.schedule))
    grid = list(_of_grid(sampling))
    for (name, method), of_schedule, of_grid in product(_of_solver(sampling.solver), schedule, grid):
        rest = {**_of_parametrization(sampling.parametrization), **_of_clipping(sampling)}
        yield name, {**_of_time(sampling), **of_schedule, **of_grid, **rest, **method}


def _of_time(sampling: Sampling) -> Values:
    """Whether the network is told the logarithm of the noise level in place of a time step."""
    return {"timestep_type": "continuous"} if type(sampling.noise_level).__name__ == "LogSigma" else {}


def _of_schedule(schedule: Schedule) -> Iterator[Values]:
    if isinstance(schedule, ZeroTerminal):
        for options in _of_schedule(schedule.of):
            yield {**options, "rescale_betas_zero_snr": True}
        return
    if isinstance(schedule, EDM):
        yield {"sigma_max": schedule.sigma_max}
    elif isinstance(schedule, TabulatedBetas):
        yield {"num_train_timesteps": len(schedule.betas), **_of_betas(schedule)}
    else:
        yield {}


def _of_betas(table: TabulatedBetas) -> Values:
    match table:
        case LinearBetas(beta_start=start, beta_end=end):
            return {"beta_schedule": "linear", "beta_start": start, "beta_end": end}
        case ScaledLinearBetas(beta_start=start, beta_end=end):
            return {"beta_schedule": "scaled_linear", "beta_start": start, "beta_end": end}
        case SigmoidBetas(beta_start=start, beta_end=end):
            return {"beta_schedule": "sigmoid", "beta_start": start, "beta_end": end}
        case CosineBetas():
            return {"beta_schedule": "squaredcos_cap_v2"}
        case DDPMBetas():
            return {"beta_schedule": "linear", "beta_start": table.betas[0], "beta_end": table.betas[-1]}
    return {"trained_betas": list(table.betas)}


def _of_parametrization(parametrization: Parametrization) -> Values:
    if isinstance(parametrization, Preconditioned):
        return {"prediction_type": "epsilon", "sigma_data": parametrization.sigma_data}
    kinds: dict[type, str] = {Epsilon: "epsilon", Data: "sample", V: "v_prediction", Flow: "flow_prediction"}
    kind = kinds.get(type(parametrization))
    return {"prediction_type": kind} if kind else {}


def _of_clipping(sampling: Sampling) -> Values:
    match sampling.clipping:
        case Clip(limit=limit):
            return {"clip_sample": True, "clip_sample_range": limit}
        case DynamicThreshold(quantile=quantile, maximum=maximum):
            return {"thresholding": True, "dynamic_thresholding_ratio": quantile, "sample_max_value": maximum}
    return {"clip_sample": False}


_CURVES: dict[type, str] = {
    KarrasCurve: "use_karras_sigmas",
    ExponentialCurve: "use_exponential_sigmas",
    BetaCurve: "use_beta_sigmas",
}


def _of_grid(sampling: Sampling) -> Iterator[Values]:
    grid = sampling.grid
    match grid:
        case Trailing():
            yield {"timestep_spacing": "trailing", **_at_end(0)}
        case Leading():
            yield {"timestep_spacing": "leading", **_at_end(0)}
        case Karras():
            ends = {"sigma_min": grid.sigma_min, "sigma_max": grid.sigma_max}
            yield {**ends, "rho": grid.rho, "sigma_schedule": "karras", "use_karras_sigmas": True}
        case UniformLogSNR():
            ends = {"sigma_min": grid.sigma_min, "sigma_max": grid.sigma_max}
            yield {**ends, "sigma_schedule": "exponential", "use_exponential_sigmas": True}
        case TableLevels():
            curve = {_CURVES[type(grid.curve)]: True} if grid.curve is not None else {}
            yield {**_at_end(grid.end), **curve, **_of_spacing(grid), **_clipped(grid, sampling.schedule)}
        case FlowLevels():
            yield from _of_flow(grid)
        case _:
            yield {}


def _at_end(level: int) -> Values:
    return {"final_sigmas_type": "sigma_min" if level else "zero", "set_alpha_to_one": not level}


def _of_spacing(grid: TableLevels) -> Values:
    match grid.spacing:
        case LeadingStride(offset=offset) | LeadingStrideWithoutLast(offset=offset):
            return {"timestep_spacing": "leading", "steps_offset": offset}
        case TrailingStride():
            return {"timestep_spacing": "trailing"}
        case Linspace() | LinspaceWithoutLast() | Rounded():
            return {"timestep_spacing": "linspace"}
    return {}


def _clipped(grid: TableLevels, schedule: Schedule) -> Values:
    if grid.highest is None:
        return {}
    time = torch.tensor(grid.highest / grid.timesteps, dtype=torch.float64)
    return {"lambda_min_clipped": 0.5 * float(schedule.log_snr(time))}


def _of_flow(grid: FlowLevels) -> Iterator[Values]:
    curve = {_CURVES[type(grid.curve)]: True} if grid.curve is not None else {}
    shared = {"shift": grid.shift, "flow_shift": grid.shift, "shift_terminal": grid.terminal, **curve}
    least = grid.low or 1 - grid.high
    for steps in {1 / least, grid.shift / least - grid.shift + 1} if least > 0 else ():
        yield {**shared, "num_train_timesteps": round(steps)}
        yield {**shared, "num_train_timesteps": round(steps), "use_flow_sigmas": True}


def _of_solver(solver: object) -> Iterator[Choice]:
    multistep, single = "DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler"
    simple: dict[type, str] = {
        DDPM: "DDPMScheduler",
        EulerAncestral: "EulerAncestralDiscreteScheduler",
        Heun: "HeunDiscreteScheduler",
        LMS: "LMSDiscreteScheduler",
        DPMppSDE: "DPMSolverSDEScheduler",
        RungeKutta: "FlowMatchHeunDiscreteScheduler",
    }
    if type(solver) in simple:
        yield simple[type(solver)], {}
    plain = solver.many if isinstance(solver, ByLength) else solver
    falling: list[Values] = [
        {"lower_order_final": lower, "euler_at_final": euler} for lower in (True, False) for euler in (False, True)
    ]
    match plain:
        case Euler():
            yield from ((name, {}) for name in ("EulerDiscreteScheduler", "EDMEulerScheduler"))
            yield "FlowMatchEulerDiscreteScheduler", {}
        case DDIM():
            yield "DDIMScheduler", {}
            for name, algorithm in product((multistep, "EDMDPMSolverMultistepScheduler"), ("dpmsolver++", "dpmsolver")):
                yield name, {"solver_order": 1, "algorithm_type": algorithm}
            yield "DEISMultistepScheduler", {"solver_order": 1}
            yield single, {"solver_order": 1}
        case DPMSolver2():
            yield "KDPM2DiscreteScheduler", {}
            yield single, {"solver_order": 2, "algorithm_type": "dpmsolver"}
        case DPMSolver3():
            yield single, {"solver_order": 3, "algorithm_type": "dpmsolver"}
        case DPMpp2S() | DPMpp3S():
            yield single, {"solver_order": 2 if isinstance(plain, DPMpp2S) else 3}
        case DPMpp2M() | DPMpp3M():
            order = 2 if isinstance(plain, DPMpp2M) else 3
            for name, rule in product((multistep, "EDMDPMSolverMultistepScheduler"), falling):
                yield name, {"solver_order": order, **rule}
        case SDEDPMpp1() | SDEDPMpp2M() | SDEDPMpp2MHeun() | SDEDPMpp3M():
            order = {SDEDPMpp1: 1, SDEDPMpp3M: 3}.get(type(plain), 2)
            kind = "heun" if isinstance(plain, SDEDPMpp2MHeun) else "midpoint"
            method = {"solver_order": order, "solver_type": kind, "algorithm_type": "sde-dpmsolver++"}
            yield from ((name, method) for name in (multistep, "EDMDPMSolverMultistepScheduler"))
        case UniPC() | UniP():
            yield from _of_unipc(plain)
            for rule in falling:
                yield multistep, {"solver_order": 2, "algorithm_type": "dpmsolver", **rule}
        case DEIS(order=order):
            for rule in falling:
                yield "DEISMultistepScheduler", {"solver_order": order, **rule}
                heun = {"solver_order": order, "algorithm_type": "dpmsolver", "solver_type": "heun"}
                yield multistep, {**heun, **rule}
        case SASolver(predictor_order=predictor, corrector_order=corrector):
            yield "SASolverScheduler", {"predictor_order": predictor, "corrector_order": corrector}
            for name in (multistep, "EDMDPMSolverMultistepScheduler"):
                yield name, {"solver_order": 2, "solver_type": "heun"}
        case IPNDM():
            yield "PNDMScheduler", {"skip_prk_steps": True}
            yield "IPNDMScheduler", {}


def _of_unipc(solver: UniP) -> Iterator[Choice]:
    method: dict[str, Any] = {
        "solver_order": solver.p,
        "solver_type": "bh1" if isinstance(solver.step_function, BH1) else "bh2",
        "predict_x0": isinstance(solver.prediction, DataPrediction),
    }
    off = [] if isinstance(solver, UniPC) else list(range(1000))
    for lower in (True, False):
        yield "UniPCMultistepScheduler", {**method, "disable_corrector": off, "lower_order_final": lower}
