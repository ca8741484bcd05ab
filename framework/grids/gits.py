r"""GITS, geometry-inspired time scheduling (Chen et al. 2024, arXiv 2405.11326): the cheapest path through a fine grid.

Samples of one model leave the noise along paths of nearly one shape, so a few of them show where a long step is a good
one. A teacher walks a fine grid u_0 > ... > u_m of noise-to-signal ratios; at each it knows the clean mean D_i and the
noise z_i. One Euler step from i to any later j ends at D_i + u_j z_i (framework/grids/teacher.py), which misses the
teacher's y_j by

    c_ij = [c / sqrt(c^2 + u_j^2)  mean over samples of |D_i + u_j z_i - y_j|]^q.

The least total cost of n steps from i to the end, V_n(i) = min_j [c_ij + gamma V_{n-1}(j)], is found exactly, for every
n from one matrix, in n m^2 additions. gamma > 1 makes late errors dearer than early ones, which later steps mend.

Three things are ours. The first factor carries an error to the end of the path as it would travel on Gaussian data with
the samples' own root mean square c: along the probability-flow ODE, or squared where the solver draws noise, since the
reverse SDE forgets twice as fast. In the paper an error counts alike wherever it is made. The power q = 2 spreads the
error evenly over the steps; the paper sums the errors themselves, q = 1, which on Gaussian mixtures mostly ends further
from the teacher. And gamma, which the paper chooses for each data set and number of steps, is found by trial: of the
paths for several, the one whose end is nearest to the teacher's when the solver that is to be used walks it.

States with tokens have no trajectory, but steps have costs all the same: framework/grids/token_paths.py.

The costs are those of Euler's method. They suit solvers of one evaluation a step; for those with several, and few
steps, LD3 (framework/grids/ld3.py) is the better choice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from framework.denoiser import Denoiser
from framework.errors import UserError
from framework.grids.formulas import Karras, UniformTime
from framework.grids.grid import Grid, check_steps
from framework.grids.teacher import cost_matrix, endpoint_error, walk_path
from framework.grids.token_paths import component_costs
from framework.noise import NoiseKey
from framework.processes.gaussian import Gaussian
from framework.processes.process import Process
from framework.sampler import Loop
from framework.solvers.dpmpp import DPMpp2M
from framework.solvers.plan import Solver
from framework.spaces import Space
from framework.state import Condition


@dataclass(frozen=True)
class GITS:
    """The grid of least accumulated error, from a few of the model's own trajectories.

    Args:
        samples: how many trajectories the teacher walks.
        fine: the grid from which the times are chosen; its first and last are kept.
        fine_tokens: the same where the process has tokens.
        fine_steps: its number of steps, which bounds the number of steps that can be asked for.
        teacher: the solver that walks it, of the probability-flow ODE.
        power: q, to which errors are raised before they are summed.
        gammas: what later costs are multiplied with, at each step once more; the best is taken, or the first where
            the solver draws noise.

    Raises:
        UserError: there is no sample or no gamma, or the power or a gamma is not positive.
    """

    samples: int = 64
    fine: Grid = field(default_factory=Karras)
    fine_tokens: Grid = field(default_factory=UniformTime)
    fine_steps: int = 60
    teacher: Solver = field(default_factory=DPMpp2M)
    power: float = 2.0
    gammas: Sequence[float] = (1.0, 1.1, 1.2, 1.3, 1.4, 1.6, 2.0)

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise UserError(f"GITS needs at least one trajectory, got samples={self.samples}")
        if not self.gammas or not all(number > 0 for number in (self.power, *self.gammas)):
            raise UserError(f"GITS needs a power and gammas above 0, got {self.power} and {list(self.gammas)}")

    def fit(
        self,
        denoiser: Denoiser,
        solver: Solver | Loop,
        steps: int,
        space: Space,
        condition: Condition,
        key: NoiseKey,
        process: Process | None = None,
    ) -> Tensor:
        """Times float64 (steps + 1,) from the fine grid.

        Where the solver draws noise or tokens, two runs end in different samples and no end is the nearer: gamma is the
        first of `gammas`.

        Raises:
            UserError: the fine grid has fewer steps.
        """
        check_steps(steps)
        if steps > self.fine_steps:
            raise UserError(f"GITS chooses from a grid of {self.fine_steps} steps; {steps} need a larger fine_steps")
        with torch.no_grad():
            if process is not None and not isinstance(process, Gaussian):
                times = self.fine_tokens(denoiser.schedule, self.fine_steps)
                costs = component_costs(
                    denoiser, solver, self.teacher, process, times, space, condition, key, self.power
                )
                return times[cheapest_path(costs, steps, self.gammas[0])]
            times = self.fine(denoiser.schedule, self.fine_steps)
            path = walk_path(denoiser, self.teacher, times, space, condition, key)
            costs = cost_matrix(path, space, condition, solver.stochastic) ** self.power
            if solver.stochastic:
                return times[cheapest_path(costs, steps, self.gammas[0])]
            paths = {tuple(cheapest_path(costs, steps, gamma)) for gamma in self.gammas}
            grids = [times[list(chosen)] for chosen in sorted(paths)]
            if len(grids) == 1:
                return grids[0]
            errors = [endpoint_error(denoiser, solver, t, path, space, condition, key) for t in grids]
            return grids[int(np.argmin(errors))]


def cheapest_path(costs: np.ndarray, steps: int, gamma: float = 1.0) -> list[int]:
    """The indices 0 = i_0 < ... < i_n = m that minimise sum_k gamma^k costs[i_k, i_{k+1}]; costs (m + 1, m + 1)."""
    last = len(costs) - 1
    remaining = costs[:, last]  # V_1
    choices = []
    for _ in range(steps - 1):
        total = costs + gamma * remaining
        choices.append(total.argmin(axis=1))
        remaining = total.min(axis=1)
    indices = [0]
    for choice in reversed(choices):
        indices.append(int(choice[indices[-1]]))
    return [*indices, last]
