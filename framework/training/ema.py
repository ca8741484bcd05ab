r"""An exponential moving average of weights that is right at every moment.

The average is a network of its own, never swapped with the live one: whatever interrupts a run, at whatever moment,
both are where a checkpoint expects them. Its memory is told in samples and not in steps, so that it means the same at
every batch size and number of devices (Karras et al. 2022): with half-life H, after n more of N samples in all,

    average <- beta average + (1 - beta) weights,    beta = 0.5^(n / min(H, ramp N)).

`ramp` keeps the memory a fraction of the training so far, so that the initial weights are forgotten.
"""

from __future__ import annotations

import copy

import torch
from torch import nn

from framework.errors import UserError


class EMA(nn.Module):
    """The average of a network's parameters; buffers are copied.

    Args:
        network: what is averaged; the average starts as a copy of it.
        half_life: in samples.
        ramp: the memory's cap as a fraction of the samples seen.

    Raises:
        UserError: a half-life or ramp that is not positive.
    """

    def __init__(self, network: nn.Module, half_life: float, ramp: float = 0.05) -> None:
        super().__init__()
        if half_life <= 0 or ramp <= 0:
            raise UserError(f"EMA needs a positive half_life and ramp, got {half_life} and {ramp}")
        self.half_life, self.ramp = half_life, ramp
        self.network = copy.deepcopy(network).eval().requires_grad_(False)

    def decay(self, samples: int, seen: int) -> float:
        """beta of an update after `samples` more samples, `seen` in all."""
        return 0.5 ** (samples / max(min(self.half_life, self.ramp * seen), 1e-9))

    @torch.no_grad()
    def update(self, network: nn.Module, samples: int, seen: int) -> None:
        """Move the average towards `network`."""
        weight = 1 - self.decay(samples, seen)
        averages: list[torch.Tensor] = list(self.network.parameters())
        weights = [p.detach() for p in network.parameters()]
        torch._foreach_lerp_(averages, weights, weight)
        for mine, theirs in zip(self.network.buffers(), network.buffers(), strict=True):
            mine.copy_(theirs)

    def train(self, mode: bool = True) -> EMA:
        """The average is never trained: it stays in evaluation mode."""
        return super().train(False)
