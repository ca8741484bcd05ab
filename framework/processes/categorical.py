r"""The categorical process: each token is kept with probability alpha(t), and else drawn from a law pi of no data.

    q(x_t | x_0) = alpha_t delta(x_t, x_0) + (1 - alpha_t) pi(x_t),

for each position on its own, with alpha from any schedule that ends near 0 (Flow gives alpha = 1 - t; sigma has no
part). With pi a mask token it is MDLM (Sahoo et al. 2024, arXiv:2406.07524), with pi uniform D3PM's and UDLM's process
(Austin et al. 2021; Schiff et al. 2024, arXiv:2412.10193), and discrete flow matching's (Gat et al. 2024) in all cases.

A step forward from s to t keeps with a = alpha_t / alpha_s. If a denoiser gives p(x_0), the step back has the law

    q(x_s | x_t) = sum_{x_0} p(x_0) q(x_s | x_0) q(x_t | x_s) / q(x_t | x_0)
                 = [a delta(x_s, x_t) + (1 - a) pi(x_t)] [alpha_s w(x_s) + (1 - alpha_s) pi(x_s) sum w],
    w(x_0)       = p(x_0) / q(x_t | x_0),

a mixture over x_0, exact for one position if p is; it costs O(K), not O(K^2). Time reversed in infinitesimal steps it
jumps from x to y at the rate (Campbell et al. 2022, arXiv:2205.14987, proposition 1)

    R_t(x -> y) = -(alpha_t' / alpha_t) pi(x) [alpha_t w(y) + (1 - alpha_t) pi(y) sum w].

Whatever p says of an x_0 that cannot have led to x_t is left out, so that a token that no longer can be noise is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from framework.categories import Categories, draw
from framework.errors import UserError
from framework.noise import NoiseKey
from framework.schedules import Schedule, as_times
from framework.state import Condition


class Stationary(Protocol):
    """The law pi of a token of which nothing is left."""

    def probabilities(self, classes: int) -> Tensor:
        """Float64 (S,) over the states, of which the first `classes` are the data's and any other is noise alone."""
        ...


@dataclass(frozen=True)
class Mask:
    """All on one more state, the mask, whose token is the number of classes."""

    def probabilities(self, classes: int) -> Tensor:
        pi = torch.zeros(classes + 1, dtype=torch.float64)
        pi[classes] = 1.0
        return pi


@dataclass(frozen=True)
class Uniform:
    """Each class alike."""

    def probabilities(self, classes: int) -> Tensor:
        return torch.full((classes,), 1 / classes, dtype=torch.float64)


@dataclass(frozen=True)
class Marginal:
    """The classes' shares in the data (Vignac et al. 2023, DiGress), which are normalised here.

    Raises:
        UserError: a share is negative, or all are zero; there are not as many as classes.
    """

    shares: Sequence[float]

    def __post_init__(self) -> None:
        if not self.shares or min(self.shares) < 0 or sum(self.shares) <= 0:
            raise UserError(f"a marginal law needs shares that are not negative and not all zero, got {self.shares}")

    def probabilities(self, classes: int) -> Tensor:
        if len(self.shares) != classes:
            raise UserError(f"the marginal law has {len(self.shares)} shares, and there are {classes} classes")
        shares = torch.tensor(tuple(self.shares), dtype=torch.float64)
        return shares / shares.sum()


