r"""The exact denoiser of a few items: with it a solver must give back the items themselves.

Where the data are M items x_i, all alike, what a noisy state says of them is known:

    w = softmax_i sum_c log q_c(x_t^c | x_i^c),      q = N(alpha x_i, sigma^2) or, of tokens, prod_j q(x_t^j | x_i^j),

and the clean prediction is sum_i w_i x_i: a mean, or the tokens' probabilities.

No network stands between a modality's states and spaces and what the solver makes of them, so what goes wrong here is
theirs.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from tensordict import TensorDict
from torch import Tensor

from framework.categories import Categories
from framework.denoiser import Prediction
from framework.processes.by_component import parts_of
from framework.processes.categorical import Categorical
from framework.processes.gaussian import Gaussian
from framework.processes.process import Process
from framework.schedules import Schedule
from framework.state import Condition, State, batch_size, components
from framework.testing.compare import leaves
from framework.testing.subject import Failed
from framework.testing.tokens import ALONE, certainties, is_tokens


@dataclass
class Oracle:
    """A Denoiser of the items (M, ...), which all lie in the space of each row of the condition."""

    items: State
    process: Process
    schedule: Schedule

    def __call__(self, x_t: State, t: Tensor, condition: Condition) -> Prediction:
        evidence: Tensor | float = 0.0
        tokens: dict[str, Categories] = {}
        x_parts, item_parts = components(x_t), components(self.items)
        for name, part in parts_of(self.process).items():
            if isinstance(part, Gaussian):
                x, items = (x_parts[name], item_parts[name]) if name else (x_t, self.items)
                alpha, sigma = part.schedule.alpha_sigma(t)
                squares = distances(x, items, alpha) ** 2
                evidence = evidence - squares / (2 * sigma.reshape(-1, 1).clamp(min=1e-9) ** 2)
            elif isinstance(part, Categorical):
                evidence = evidence + _log_likelihood(part, x_parts[name], item_parts[name], t, condition)
                tokens[name or ALONE] = part.space
            else:
                raise Failed(f"the posterior of a {type(part).__name__} process is not known here")
        assert isinstance(evidence, Tensor)
        clean = _mean(certainties(self.items, tokens), evidence.softmax(1))
        alone = isinstance(x_t, Tensor) and bool(tokens)
        return Prediction(clean, x_t, self.schedule.alpha(t), self.schedule.sigma(t), ("",) if alone else tuple(tokens))


def _log_likelihood(part: Categorical, x_t: Tensor, items: Tensor, t: Tensor, condition: Condition) -> Tensor:
    """log q(x_t | x_i) of all free entries together: float64 (B, M)."""
    layout = part.space.layout
    each = part.likelihood(layout.pack(x_t), t).log()
    real, clean = layout.valid(condition), layout.pack(items)
    found = each[:, torch.arange(clean.shape[1]), clean]  # (B, M, entries)
    return torch.where(real[:, None], found, 0.0).sum(2)


def _mean(items: State, weights: Tensor) -> State:
    """The items (M, ...) weighed by (B, M), as B rows."""
    if isinstance(items, Tensor):
        return torch.tensordot(weights, items.double(), dims=1).to(items.dtype)
    parts = {name: _mean(items[name], weights) for name in items.keys()}  # noqa: SIM118
    return TensorDict(parts, batch_size=[len(weights)])


def distances(x: State, items: State, alpha: Tensor | float = 1.0) -> Tensor:
    """|x_b - alpha_b x_i| over all components, float64 (B, M); each token that is another counts as a distance of 1."""
    scale = torch.as_tensor(alpha, dtype=torch.float64).reshape(-1, 1)
    squares: Tensor | None = None
    for name, part in leaves(x).items():
        if is_tokens(part):
            here = torch.stack([(part != item).flatten(1).sum(1).double() for item in leaves(items)[name]], dim=1)
        else:
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


def other_tokens(x: State, items: State, index: Tensor) -> int:
    """How many rows of `x` have a token that is not that of the item at their index."""
    wrong = torch.zeros(batch_size(x), dtype=torch.bool)
    for name, part in leaves(x).items():
        if is_tokens(part):
            wrong |= (part != leaves(items)[name][index]).flatten(1).any(1)
    return int(wrong.sum())
