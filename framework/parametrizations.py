r"""What a network is asked to predict, as two numbers p and q: its target is y = p x_0 + q z.

With x_t = alpha x_0 + sigma z this is a 2 x 2 linear system, so that x_t and y give back both data and noise:

    d = alpha q - sigma p,    x_0 = (q x_t - sigma y) / d,    z = (alpha y - p x_t) / d.

One pair (p, q) a parametrisation replaces a converter for each pair of them; d = 0 is where the pair cannot recover the
data (epsilon at alpha = 0). The network sees c_in x_t, with c_in = 1 or, where x_t grows with sigma, the inverse of its
standard deviation.

    epsilon   z                                   Ho et al. 2020
    data      x_0                                 "x_0-prediction"
    v         alpha z - sigma x_0                 Salimans & Ho 2022
    flow      z - x_0                             Liu et al. 2023: the velocity of the straight path
    score     -z / sigma                          Song et al. 2021
    karras    EDM's F, c_skip and c_out folded in Karras et al. 2022, extended to alpha != 1
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from framework.state import State, combine

Pair = tuple[Tensor, Tensor]


class Parametrization(ABC):
    """The pair (p, q) of a target at given float64 alpha and sigma, and the scale of the network's input."""

    @abstractmethod
    def pair(self, alpha: Tensor, sigma: Tensor) -> Pair:
        """(p, q), each of the shape of alpha."""

    def input_scale(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        """c_in: what x_t is multiplied with before the network sees it."""
        return torch.ones_like(alpha)

    def determinant(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        """d = alpha q - sigma p: zero where x_t and the target do not determine the data."""
        p, q = self.pair(alpha, sigma)
        return alpha * q - sigma * p

    def target(self, clean: State, noise: State, alpha: Tensor, sigma: Tensor) -> State:
        """y = p x_0 + q z."""
        p, q = self.pair(alpha, sigma)
        return combine([(p, clean), (q, noise)])

    def clean_weights(self, alpha: Tensor, sigma: Tensor) -> Pair:
        """(a, b) with x_0 = a x_t + b y."""
        p, q = self.pair(alpha, sigma)
        d = alpha * q - sigma * p
        return q / d, -sigma / d

    def clean(self, x_t: State, y: State, alpha: Tensor, sigma: Tensor) -> State:
        """x_0 from x_t and a prediction y of the target."""
        a, b = self.clean_weights(alpha, sigma)
        return combine([(a, x_t), (b, y)])

    def noise(self, x_t: State, y: State, alpha: Tensor, sigma: Tensor) -> State:
        """z from x_t and a prediction y of the target."""
        p, q = self.pair(alpha, sigma)
        d = alpha * q - sigma * p
        return combine([(-p / d, x_t), (alpha / d, y)])


@dataclass(frozen=True)
class UnitInput(Parametrization):
    """Targets whose input may be scaled to unit variance, for data of variance `input_variance`; None: as it is."""

    input_variance: float | None = None

    def input_scale(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        if self.input_variance is None:
            return torch.ones_like(alpha)
        return (alpha**2 * self.input_variance + sigma**2).rsqrt()


@dataclass(frozen=True)
class Epsilon(UnitInput):
    """y = z."""

    def pair(self, alpha: Tensor, sigma: Tensor) -> Pair:
        return torch.zeros_like(alpha), torch.ones_like(alpha)


@dataclass(frozen=True)
class Data(UnitInput):
    """y = x_0."""

    def pair(self, alpha: Tensor, sigma: Tensor) -> Pair:
        return torch.ones_like(alpha), torch.zeros_like(alpha)

    def clean_weights(self, alpha: Tensor, sigma: Tensor) -> Pair:
        return torch.zeros_like(alpha), torch.ones_like(alpha)  # also at sigma = 0, where d = 0

    def clean(self, x_t: State, y: State, alpha: Tensor, sigma: Tensor) -> State:
        return y


@dataclass(frozen=True)
class V(UnitInput):
    """y = alpha z - sigma x_0."""

    def pair(self, alpha: Tensor, sigma: Tensor) -> Pair:
        return -sigma, alpha


@dataclass(frozen=True)
class Flow(UnitInput):
    """y = z - x_0."""

    def pair(self, alpha: Tensor, sigma: Tensor) -> Pair:
        return -torch.ones_like(alpha), torch.ones_like(alpha)


@dataclass(frozen=True)
class Score(UnitInput):
    """y = -z / sigma, the gradient of log p(x_t | x_0)."""

    def pair(self, alpha: Tensor, sigma: Tensor) -> Pair:
        return torch.zeros_like(alpha), -1 / sigma


@dataclass(frozen=True)
class Karras(Parametrization):
    """EDM's F for data of standard deviation `sigma_data`: input and target have unit variance at every noise level.

    With s = sqrt(alpha^2 sigma_data^2 + sigma^2): c_skip = alpha sigma_data^2 / s^2, c_out = sigma sigma_data / s, c_in
    = 1 / s, and F = (x_0 - c_skip x_t) / c_out, which is p = sigma / (sigma_data s), q = -alpha sigma_data / s.
    """

    sigma_data: float = 0.5

    def _scale(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        return (alpha**2 * self.sigma_data**2 + sigma**2).sqrt()

    def pair(self, alpha: Tensor, sigma: Tensor) -> Pair:
        s = self._scale(alpha, sigma)
        return sigma / (self.sigma_data * s), -alpha * self.sigma_data / s

    def input_scale(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        return 1 / self._scale(alpha, sigma)