@dataclass(frozen=True)
class Categorical:
    """A schedule, tokens and their stationary law. Times are float64, a number of dimension () or one a sample (B,).

    `prior` and `corrupt` speak of arrays of tokens (B, *positions); the laws are those of packed tokens x (B, M) int64
    and probabilities p of x_0 (B, M, K), in float64.

    Raises:
        UserError: the schedule keeps more than a tenth of the data at t = 1.
    """

    schedule: Schedule
    space: Categories
    stationary: Stationary = field(default_factory=Mask)

    def __post_init__(self) -> None:
        left = float(self.schedule.alpha(as_times(1.0)))
        if left > 0.1:
            raise UserError(
                f"{type(self.schedule).__name__} keeps a share alpha(1) = {left:.3g} of the tokens at t = 1; "
                "categorical data needs a schedule that ends near 0: Flow, Cosine or LinearVP"
            )
        self.stationary.probabilities(self.space.classes)

    @property
    def states(self) -> int:
        """How many values a token takes on the way: K, or K + 1 with a mask."""
        return len(self.stationary.probabilities(self.space.classes))

    @property
    def mask_token(self) -> int | None:
        """The mask's token, if that is the noise."""
        return self.space.classes if isinstance(self.stationary, Mask) else None

    def prior(self, t: Tensor, key: NoiseKey, condition: Condition) -> Tensor:
        """Tokens of pi: the state at a time t where nothing of the data is left to matter."""
        uniforms = self.space.uniform(key, condition)
        return self.space.layout.unpack(draw(self._pi(uniforms).expand(*uniforms.shape, -1), uniforms), condition)

    def corrupt(self, x_0: Tensor, t: Tensor, key: NoiseKey, condition: Condition) -> tuple[Tensor, Tensor]:
        """(x_t, which positions were drawn anew) for clean tokens at times t (B,); both (B, *positions)."""
        layout = self.space.layout
        clean, uniforms = layout.pack(x_0), self.space.uniform(key, condition)
        alpha = self._alpha(t, uniforms).squeeze(-1)
        anew = uniforms >= alpha
        rest = torch.where(anew, (uniforms - alpha) / (1 - alpha), 0.0)  # uniform again, given that it is not kept
        noise = draw(self._pi(uniforms).expand(*uniforms.shape, -1), rest.clamp(max=1 - 2**-53))
        return layout.unpack(torch.where(anew, noise, clean), condition), layout.unpack(anew, condition)

    def likelihood(self, x: Tensor, t: float | Tensor) -> Tensor:
        """q(x_t = x | x_0 = k) for each class k: float64 (B, M, K)."""
        alpha = self._alpha(t, x)
        return alpha * _is(x, self.space.classes) + (1 - alpha) * self._pi(x)[x].unsqueeze(-1)

    def posterior(self, x: Tensor, p: Tensor, t: float | Tensor, s: float | Tensor) -> Tensor:
        """The law of x_s given x_t = x and x_0 ~ p, for s < t: float64 (B, M, S), rows summing to one."""
        alpha_t, alpha_s = self._alpha(t, x), self._alpha(s, x)
        kept = torch.where(alpha_s > alpha_t, alpha_t / alpha_s, 1.0)
        pi, here = self._pi(x), _is(x, self.states)
        w = self._weights(x, p, t)
        law = (kept * here + (1 - kept) * pi[x].unsqueeze(-1)) * (
            alpha_s * w + (1 - alpha_s) * pi * w.sum(-1, keepdim=True)
        )
        total = law.sum(-1, keepdim=True)
        return torch.where(total > 0, law / total, here)

    def rates(self, x: Tensor, p: Tensor, t: float | Tensor) -> Tensor:
        """R_t(x -> y), the rates of jumps back in time: float64 (B, M, S), 0 for y = x; infinite at alpha = 0 for y
        that noise alone explains.
        """
        alpha, pi = self._alpha(t, x), self._pi(x)
        slope = self._shaped(-self.schedule.d_alpha(as_times(t)), x)
        w = self._weights(x, p, t)
        noise = torch.where(pi > 0, (1 - alpha) / alpha * pi * w.sum(-1, keepdim=True), 0.0)
        jumps = slope * pi[x].unsqueeze(-1) * (w + noise)
        return torch.where(_is(x, self.states) > 0, 0.0, jumps)

    def _weights(self, x: Tensor, p: Tensor, t: float | Tensor) -> Tensor:
        """w(x_0) = p(x_0) / q(x_t = x | x_0) over all states, with p conditioned on x being possible: (B, M, S)."""
        likelihood, p = self.likelihood(x, t), p.double()
        possible = torch.where(likelihood > 0, p, 0.0)
        total = possible.sum(-1, keepdim=True)
        p = torch.where(total > 0, possible / total, _is(x, self.space.classes))
        w = torch.where(likelihood > 0, p / likelihood, p)
        return torch.nn.functional.pad(w, (0, self.states - self.space.classes))

    def _pi(self, like: Tensor) -> Tensor:
        return self.stationary.probabilities(self.space.classes).to(like.device)

    def _alpha(self, t: float | Tensor, like: Tensor) -> Tensor:
        return self._shaped(self.schedule.alpha(as_times(t)), like)

    @staticmethod
    def _shaped(value: Tensor, like: Tensor) -> Tensor:
        """() or (B,) as (1, 1, 1) or (B, 1, 1)."""
        return value.to(like.device).reshape(-1, 1, 1)


def _is(x: Tensor, states: int) -> Tensor:
    """delta(x, y) for each y < states: float64 (B, M, states)."""
    return (x.unsqueeze(-1) == torch.arange(states, device=x.device)).double()
