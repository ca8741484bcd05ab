r"""How much an error counts at each noise level.

A weighting is a function of the log-SNR, stated in one space of predictions (the error of x_0, of epsilon, ...):
published weights differ by just that space, and an objective converts the error to the space that the weighting names.
None means the objective's own space.

    Constant          w = 1
    MinSNR            w = min(SNR, gamma) on the x_0 error                                  Hang et al. 2023
    EDM               w = (sigma^2 + s^2) / (sigma s)^2 on the x_0 error = 1 on Karras's F   Karras et al. 2022
    SigmoidWeight     w = S(bias - log SNR) on the epsilon error                            Kingma & Gao 2023
    LearnedVariance   error / exp(u) + u, u a learned function of the log-SNR               Karras et al. 2024 (EDM2)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor, nn

from framework.parametrizations import Data, Epsilon, Karras, Parametrization


class Weighting(Protocol):
    """The role: per-sample errors (B,) and log-SNRs (B,) to losses (B,)."""

    @property
    def space(self) -> Parametrization | None: ...

    def __call__(self, error: Tensor, log_snr: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class Constant:
    """Errors as they are."""

    space: ClassVar[None] = None

    def __call__(self, error: Tensor, log_snr: Tensor) -> Tensor:
        return error


@dataclass(frozen=True)
class MinSNR:
    """The x_0 error times the signal-to-noise ratio, clipped at gamma."""

    gamma: float = 5.0
    space: ClassVar[Parametrization] = Data()

    def __call__(self, error: Tensor, log_snr: Tensor) -> Tensor:
        return error * log_snr.clamp(max=math.log(self.gamma)).exp().to(error)


@dataclass(frozen=True)
class EDM:
    """Unit weight on the error of EDM's network output, whose target has unit variance at every noise level."""

    sigma_data: float = 0.5

    @property
    def space(self) -> Parametrization:
        return Karras(self.sigma_data)

    def __call__(self, error: Tensor, log_snr: Tensor) -> Tensor:
        return error


@dataclass(frozen=True)
class SigmoidWeight:
    """The epsilon error times S(bias - log SNR): less weight where there is little noise."""

    bias: float = 0.0
    space: ClassVar[Parametrization] = Epsilon()

    def __call__(self, error: Tensor, log_snr: Tensor) -> Tensor:
        return error * torch.sigmoid(self.bias - log_snr).to(error)


class LearnedVariance(nn.Module):
    """A log-variance u(log SNR), learned with the network on random Fourier features, that evens out the noise levels.

    It is zero at the start, so that training begins with unit weight.
    """

    space: ClassVar[None] = None
    frequencies: Tensor

    def __init__(self, features: int = 128, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.register_buffer("frequencies", torch.randn(features, generator=generator))
        self.register_buffer("phases", torch.rand(features, generator=generator))
        self.linear = nn.Linear(features, 1, bias=True)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def log_variance(self, log_snr: Tensor) -> Tensor:
        """u at the log-SNRs (B,)."""
        level = log_snr.clamp(-20, 20).to(self.frequencies) / 4
        phases = level[:, None] * self.frequencies + self.get_buffer("phases")
        return self.linear(torch.cos(2 * math.pi * phases) * math.sqrt(2))[:, 0]

    def forward(self, error: Tensor, log_snr: Tensor) -> Tensor:
        u = self.log_variance(log_snr).to(error)
        return error / u.exp() + u
