r"""Remasking (ReMDM; Wang et al. 2025, arXiv:2503.00307): tokens may be masked again, so that mistakes can be mended.

A token is masked again with probability sigma, and the mask gives way more often, so that at every time the share of
masks stays 1 - alpha (eq. 5):

    x_t a token:  x_s = mask with probability sigma, else x_t,
    x_t a mask:   x_s = mask with probability (1 - alpha_s - sigma alpha_t) / (1 - alpha_t), else a token of p,

for any sigma <= sigma_max = min(1, (1 - alpha_s) / alpha_t). sigma = 0 is ancestral sampling, and for one position the
law is exact at every step for any sigma. What happens with several is measured by framework/certify/chains.py:

                                                                                                       order
    Cap(eta)         sigma = min(eta, sigma_max), as published                                          1/2
    Rescale(eta)     sigma = eta sigma_max, as published                                                1/2
    Rate(rate)       sigma = min(1 - exp(-rate (t - s)), sigma_max): shrinks with the step              1
    Confident(base)  as published: sigma of base, shared out over the tokens by softmax(-psi), psi the
                     probability with which a token was drawn; masks make up for none of it             0

The published ones make two positions change together in each step, however short, and what the last steps leave
unmended falls like sqrt(h) only. Confident is biased: whether a token is drawn anew depends on which it is, so that
the law leans to likely tokens at any number of steps. That may be what a person wants of an imperfect network.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from framework.errors import UserError
from framework.processes.categorical import Categorical
from framework.solvers.categorical.kernels import KernelSolver, Step, mask_token


def most(step: Step) -> float:
    """sigma_max, the largest probability of masking again that keeps the share of masks."""
    return min(1.0, (1 - step.alpha_s) / step.alpha_t) if step.alpha_t > 0 else 1.0


class Remasking(ABC):
    """How often a token is masked again; `order` is that of the solver with it."""

    order: ClassVar[float]

    @abstractmethod
    def sigma(self, step: Step) -> Tensor:
        """Probabilities (B, M) or one number (): those of tokens, and those that masks make up for."""

    def start(self, x: Tensor) -> Tensor:
        """What it remembers before the first step: (B, ...)."""
        return x.new_zeros((len(x), 0), dtype=torch.float64)

    def remember(self, step: Step, x_s: Tensor) -> Tensor:
        """What it remembers after x_s was drawn."""
        return step.memory


def _check(name: str, eta: float) -> None:
    if not 0 <= eta <= 1:
        raise UserError(f"{name}'s eta is a probability, in [0, 1], not {eta}")


@dataclass(frozen=True)
class Cap(Remasking):
    """At most `eta` a step.

    Raises:
        UserError: eta lies outside [0, 1].
    """

    eta: float = 0.04
    order: ClassVar[float] = 0.5

    def __post_init__(self) -> None:
        _check("Cap", self.eta)

    def sigma(self, step: Step) -> Tensor:
        return torch.tensor(min(self.eta, most(step)), dtype=torch.float64)


@dataclass(frozen=True)
class Rescale(Remasking):
    """The share `eta` of the most that there may be.

    Raises:
        UserError: eta lies outside [0, 1].
    """

    eta: float = 0.1
    order: ClassVar[float] = 0.5

    def __post_init__(self) -> None:
        _check("Rescale", self.eta)

    def sigma(self, step: Step) -> Tensor:
        return torch.tensor(self.eta * most(step), dtype=torch.float64)


@dataclass(frozen=True)
class Rate(Remasking):
    """`rate` maskings of each token in the time from 1 to 0, as far as sigma_max allows.

    Raises:
        UserError: the rate is negative.
    """

    rate: float = 1.0
    order: ClassVar[float] = 1

    def __post_init__(self) -> None:
        if self.rate < 0:
            raise UserError(f"Rate's rate cannot be negative, as {self.rate} is")

    def sigma(self, step: Step) -> Tensor:
        return torch.tensor(min(-math.expm1(-self.rate * (step.t - step.s)), most(step)), dtype=torch.float64)


@dataclass(frozen=True)
class Confident(Remasking):
    """The probability of `base`, shared out by how unsure each token was when it was drawn."""

    base: Remasking = field(default_factory=lambda: Rescale(1.0))
    order: ClassVar[float] = 0

    def start(self, x: Tensor) -> Tensor:
        return torch.ones(x.shape, dtype=torch.float64, device=x.device)

    def sigma(self, step: Step) -> Tensor:
        shown = step.valid & ~step.masked
        shares = torch.where(shown, (-step.memory).exp(), 0.0)
        return self.base.sigma(step) * shares / shares.sum(1, keepdim=True).clamp(min=1e-300)

    def remember(self, step: Step, x_s: Tensor) -> Tensor:
        chosen = step.clean.gather(-1, x_s.unsqueeze(-1)).squeeze(-1)
        known = torch.where(step.masked, chosen, step.memory)
        return torch.where(x_s < step.process.space.classes, known, 1.0)


@dataclass(frozen=True)
class ReMDM(KernelSolver):
    """Ancestral sampling with remasking, for masks only."""

    remasking: Remasking = field(default_factory=Cap)

    @property
    def order(self) -> float:
        return self.remasking.order

    def start(self, process: Categorical, x: Tensor) -> Tensor:
        mask_token(process, self)
        return self.remasking.start(x)

    def remember(self, step: Step, x_s: Tensor) -> Tensor:
        return self.remasking.remember(step, x_s)

    def transition(self, step: Step) -> Tensor:
        sigma = self.remasking.sigma(step).to(step.x.device).expand(step.x.shape).unsqueeze(-1)
        mask = step.one_hot(torch.full_like(step.x, mask_token(step.process, self)))
        token = (1 - sigma) * step.one_hot(step.x) + sigma * mask
        stays = ((1 - step.alpha_s - sigma * step.alpha_t) / (1 - step.alpha_t)).clamp(0.0, 1.0)
        return torch.where(step.masked.unsqueeze(-1), stays * mask + (1 - stays) * step.clean, token)
