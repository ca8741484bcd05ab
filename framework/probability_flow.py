r"""The probability-flow ODE on the quarter circle, where it is regular on every schedule and at alpha = 0.

With theta = atan2(sigma, alpha) and v = x / sqrt(alpha^2 + sigma^2), a noisy state of any schedule is

    v = cos(theta) x_0 + sin(theta) z,    theta from 0, data, to pi / 2, noise,

and the ODE dx/dt = f x - g^2 score / 2 (Song et al. 2021, 2011.13456, eq. 13) becomes, with the clean mean D,

    dv/dtheta = -sin(theta) D + cos(theta) (v - cos(theta) D) / sin(theta) = (cos(theta) v - D) / sin(theta).

At theta = pi / 2 it is -D. As theta goes to 0 it goes to 0 for data with a density, but as 0 / 0: integration ends at a
small angle. States are rows (B, n) of float64 here, all components of a TensorDict one after the other.
"""

from __future__ import annotations

import torch
from torch import Tensor

from framework.denoiser import Denoiser
from framework.spaces import Space
from framework.state import Condition, State, map_state


def flatten(state: State) -> Tensor:
    """The state's numbers as float64 rows (B, n)."""
    parts: list[Tensor] = []

    def take(leaf: Tensor) -> Tensor:
        parts.append(leaf.flatten(1).double())
        return leaf

    map_state(take, state)
    return torch.cat(parts, 1)


def unflatten(rows: Tensor, like: State) -> State:
    """Rows (B, n) as a state of the structure, shapes and types of `like`."""
    begin = 0

    def give(leaf: Tensor) -> Tensor:
        nonlocal begin
        end = begin + leaf[0].numel()
        part, begin = rows[:, begin:end], end
        return part.reshape(leaf.shape).to(leaf.dtype)

    return map_state(give, like)


class ProbabilityFlow:
    """The ODE of a denoiser in a space; `like` is a state of the kind that the denoiser takes."""

    def __init__(self, denoiser: Denoiser, space: Space, condition: Condition, like: State) -> None:
        self.denoiser, self.space, self.condition, self.like = denoiser, space, condition, like

    def time(self, theta: Tensor) -> Tensor:
        """The schedule's time at an angle."""
        return self.denoiser.schedule.time(2 * (torch.cos(theta) / torch.sin(theta)).log()).clamp(0.0, 1.0)

    def scale(self, t: Tensor) -> Tensor:
        """sqrt(alpha^2 + sigma^2), the length of the state x in units of v."""
        return torch.hypot(self.denoiser.schedule.alpha(t), self.denoiser.schedule.sigma(t))

    def enter(self, x: State, t: Tensor) -> Tensor:
        """The rows v (B, n) of a state x at a time t ()."""
        return flatten(x) / float(self.scale(t))

    def state(self, rows: Tensor) -> State:
        """Rows (B, n) as a state on the space."""
        return self.space.project(unflatten(rows, self.like), self.condition)

    def clean(self, theta: Tensor, v: Tensor) -> Tensor:
        """The clean mean D (B, n) of rows v (B, n), each at its own angle (B,)."""
        t = self.time(theta.cpu())
        x = unflatten(v * self.scale(t).to(v.device)[:, None], self.like)
        clean = self.denoiser(x, t, self.condition).clean
        return flatten(self.space.project(clean, self.condition))

    def velocity(self, theta: Tensor, v: Tensor) -> Tensor:
        """dv/dtheta (B, n)."""
        return (torch.cos(theta)[:, None] * v - self.clean(theta, v)) / torch.sin(theta)[:, None]

    def clean_of(self, theta: Tensor, v: Tensor, velocity: Tensor) -> Tensor:
        """The clean mean (B, n) that a velocity tells, without asking again."""
        return torch.cos(theta)[:, None] * v - torch.sin(theta)[:, None] * velocity
