r"""Confidence order: each step reveals the positions of which the denoiser is surest (MaskGIT: Chang et al. 2022).

The schedule says how many masks of M positions are left at s, (1 - alpha_s) M, rounded up. The positions to reveal are
those with the largest max_k p(x_0 = k), and each is then drawn from its p.

That the positions are chosen before their tokens are drawn, from the current state alone, makes it exact if one is
revealed a step. Let i(x) be the position chosen in state x. A sequence x_0 is reached by exactly one path: reveal i_1 =
i(all masks), then i_2 = i(x_0 at i_1 alone), and so on, each i_k a function of x_0. The path's probability is

    prod_k p(x_0^{i_k} | x_0^{i_1}, ..., x_0^{i_{k-1}}) = p(x_0),

the chain rule in the order of that path. MaskGIT itself draws all tokens first and keeps those that came out likely,
which favours likely tokens and so samples another law, at any number of steps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from framework.processes.categorical import Categorical
from framework.solvers.categorical.kernels import KernelSolver, Step, mask_token


@dataclass(frozen=True)
class ConfidenceOrder(KernelSolver):
    """Surest first, for masks only; exact where no step reveals two positions, as in M even steps with Flow."""

    order: ClassVar[float] = math.inf

    def start(self, process: Categorical, x: Tensor) -> Tensor:
        mask_token(process, self)
        return super().start(process, x)

    def transition(self, step: Step) -> Tensor:
        masked = step.masked
        left = torch.ceil((1 - step.alpha_s) * step.valid.sum(1).double() - 1e-9)  # 1e-9: rounding adds no mask
        reveal = (masked.sum(1) - left).clamp(min=0)
        surest = torch.where(masked, step.probabilities.amax(-1), -1.0)
        rank = surest.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
        chosen = masked & (rank < reveal.unsqueeze(1))
        return torch.where(chosen.unsqueeze(-1), step.clean, step.one_hot(step.x))
