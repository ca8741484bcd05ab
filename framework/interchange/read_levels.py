"""Tables of betas and grids, from a scheduler's options; see read.py."""

from __future__ import annotations

import math

import torch

from framework.betas import CosineBetas, LinearBetas, ScaledLinearBetas, SigmoidBetas, ZeroTerminal
from framework.errors import UserError
from framework.grids import Grid, Karras, Leading, Trailing, UniformLogSNR
from framework.grids.levels import (
    BetaCurve,
    Curve,
    ExponentialCurve,
    KarrasCurve,
    LeadingStride,
    LeadingStrideWithoutLast,
    Linspace,
    LinspaceWithoutLast,
    Rounded,
    Spacing,
    TableLevels,
    TrailingStride,
)
from framework.interchange.options import Options
from framework.schedules import Schedule, TabulatedBetas

INTEGER = ("DDPMScheduler", "DDIMScheduler", "PNDMScheduler")
WITHOUT_LAST = (
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "DEISMultistepScheduler",
    "UniPCMultistepScheduler",
    "SASolverScheduler",
)
END_AT_FIRST_LEVEL = ("DEISMultistepScheduler", "SASolverScheduler")
ZERO_SNR_FLOOR = 2.0**-24  # what most of them put in place of alpha^2 = 0


def betas(options: Options, notes: list[str]) -> TabulatedBetas:
    steps, start, end = (options[name] for name in ("num_train_timesteps", "beta_start", "beta_end"))
    table: TabulatedBetas
    if options["trained_betas"] is not None:
        table = TabulatedBetas(tuple(float(beta) for beta in options["trained_betas"]))
    else:
        allowed = ("linear", "scaled_linear", "squaredcos_cap_v2")
        name = options.one_of("beta_schedule", *allowed, *(("sigmoid",) if options.name == "DDPMScheduler" else ()))
        table = {
            "linear": lambda: LinearBetas(steps, start, end),
            "scaled_linear": lambda: ScaledLinearBetas(steps, start, end),
            "squaredcos_cap_v2": lambda: CosineBetas(steps),
            "sigmoid": lambda: SigmoidBetas(steps, start, end),
        }[name]()
    if options["rescale_betas_zero_snr"]:
        table = _zero_terminal(options, table, notes)
    return table


def _zero_terminal(options: Options, table: TabulatedBetas, notes: list[str]) -> TabulatedBetas:
    """With alpha^2 = 0 at the end, or with what most of them put there, if the level before it is less noisy."""
    exact = ZeroTerminal(table)
    before = float(exact.alpha(torch.tensor(1 - 1 / len(table.betas), dtype=torch.float64))) ** 2
    if options.name in INTEGER:
        return exact
    if before <= ZERO_SNR_FLOOR:
        notes.append("the last level is alpha = 0; theirs, alpha^2 = 2^-24, has less noise than the level before it")
        return exact
    return ZeroTerminal(table, ZERO_SNR_FLOOR)


def ratio_at(table: Schedule, timesteps: int, level: int) -> float:
    """sigma / alpha at a level of the table."""
    return math.exp(-0.5 * float(table.log_snr(torch.tensor(level / timesteps, dtype=torch.float64))))


def curve_of(options: Options) -> Curve | None:
    found: list[Curve] = []
    if options["use_karras_sigmas"]:
        found.append(KarrasCurve())
    if options["use_exponential_sigmas"] or options["use_lu_lambdas"]:
        found.append(ExponentialCurve())  # "Lu's" lambdas with rho = 1 are evenly spaced, as the exponential sigmas are
    if options["use_beta_sigmas"]:
        found.append(BetaCurve())
    if options["interpolation_type"] == "log_linear":
        found.append(ExponentialCurve())
    if len(found) > 1:
        raise UserError(f"{options.name} can use one of its curves of noise levels, and {len(found)} are asked for")
    return found[0] if found else None


def _spacing(options: Options, curve: Curve | None) -> Spacing:
    name = options["timestep_spacing"] or "linspace"
    offset = int(options["steps_offset"] or 0)
    if options.name in WITHOUT_LAST:
        if curve is not None:
            return Linspace()  # a curve runs between the ends of the whole table
        choices: dict[str, Spacing] = {
            "linspace": Rounded(LinspaceWithoutLast()),
            "leading": LeadingStrideWithoutLast(offset),
            "trailing": TrailingStride(),
        }
    else:
        even = Rounded(Linspace()) if options.name in INTEGER else Linspace()
        choices = {"linspace": even, "leading": LeadingStride(offset), "trailing": TrailingStride()}
    if options["timestep_spacing"] is not None:
        options.one_of("timestep_spacing", *choices)
    return choices[name]


def end_of(options: Options) -> int:
    """The level at which the run ends: 0 is the data."""
    if options.name in END_AT_FIRST_LEVEL or options["interpolation_type"] == "log_linear":
        return 1
    if options["set_alpha_to_one"] is not None:
        return 0 if options["set_alpha_to_one"] else 1
    if options["final_sigmas_type"] is not None:
        return {"zero": 0, "sigma_min": 1}[options.one_of("final_sigmas_type", "zero", "sigma_min")]
    return 0


def _highest(options: Options, table: TabulatedBetas, curve: Curve | None) -> int | None:
    """The highest level that lambda_min_clipped leaves."""
    least = options["lambda_min_clipped"]
    if least is None or least == -math.inf or curve is not None:
        return None
    levels = torch.arange(1, len(table.betas) + 1, dtype=torch.float64) / len(table.betas)
    kept = int((0.5 * table.log_snr(levels) >= least).sum())
    if kept == len(table.betas):
        return None
    if options["timestep_spacing"] == "trailing":
        raise UserError(f"{options.name} with lambda_min_clipped has fewer steps than asked for on trailing spacing")
    return kept


def table_grid(options: Options, table: TabulatedBetas, notes: list[str]) -> Grid:
    timesteps, curve, end = len(table.betas), curve_of(options), end_of(options)
    ends = options["sigma_min"], options["sigma_max"]
    if curve is not None and ends != (None, None):
        low = ratio_at(table, timesteps, 1) if ends[0] is None else float(ends[0])
        high = ratio_at(table, timesteps, timesteps) if ends[1] is None else float(ends[1])
        if end == 0 and isinstance(curve, KarrasCurve):
            return Karras(curve.rho, low, high)
        if end == 0 and isinstance(curve, ExponentialCurve):
            return UniformLogSNR(low, high)
        raise UserError(f"{options.name} with sigma_min or sigma_max is supported with Karras' or exponential sigmas")
    spacing = _spacing(options, curve)
    highest = _highest(options, table, curve)
    if curve is None and end == 0 and highest is None and spacing == TrailingStride():
        return Trailing(timesteps)
    if curve is None and end == 0 and highest is None and spacing == LeadingStride():
        return Leading(timesteps)
    if end == 1 and float(spacing(timesteps, 1, 2)[-1]) <= 1:
        notes.append("the last of their steps has no length: n steps of theirs are n - 1 here")
    return TableLevels(timesteps, spacing, curve, end, highest)
