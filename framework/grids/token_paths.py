r"""What steps cost where tokens are sampled: GITS' costs (framework/grids/gits.py) for states that are not all numbers.

A path of tokens is a chain of draws. What a prediction p(x_0) says of a position beyond what the position shows of
itself is w(x_0) = p(x_0) / q(x_t | x_0), normalised: what the others say. On the teacher's fine grid a position changes
for the last time in some step k, on the word w_k of that step; within one step from time i to time j > k it would
change on w_i, said before the others had changed. So

    c_ij = mean over samples and positions of  TV(w_i, w_k) where k lies in [i, j),

the total variation by which what is drawn between i and j is mistaken: zero if the positions are independent, as one
step is exact then, and of second order in the step's length if they are not. Only positions that change pay, so that
steps gather where tokens are settled and the others' word still moves.

Each Gaussian component of a product has the cost of its own path, relative to the samples' size, on its own clock; the
costs of the components are raised to the power q and added. That tokens cost their total variation is ours; optimised
schedules of tokens by other bounds: Park et al. 2024 (Jump Your Steps, arXiv 2410.07761).
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from framework.denoiser import Denoiser, Prediction
from framework.grids.teacher import Recorded, cost_matrix, path_of
from framework.noise import NoiseKey
from framework.processes.by_component import parts_of
from framework.processes.categorical import Categorical
from framework.processes.gaussian import Gaussian
from framework.processes.process import Process
from framework.sampler import Loop, sample
from framework.solvers.categorical.ancestral import Ancestral
from framework.solvers.plan import Solver
from framework.solvers.splitting import Splitting, fitting
from framework.spaces import Space
from framework.state import Condition, State, components


def component_costs(
    denoiser: Denoiser,
    solver: Solver | Loop,
    teacher: Solver,
    process: Process,
    times: Tensor,
    space: Space,
    condition: Condition,
    key: NoiseKey,
    power: float,
) -> np.ndarray:
    """The sum of the components' c_ij^power as float64 (m + 1, m + 1), infinite where j <= i.

    Args:
        denoiser: of the joint state.
        solver: the one that is to walk the grid.
        teacher: what moves Gaussian components on the fine grid; tokens are moved by ancestral sampling.
        process: of the state, with tokens in it.
        times: the fine grid, float64 (m + 1,).
        space, condition, key: of the samples from which costs are counted.
        power: q.

    Raises:
        UserError: the teacher does not look at each of the times once.
    """
    recorded = Recorded(denoiser, times[:-1])
    walking = Ancestral() if isinstance(process, Categorical) else fitting(teacher, process)
    end = sample(recorded, walking, times, space, condition, key, process=process)
    seen = recorded.at(times[:-1], walking)
    total = np.zeros((len(times), len(times)))
    for name, part in parts_of(process).items():
        if isinstance(part, Categorical):
            total += _token_costs(name, part, times, seen, end, condition) ** power
        else:
            assert isinstance(part, Gaussian)
            states = [(_part(p.x_t, name), _part(p.clean, name)) for p in seen]
            path = path_of(part.schedule, times, states, _part(end, name), part.space, condition)
            scale = max(path.scale(part.space, condition), 1e-12)
            own = solver.components.get(name, solver.continuous) if isinstance(solver, Splitting) else solver
            total += (cost_matrix(path, part.space, condition, own.stochastic) / scale) ** power  # type: ignore[union-attr]
    return total


def _token_costs(
    name: str, process: Categorical, times: Tensor, seen: list[Prediction], end: State, condition: Condition
) -> np.ndarray:
    layout = process.space.layout
    tokens = [layout.pack(_part(state, name)) for state in [*(p.x_t for p in seen), end]]
    laws = []
    for x, p, t in zip(tokens, seen, times.tolist(), strict=False):
        likelihood, said = process.likelihood(x, t), layout.pack(_part(p.clean, name)).double()
        others = torch.where(likelihood > 0, said / likelihood, 0.0)
        laws.append(others / others.sum(-1, keepdim=True).clamp(min=1e-300))
    valid = layout.valid(condition)
    share = valid.double() / valid.sum(1, keepdim=True).clamp(min=1)
    changed: list[Tensor] = []  # a position's share where it changes for the last time
    later = torch.zeros_like(valid)
    for before, after in reversed(list(pairwise(tokens))):
        changed.insert(0, share * ((after != before) & ~later))
        later |= after != before
    count = len(seen)
    costs = np.full((count + 1, count + 1), np.inf)
    for i in range(count):
        missed = [float((changed[k] * _variation(laws[i], laws[k])).sum(1).mean()) for k in range(i, count)]
        costs[i, i + 1 :] = np.cumsum(missed)
    return costs


def _variation(a: Tensor, b: Tensor) -> Tensor:
    """The total variation of laws (B, M, K): (B, M)."""
    return (a - b).abs().sum(-1) / 2


def _part(state: State, name: str) -> Tensor:
    return components(state)[name]
