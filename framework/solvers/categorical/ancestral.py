r"""Ancestral sampling of tokens: a draw from the posterior q(x_s | x_t, x_0 ~ p) of each position.

The posterior is the process's own (framework/processes/categorical.py). For a mask it unmasks with probability
(alpha_s - alpha_t) / (1 - alpha_t) to a token of p and never changes a token (MDLM: Sahoo et al. 2024,
arXiv:2406.07524, eq. 6). For a uniform law it is the mixture over x_0, exact for one position; UDLM (Schiff et al.
2024) puts the probabilities in the place of x_0 into the posterior, which is not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from framework.solvers.categorical.kernels import KernelSolver, Step


@dataclass(frozen=True)
class Ancestral(KernelSolver):
    """The posterior of each position, with its p frozen over the step."""

    order: ClassVar[float] = 1

    def transition(self, step: Step) -> Tensor:
        return step.process.posterior(step.x, step.probabilities, step.t, step.s)
