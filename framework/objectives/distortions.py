"""Distortions: faults of a kind that samplers make, put into training states, for the network to undo.

A sampler's states are not the process's: errors add up on the way, and the network has never seen such states. FlowMol3
(Dunn & Koes 2025, 2508.12629) moves rows of late states about in training, and its network learns to put them right.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from framework.noise import NoiseKey


class Distortion(Protocol):
    """The role: a noisy component (B, N, ...) at times t (B,) as the network is to see it."""

    def __call__(self, x_t: Tensor, t: Tensor, key: NoiseKey) -> Tensor: ...


@dataclass(frozen=True)
class MovedRows:
    """In a share of the samples whose time is below `until`, a share of the rows is moved by normal noise.

    Attributes:
        samples: the share of samples.
        rows: the share of their rows.
        scale: the standard deviation of the noise.
        until: the time t from which on, towards the data, it is done.
    """

    samples: float = 0.3
    rows: float = 0.5
    scale: float = 0.2
    until: float = 0.5

    def __call__(self, x_t: Tensor, t: Tensor, key: NoiseKey) -> Tensor:
        like = torch.zeros((), device=x_t.device)
        chosen = (key.component("samples").uniform((), like) < self.samples) & (t.to(x_t.device) < self.until)
        moved = chosen[:, None] & (key.component("rows").uniform((x_t.shape[1],), like) < self.rows)
        noise = self.scale * key.component("noise").normal(tuple(x_t.shape[1:]), like).to(x_t)
        return torch.where(moved.reshape(moved.shape + (1,) * (x_t.ndim - 2)), x_t + noise, x_t)
