r"""What a fitted grid is fitted to: the paths that samples take when steps are short, and how far a state is from them.

A path is seen in y = x / alpha at noise-to-signal ratios u = sigma / alpha, in which all schedules share one
probability-flow ODE, dy/du = (y - D) / u = z: a state is its clean mean and its noise, y = D + u z.

Distances are root mean squares per degree of freedom, so that sets of different sizes weigh the same and padding, which
is zero in every state, nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from tensordict import TensorDict
from torch import Tensor

from framework.denoiser import Denoiser, Prediction
from framework.errors import UserError
from framework.noise import NoiseKey
from framework.sampler import Loop, sample
from framework.schedules import Schedule
from framework.solvers.plan import Node, Solver, nodes
from framework.spaces import Space
from framework.state import Condition, State, combine, concatenate


class Recorded:
    """A denoiser that remembers its latest prediction at each time of a grid."""

    def __init__(self, denoiser: Denoiser, times: Tensor) -> None:
        self.denoiser = denoiser
        self._wanted = set(times.tolist())
        self.seen: dict[float, Prediction] = {}

    @property
    def schedule(self) -> Schedule:
        return self.denoiser.schedule

    def __call__(self, x_t: State, t: Tensor, condition: Condition) -> Prediction:
        prediction = self.denoiser(x_t, t, condition)
        if (time := float(t[0])) in self._wanted:
            # A method of several stages meets a time first as the end of a step and then, with the final state, as
            # the start of the next; the latter comes last.
            self.seen[time] = prediction
        return prediction

    def at(self, times: Tensor, solver: Solver | Loop) -> list[Prediction]:
        """What was said at each of the times.

        Raises:
            UserError: the solver did not ask at each of them, so that there is no path to see.
        """
        if missing := [time for time in times.tolist() if time not in self.seen]:
            raise UserError(
                f"{type(solver).__name__} asks for no prediction at t = {missing[0]:.4g} of its grid; a teacher must "
                "be a solver of the probability-flow ODE that looks at each of the times"
            )
        return [self.seen[time] for time in times.tolist()]


class InBatches:
    """A denoiser that asks another for at most `size` rows at a time."""

    def __init__(self, denoiser: Denoiser, size: int) -> None:
        self.denoiser, self.size = denoiser, size

    @property
    def schedule(self) -> Schedule:
        return self.denoiser.schedule

    def __call__(self, x_t: State, t: Tensor, condition: Condition) -> Prediction:
        parts = [slice(first, first + self.size) for first in range(0, len(t), self.size)]
        said = [self.denoiser(x_t[part], t[part], condition[part]) for part in parts]
        clean, levels = concatenate([p.clean for p in said]), (self.schedule.alpha(t), self.schedule.sigma(t))
        return Prediction(clean, x_t, *levels, said[0].tokens)


@dataclass(frozen=True)
class Path:
    """A teacher's path: at each time but the last the clean mean and the noise, and the sample at its end."""

    nodes: list[Node]
    cleans: list[State]
    noises: list[State]
    end: State

    def state(self, index: int) -> State:
        """y = D + u z at a time after the first; at the last, the sample."""
        if index == len(self.cleans):
            return self.end
        return combine([(1.0, self.cleans[index]), (self.nodes[index].ratio, self.noises[index])])

    def scale(self, space: Space, condition: Condition) -> float:
        """The root mean square of the samples."""
        nothing = combine([(0.0, self.end)])
        return float(distance(self.end, nothing, space, condition).square().mean().sqrt())


def walk_path(
    denoiser: Denoiser, solver: Solver | Loop, times: Tensor, space: Space, condition: Condition, key: NoiseKey
) -> Path:
    """The path of a solver along `times`, which end at t = 0.

    Raises:
        UserError: the solver does not ask the denoiser at each of the times, so that there is no path to see.
    """
    recorded = Recorded(denoiser, times[:-1])
    end = sample(recorded, solver, times, space, condition, key)
    states = [(p.x_t, p.clean) for p in recorded.at(times[:-1], solver)]
    return path_of(denoiser.schedule, times, states, end, space, condition)


def path_of(
    schedule: Schedule,
    times: Tensor,
    states: Sequence[tuple[State, State]],
    end: State,
    space: Space,
    condition: Condition,
) -> Path:
    """The path through states x_t, each with its clean mean, at times (m + 1,) but the last, and the sample there."""
    grid = nodes(schedule, times)
    cleans: list[State] = []
    noises: list[State] = []
    for node, (x_t, said) in zip(grid, states, strict=False):
        clean = space.project(said, condition)
        cleans.append(clean)
        noises.append(combine([(1 / node.sigma, x_t), (-node.alpha / node.sigma, clean)]))
    return Path(grid, cleans, noises, end)


def endpoint_error(
    denoiser: Denoiser,
    solver: Solver | Loop,
    times: Tensor,
    path: Path,
    space: Space,
    condition: Condition,
    key: NoiseKey,
) -> float:
    """The mean distance between a solver's samples from the path's own noise and the path's samples."""
    end = sample(denoiser, solver, times, space, condition, key)
    return float(distance(end, path.end, space, condition).mean())


def cost_matrix(path: Path, space: Space, condition: Condition, stochastic: bool = False) -> np.ndarray:
    """GITS' c_ij (framework/grids/gits.py) for q = 1 as float64 (m + 1, m + 1), infinite where j <= i.

    A `stochastic` solver forgets errors as the reverse SDE does: on Gaussian data twice as fast, in the exponent.
    """
    count = len(path.cleans)
    scale = path.scale(space, condition)
    costs = np.full((count + 1, count + 1), np.inf)
    for j in range(1, count + 1):
        ratio, target = path.nodes[j].ratio, path.state(j)
        carried = (scale / math.hypot(scale, ratio)) ** (2 if stochastic else 1)
        for i in range(j):
            euler = combine([(1.0, path.cleans[i]), (ratio, path.noises[i])])
            costs[i, j] = carried * float(distance(euler, target, space, condition).mean())
    return costs


def distance(a: State, b: State, space: Space, condition: Condition) -> Tensor:
    """The root-mean-square difference of each row per degree of freedom of the space: float64 (B,)."""
    squares = _squares(combine([(1.0, a), (-1.0, b)]))
    degrees = space.degrees_of_freedom(condition).clamp(min=1.0).to(squares.device)
    return (squares / degrees).sqrt()


def _squares(state: State) -> Tensor:
    """The sum of squares of each row over all components, float64 (B,)."""
    if isinstance(state, TensorDict):
        return torch.stack([_squares(state[name]) for name in state.keys()]).sum(0)  # noqa: SIM118  (it iterates over rows)
    return state.double().reshape(len(state), -1).square().sum(1)
