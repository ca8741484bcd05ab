"""Noise keyed by (seed, sample index, step, component), so that a sample is the same wherever and however it is drawn.

Randomness is a function of a key and never of a generator's history: sample 7 of seed 0 meets the same normals in a
batch of 1 or of 100, on one device or on eight, first or last. Two solvers that are given one seed start from the same
x_T.

The function is Philox 4x64 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"): the key is (seed,
component), the 256-bit counter starts at (0, 0, sample, step), and the two low words count within a draw. Draws are
made on the CPU in float64 and then cast, so that precision and device do not change them either.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

INITIAL = 0  # the step of the prior's draw: steps of a sampler count from 1


def stable_hash(*parts: object) -> int:
    """A 63-bit integer that depends on the parts' text alone: the same in every process and on every machine."""
    digest = hashlib.blake2b("\x1f".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


class NoiseKey(Protocol):
    """Where noise comes from: a draw is a function of what the key names."""

    def at(self, step: int) -> NoiseKey:
        """The key of another step."""
        ...

    def along(self, step: int, path: tuple[float, float] | None) -> NoiseKey:
        """The key of a step whose noise is an increment of a Brownian path between two signal-to-noise ratios, where
        there is one; else of the step.
        """
        ...

    def component(self, name: str) -> NoiseKey:
        """The key of one component of a state, independent of its siblings'."""
        ...

    def normal(self, shape: Sequence[int], like: Tensor) -> Tensor:
        """Standard normals (B, *shape) in the type and on the device of `like`."""
        ...

    def uniform(self, shape: Sequence[int], like: Tensor) -> Tensor:
        """Uniforms in [0, 1) (B, *shape), likewise."""
        ...


@dataclass(frozen=True)
class SampleKey:
    """The key of samples: `samples` are the indices of the rows of a batch, which need not be consecutive."""

    seed: int
    samples: tuple[int, ...]
    step: int = INITIAL
    name: str = ""

    def at(self, step: int) -> SampleKey:
        return replace(self, step=step)

    def along(self, step: int, path: tuple[float, float] | None) -> SampleKey:
        return self.at(step)

    def component(self, name: str) -> SampleKey:
        return replace(self, name=f"{self.name}/{name}")

    def rows(self, first: int, last: int) -> SampleKey:
        """The key of rows first:last of the batch."""
        return replace(self, samples=self.samples[first:last])

    def normal(self, shape: Sequence[int], like: Tensor) -> Tensor:
        return self._draw(np.random.Generator.standard_normal, shape, like)

    def uniform(self, shape: Sequence[int], like: Tensor) -> Tensor:
        return self._draw(np.random.Generator.random, shape, like)

    def _draw(self, fill: Callable[..., np.ndarray], shape: Sequence[int], like: Tensor) -> Tensor:
        """`fill` writes a row of each sample from that sample's own counter."""
        out = np.empty((len(self.samples), math.prod(shape)), dtype=np.float64)
        bits = np.random.Philox(key=[self.seed & (2**64 - 1), stable_hash(self.name)])
        generator = np.random.Generator(bits)
        fresh = bits.state
        for row, sample in zip(out, self.samples, strict=True):
            fresh["state"]["counter"][:] = (0, 0, sample, self.step)
            bits.state = fresh
            fill(generator, out=row)
        return torch.from_numpy(out).reshape(len(out), *shape).to(device=like.device, dtype=like.dtype)


@dataclass(frozen=True)
class BatchKey:
    """The key of a training batch: one generator a batch on the batch's own device, which is fast.

    A draw is a function of (seed, step, rank, component); a row's noise is not independent of the batch around it,
    which training does not need and sampling does.
    """

    seed: int
    step: int
    rank: int = 0
    size: int = 0
    name: str = ""

    def at(self, step: int) -> BatchKey:
        return replace(self, step=step)

    def along(self, step: int, path: tuple[float, float] | None) -> BatchKey:
        return self.at(step)

    def component(self, name: str) -> BatchKey:
        return replace(self, name=f"{self.name}/{name}")

    def generator(self, device: torch.device) -> torch.Generator:
        """A generator on `device`, seeded by this key."""
        return torch.Generator(device).manual_seed(stable_hash(self.seed, self.step, self.rank, self.name))

    def normal(self, shape: Sequence[int], like: Tensor) -> Tensor:
        generator = self.generator(like.device)
        return torch.randn((self.size, *shape), generator=generator, device=like.device, dtype=like.dtype)

    def uniform(self, shape: Sequence[int], like: Tensor) -> Tensor:
        generator = self.generator(like.device)
        return torch.rand((self.size, *shape), generator=generator, device=like.device, dtype=like.dtype)
