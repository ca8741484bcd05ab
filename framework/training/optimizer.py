"""The optimiser's settings, and how the learning rate moves over a run."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from framework.errors import UserError


@dataclass(frozen=True)
class AdamW:
    """AdamW (Loshchilov & Hutter 2019) with linear warm-up and cosine decay.

    Attributes:
        lr: the peak learning rate.
        betas: the decay rates of the two moments.
        weight_decay: applied to matrices and filters, not to biases, norms and other vectors.
        warmup_steps: steps from 0 to the peak.
        final: the last learning rate as a fraction of the peak; 1 keeps it constant after the warm-up.
    """

    lr: float = 1e-3
    betas: Sequence[float] = (0.9, 0.99)
    weight_decay: float = 0.0
    warmup_steps: int = 100
    final: float = 1.0

    def build(self, parameters: Iterable[nn.Parameter], fused: bool = True) -> torch.optim.AdamW:
        """The optimiser over the trainable ones of `parameters`.

        `fused` is one kernel in place of a dozen small ones a tensor (12 ms a step less on two CPU cores). It must be
        off in fp16, where it would undo the loss scaling only after gradients have been clipped.
        """
        trainable = [p for p in parameters if p.requires_grad]
        groups = [
            {"params": [p for p in trainable if p.ndim > 1], "weight_decay": self.weight_decay},
            {"params": [p for p in trainable if p.ndim <= 1], "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, lr=self.lr, betas=(self.betas[0], self.betas[1]), fused=fused)

    def factor(self, step: int, total: int) -> float:
        """The learning rate at `step` of `total` as a fraction of the peak; total -1 is a run without a last step.

        Raises:
            UserError: the learning rate should fall, but there is no last step to fall to.
        """
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        if total < 0:
            if self.final != 1.0:
                raise UserError(
                    f"optimizer.final={self.final} lets the learning rate fall until trainer.max_steps, which is "
                    f"{total}: give a number of steps, or final=1.0 for a constant rate"
                )
            return 1.0
        done = min((step - self.warmup_steps) / max(total - self.warmup_steps, 1), 1.0)
        return self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * done))
