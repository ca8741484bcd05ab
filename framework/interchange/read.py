r"""diffusers' scheduler configurations as our parts.

A scheduler of diffusers is noise levels, prediction, grid and method in one class with up to thirty options. Here:

    schedule          from beta_* (framework/betas.py), or the straight path for use_flow_sigmas and FlowMatch*; EDM*
                      are Karras et al.'s own. Level k of a table is time k / T, their time step k - 1.
    parametrization   prediction_type; EDM*'s "epsilon" is the preconditioned F
    grid              timestep_spacing and use_*_sigmas (framework/grids/levels.py). final_sigmas_type="zero" and
                      set_alpha_to_one=True end at the data, their opposites at the table's first level.
    solver            the class, with its algorithm_type, solver_order, solver_type, lower_order_final
    clipping          clip_sample, thresholding

What they do that is a mistake, or an accident of integer time steps, is not repeated; `notes` says so. What has no
counterpart is refused.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from framework.clipping import Clip, Clipping, DynamicThreshold
from framework.denoiser import LogSigma, NoiseLevel, TableIndex, check_terminal
from framework.errors import UserError
from framework.grids import Grid, Karras, UniformLogSNR
from framework.grids.levels import Crash, FlowLevels, Linspace, LinspaceWithoutLast
from framework.interchange.options import Options, load
from framework.interchange.read_levels import END_AT_FIRST_LEVEL, INTEGER, betas, curve_of, end_of, table_grid
from framework.interchange.read_solver import multistep, solver_of
from framework.interchange.sampling import Sampling, ScaledTime
from framework.parametrizations import Data, Epsilon, Flow, Parametrization, V
from framework.parametrizations import Karras as Preconditioned
from framework.schedules import EDM, Cosine, TabulatedBetas
from framework.schedules import Flow as StraightPath
from framework.solvers.edm import Euler
from framework.solvers.ipndm import IPNDM
from framework.solvers.plan import Solver
from framework.solvers.runge_kutta import RungeKutta, Straight, Tableau

HEUN = Tableau(2, ((), (1.0,)), (0.5, 0.5))


def from_diffusers(config: Mapping[str, Any] | str | Path, *, mu: float | None = None) -> Sampling:
    """The parts that a scheduler's configuration says.

    Args:
        config: a scheduler's configuration with its `_class_name`, as a mapping, or the scheduler_config.json, or the
            folder that it lies in.
        mu: what their pipelines hand to set_timesteps for use_dynamic_shifting.

    Raises:
        UserError: the class, an option or its value has no counterpart; the message names it and what there is.
    """
    options = Options(load(config))
    notes: list[str] = []
    if options.name == "IPNDMScheduler":
        return _crash(options)
    if options.name.startswith("EDM"):
        return _edm(options, notes)
    if options.name.startswith("FlowMatch"):
        return _flow_match(options, mu, notes)
    return _table(options, mu, notes)


def _clipping(options: Options, notes: list[str]) -> Clipping | None:
    if options["thresholding"]:
        return DynamicThreshold(options["dynamic_thresholding_ratio"], options["sample_max_value"])
    if options["clip_sample"]:
        if options.name == "DDIMScheduler":
            notes.append("the noise agrees with the clipped data, as with use_clipped_model_output=True")
        return Clip(options["clip_sample_range"])
    return None


def _prediction(options: Options, *more: str) -> Parametrization:
    kinds: dict[str, Parametrization] = {
        "epsilon": Epsilon(),
        "sample": Data(),
        "v_prediction": V(),
        "flow_prediction": Flow(),
    }
    return kinds[options.one_of("prediction_type", *more)]


def _table(options: Options, mu: float | None, notes: list[str]) -> Sampling:
    learned = options["variance_type"]
    if learned is not None:
        options.one_of("variance_type", *(("fixed_small", "fixed_small_log") if options.name in INTEGER else (None,)))
    table = betas(options, notes)
    if options["use_flow_sigmas"]:
        return _straight(options, table, mu, notes)
    if options["timestep_type"] is not None:
        options.one_of("timestep_type", "discrete", "continuous")
    parametrization = _prediction(options, "epsilon", "sample", "v_prediction")
    check_terminal(table, parametrization)
    grid = table_grid(options, table, notes)
    continuous = options["timestep_type"] == "continuous" and options["prediction_type"] == "v_prediction"
    level: NoiseLevel = LogSigma() if continuous else TableIndex(len(table.betas))
    if options.name == "DDIMScheduler" and options["timestep_spacing"] != "leading":
        notes.append("each step ends where the next begins; theirs goes T // n time steps, wherever the next is")
    solver = solver_of(options, table, end_of(options), notes)
    return Sampling(table, parametrization, grid, solver, level, _clipping(options, notes), tuple(notes))


def _shift(options: Options, static: str, mu: float | None) -> float:
    if not options["use_dynamic_shifting"]:
        return float(options[static])
    if mu is None:
        raise UserError(f"{options.name} with use_dynamic_shifting needs the `mu` that is handed to set_timesteps")
    return math.exp(mu) if options.one_of("time_shift_type", "exponential", "linear") == "exponential" else mu


def _straight(options: Options, table: TabulatedBetas, mu: float | None, notes: list[str]) -> Sampling:
    """use_flow_sigmas: the methods of the tables on the straight path."""
    if options.name in END_AT_FIRST_LEVEL:
        raise UserError(f"{options.name} with use_flow_sigmas ends at its last noise level and not at the data")
    options.one_of("final_sigmas_type", "zero")
    options.one_of("shift_terminal", None)
    if curve_of(options) is not None:
        raise UserError(
            f"{options.name} with use_flow_sigmas and another curve of noise levels has no counterpart here"
        )
    parametrization = _prediction(options, "flow_prediction", "sample")
    least = 1 / options["num_train_timesteps"]
    high, low = (1.0, least) if options.name == "UniPCMultistepScheduler" else (1 - least, 0.0)
    grid = FlowLevels(LinspaceWithoutLast(), high, low, _shift(options, "flow_shift", mu))
    solver = solver_of(options, table, 0, notes)
    level = ScaledTime(float(options["num_train_timesteps"]))
    return Sampling(StraightPath(), parametrization, grid, solver, level, _clipping(options, notes), tuple(notes))


def _flow_match(options: Options, mu: float | None, notes: list[str]) -> Sampling:
    for name in ("invert_sigmas", "stochastic_sampling"):
        if options[name]:
            options.one_of(name, False)
    steps, shift = options["num_train_timesteps"], _shift(options, "shift", mu)
    # Their lowest time is shifted once when the scheduler is made and once more with all the others.
    low = 1 / steps if options["use_dynamic_shifting"] else shift / (steps + shift - 1)
    terminal = options["shift_terminal"]
    grid = FlowLevels(Linspace(), 1.0, low, shift, terminal or None, curve_of(options))
    solver: Solver = Euler()
    if options.name == "FlowMatchHeunDiscreteScheduler":
        solver = RungeKutta(HEUN, Straight())
        notes.append("the step to the data is by Ralston's method, of third order, and not by Euler's")
    return Sampling(StraightPath(), Flow(), grid, solver, ScaledTime(float(steps)), None, tuple(notes))


def _edm(options: Options, notes: list[str]) -> Sampling:
    options.one_of("final_sigmas_type", "zero")
    options.one_of("prediction_type", "epsilon")
    low, high = float(options["sigma_min"]), float(options["sigma_max"])
    grid: Grid = UniformLogSNR(low, high)
    if options.one_of("sigma_schedule", "karras", "exponential") == "karras":
        grid = Karras(float(options["rho"]), low, high)
    solver = Euler() if options.name == "EDMEulerScheduler" else multistep(options, 0, notes)
    parametrization = Preconditioned(float(options["sigma_data"]))
    return Sampling(EDM(high), parametrization, grid, solver, LogSigma(), _clipping(options, notes), tuple(notes))


def _crash(options: Options) -> Sampling:
    options.one_of("trained_betas", None)
    return Sampling(Cosine(), V(), Crash(), IPNDM(), ScaledTime(1.0))
