r"""Align Your Steps (Sabour, Fidler & Kreis 2024, arXiv 2404.14507): published noise levels, for any number of steps.

The authors minimise an upper bound of the Kullback-Leibler divergence between the true generative SDE and the one that
a sampler solves, over the noise levels of ten steps, and publish the optima for three image and video models. For n
steps they interpolate: with u_0 > ... > u_m the published ratios sigma / alpha, placed at 0, 1/m, ..., 1,

    log u(p) is piecewise linear in p,      grid: u(0), u(1/n), ..., u((n - 1)/n), and t = 0 in place of u(1).

Given as ratios, a table serves every schedule. Where the schedule does not get as noisy as u_0, the curve is walked
from where the schedule begins. The tables were found for latents of about unit scale; on other data they are a guess.

Sources: the project's quickstart page (research.nvidia.com/labs/toronto-ai/AlignYourSteps), whose integer times of
Stable Diffusion and its XL version index their common table of betas; diffusers and ComfyUI ship the same levels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from framework.betas import ScaledLinearBetas
from framework.errors import UserError
from framework.grids.grid import check_steps, from_log_ratios, noisiest
from framework.schedules import Schedule

STABLE_DIFFUSION = ScaledLinearBetas(1000, 0.00085, 0.012)
SD15_TIMES = (999, 850, 736, 645, 545, 455, 343, 233, 124, 24, 0)
SDXL_TIMES = (999, 845, 730, 587, 443, 310, 193, 116, 53, 13, 0)
SVD_RATIOS = (700.0, 54.5, 15.886, 7.977, 4.248, 1.789, 0.981, 0.403, 0.173, 0.034, 0.002)


@dataclass(frozen=True)
class LogLinear:
    """The log-linear interpolation of descending noise-to-signal ratios; t = 0 takes the place of the last.

    Raises:
        UserError: there are fewer than two ratios, or they do not fall strictly towards zero.
    """

    ratios: Sequence[float]

    def __post_init__(self) -> None:
        u = list(self.ratios)
        if len(u) < 2 or any(not b < a for a, b in pairwise(u)) or not u[-1] > 0:
            raise UserError(f"a table of noise levels falls strictly and stays above 0, got {u}")

    def __call__(self, schedule: Schedule, steps: int) -> Tensor:
        check_steps(steps)
        knots = np.log(np.asarray(self.ratios, dtype=np.float64))
        places = np.linspace(0.0, 1.0, len(knots))
        most = noisiest(schedule)
        if most <= knots[-1]:
            raise UserError(f"the schedule's noise-to-signal ratio never exceeds {self.ratios[-1]}, the table's last")
        start = np.interp(-most, -knots, places)  # 0 where the schedule reaches the table's first level
        chosen = start + (1 - start) * np.arange(steps) / steps
        return from_log_ratios(schedule, torch.from_numpy(np.interp(chosen, places, knots)))


class StableDiffusion15(LogLinear):
    """The table of Stable Diffusion 1.5."""

    def __init__(self) -> None:
        super().__init__(_ratios(SD15_TIMES))


class StableDiffusionXL(LogLinear):
    """The table of Stable Diffusion XL."""

    def __init__(self) -> None:
        super().__init__(_ratios(SDXL_TIMES))


class StableVideoDiffusion(LogLinear):
    """The table of Stable Video Diffusion."""

    def __init__(self) -> None:
        super().__init__(SVD_RATIOS)


def _ratios(indices: Sequence[int]) -> tuple[float, ...]:
    """sigma / alpha at indices of Stable Diffusion's table, which counts its betas from 0."""
    times = (torch.tensor(indices, dtype=torch.float64) + 1) / 1000
    return tuple((-0.5 * STABLE_DIFFUSION.log_snr(times)).exp().tolist())
