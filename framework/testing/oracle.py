r"""The exact denoiser of a few items: with it a solver must give back the items themselves.

Where the data are M items x_i, all alike, the clean mean is known:

    D(x_t) = sum_i w_i x_i,    w = softmax_i(-|x_t - alpha x_i|^2 / (2 sigma^2)).

No network stands between a modality's states and spaces and what the solver makes of them, so what goes wrong here is
theirs.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from tensordict import TensorDict
from torch import Tensor

from framework.denoiser import Prediction
from framework.schedules import Flow, Schedule
from framework.state import Condition, State
from framework.testing.compare import leaves


@dataclass
class Oracle:
    """A Denoiser of the items (M, ...), which all lie in the space of each row of the condition."""

    items: State
    schedule: Schedule = field(default_factory=Flow)

    def __call__(self, x_t: State, t: Tensor, condition: Condition) -> Prediction:
        alpha, sigma = self.schedule.alpha(t), self.schedule.sigma(t)
        squares = distances(x_t, self.items, alpha) ** 2
        weights = (-squares / (2 * sigma.reshape(-1, 1).clamp(min=1e-9) ** 2)).softmax(1)

        return Prediction(_mean(self.items, weights), x_t, alpha, sigma)


def _mean(items: State, weights: Tensor) -> State:
    """The items (M, ...) weighed by (B, M), as B rows."""
    if isinstance(items, Tensor):
        return torch.tensordot(weights, items.double(), dims=1).to(items.dtype)
    parts = {name: _mean(items[name], weights) for name in items.keys()}  # noqa: SIM118
    return TensorDict(parts, batch_size=[len(weights)])


def distances(x: State, items: State, alpha: Tensor | float = 1.0) -> Tensor:
    """|x_b - alpha_b x_i| over all components, float64 (B, M)."""
    scale = torch.as_tensor(alpha, dtype=torch.float64).reshape(-1, 1)
    squares: Tensor | None = None
    for name, part in leaves(x).items():
        flat, theirs = part.double().flatten(1), leaves(items)[name].double().flatten(1)
        rows = scale.expand(len(flat), 1)
        here = torch.stack([(flat - rows * item).square().sum(1) for item in theirs], dim=1)
        squares = here if squares is None else squares + here
    assert squares is not None
    return squares.sqrt()


def far_apart(items: State, count: int) -> Tensor:
    """The indices of up to `count` items that lie far from each other: each next is the farthest from those before."""
    apart = distances(items, items)
    chosen = [0]
    while len(chosen) < min(count, len(apart)):
        nearest = apart[:, chosen].min(1).values
        if float(nearest.max()) == 0:
            break
        chosen.append(int(nearest.argmax()))
    return torch.tensor(chosen)
