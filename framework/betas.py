r"""Tables of betas by the names under which checkpoints are published.

A table beta_1 ... beta_T says alpha(k / T)^2 = prod_{i <= k} (1 - beta_i) (framework/schedules/tables.py).
With b and e its first and last beta and s_k = (k - 1) / (T - 1):

    LinearBetas         beta_k = b + s_k (e - b)                                  Ho et al. 2020
    ScaledLinearBetas   beta_k = (sqrt(b) + s_k (sqrt(e) - sqrt(b)))^2            Rombach et al. 2022 (Stable Diffusion)
    CosineBetas         1 - beta_k = a(k / T) / a((k - 1) / T), beta <= 0.999,    Nichol & Dhariwal 2021
                        a(t) = cos^2((t + 0.008) / 1.008 pi / 2)
    SigmoidBetas        beta_k = b + (e - b) / (1 + exp(6 - 12 s_k))              Xu et al. 2022 (GeoDiff)
    ZeroTerminal        any table with alpha' = (alpha - alpha_T) alpha_1 /       Lin et al. 2024, Algorithm 1
                        (alpha_1 - alpha_T), so that nothing of the data is left at the end

`floor` stops ZeroTerminal short of zero: software that divides by alpha uses 2^-24 for alpha_T^2.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from framework.schedules import TabulatedBetas


@dataclass(frozen=True)
class NamedBetas(TabulatedBetas):
    """A table that follows from a few numbers, by which it is printed and compared."""

    betas: Sequence[float] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "betas", self.table())
        super().__post_init__()

    @abstractmethod
    def table(self) -> Tensor:
        """beta_1 ... beta_T, float64 (T,)."""


@dataclass(frozen=True)
class LinearBetas(NamedBetas):
    """Evenly spaced."""

    steps: int = 1000
    beta_start: float = 1e-4
    beta_end: float = 0.02

    def table(self) -> Tensor:
        return torch.linspace(self.beta_start, self.beta_end, self.steps, dtype=torch.float64)


@dataclass(frozen=True)
class ScaledLinearBetas(NamedBetas):
    """Their square roots evenly spaced."""

    steps: int = 1000
    beta_start: float = 0.00085
    beta_end: float = 0.012

    def table(self) -> Tensor:
        return torch.linspace(self.beta_start**0.5, self.beta_end**0.5, self.steps, dtype=torch.float64) ** 2


@dataclass(frozen=True)
class CosineBetas(NamedBetas):
    """From a squared cosine of time, each capped at `largest`."""

    steps: int = 1000
    largest: float = 0.999

    def table(self) -> Tensor:
        t = torch.arange(self.steps + 1, dtype=torch.float64) / self.steps
        squares = torch.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2
        return (1 - squares[1:] / squares[:-1]).clamp(max=self.largest)


@dataclass(frozen=True)
class SigmoidBetas(NamedBetas):
    """Along a logistic curve from -6 to 6; the ends are approached and not met."""

    steps: int = 1000
    beta_start: float = 1e-4
    beta_end: float = 0.02

    def table(self) -> Tensor:
        curve = torch.sigmoid(torch.linspace(-6, 6, self.steps, dtype=torch.float64))
        return curve * (self.beta_end - self.beta_start) + self.beta_start


@dataclass(frozen=True)
class ZeroTerminal(NamedBetas):
    """`of` with its alphas shifted and scaled so that the first stays and the last is sqrt(floor)."""

    of: TabulatedBetas
    floor: float = 0.0

    def table(self) -> Tensor:
        alphas = self.of._knots[1:].exp()
        alphas = (alphas - alphas[-1]) * alphas[0] / (alphas[0] - alphas[-1])
        squares = alphas**2
        squares[-1] = self.floor
        ones = torch.ones(1, dtype=torch.float64)
        return 1 - squares / torch.cat([ones, squares[:-1]])
