"""Noise keyed by (seed, sample index, step, component), so that a sample is the same wherever and however it is drawn.

Randomness is a function of a key and never of a generator's history: sample 7 of seed 0 meets the same normals in a
batch of 1 or of 100, on one device or on eight, first or last. Two solvers that are given one seed start from the same
x_T.

BLAKE2b turns a key (seed, step, component) into three words, from which three SplitMix64 generators (Steele, Lea and
Flood 2014) start; their i-th words are sample i's state of an SFC64 generator (Doty-Humphrey, in NumPy), of which its
row takes as many words as it needs. Normals are inverted from half a word each, so that they reach to 5.4 standard
deviations, where a row of 10^8 would be expected to end. Draws are made on the CPU in one precision and then cast, so
that the state's type and device do not change them.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import math
import struct
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from framework.splitmix import GAMMA, WORD, mix, mix_word

# A 32-bit integer becomes a float32 inside (-1, 1), at most the largest below 1; a tensor, so that torch's default type
# has no say.
UNIT = torch.tensor((1 - 2.0**-24) * 2.0**-31, dtype=torch.float32)
SQRT2 = math.sqrt(2)
FEW = 4  # rows that are mixed as fast one by one
INITIAL = 0  # the step of the prior's draw: steps of a sampler count from 1


@functools.lru_cache(maxsize=1024, typed=True)
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
        return SampleKey(self.seed, self.samples, step, self.name)

    def along(self, step: int, path: tuple[float, float] | None) -> SampleKey:
        return self.at(step)

    def component(self, name: str) -> SampleKey:
        return replace(self, name=f"{self.name}/{name}")

    def rows(self, first: int, last: int) -> SampleKey:
        """The key of rows first:last of the batch."""
        return replace(self, samples=self.samples[first:last])

    def normal(self, shape: Sequence[int], like: Tensor) -> Tensor:
        count = math.prod(shape)
        halves = self._words((count + 1) // 2).view(np.int32)
        z = torch.from_numpy(halves.astype(np.float32)).mul_(UNIT).erfinv_().mul_(SQRT2)
        if count % 2:
            z = z[:, :count]
        z = z.reshape(len(self.samples), *shape)
        return z if like.dtype == z.dtype and like.device == z.device else z.to(device=like.device, dtype=like.dtype)

    def uniform(self, shape: Sequence[int], like: Tensor) -> Tensor:
        words = self._words(math.prod(shape)) >> np.uint64(11)
        if like.dtype != torch.float64:  # rounding to fewer digits would reach 1
            words = words >> np.uint64(29) << np.uint64(29)
        u = torch.from_numpy(words.astype(np.float64)).mul_(2.0**-53)
        return u.reshape(len(self.samples), *shape).to(device=like.device, dtype=like.dtype)

    def _words(self, count: int) -> np.ndarray:
        """Random 64-bit words (B, count), each row from its own key."""
        bits, registers = _scratch.bits, _scratch.registers
        words = np.empty((len(self.samples), count), dtype=np.uint64)
        for row, start in zip(words, self._starts(), strict=True):
            registers[:3] = start
            registers[3] = 1  # its counter
            row[:] = bits.random_raw(count)
        return words

    def _starts(self) -> np.ndarray | list[list[int]]:
        """The words from which each row's generator starts: (B, 3), mixed as SplitMix64 does it."""
        name = struct.pack("<QQQ", self.seed & WORD, stable_hash(self.name), self.step & WORD)
        begun = hashlib.blake2b(name, digest_size=24).digest()
        if len(self.samples) <= FEW:
            return [
                [mix_word(sample * GAMMA + word) for word in struct.unpack("<QQQ", begun)] for sample in self.samples
            ]
        return mix(_spread(tuple(self.samples)) + np.frombuffer(begun, dtype=np.uint64))


@functools.lru_cache(maxsize=256)
def _spread(samples: tuple[int, ...]) -> np.ndarray:
    """How far each sample's start lies on the generators: (B, 1). A run asks for it in every step."""
    return np.array([[sample & WORD] for sample in samples], dtype=np.uint64).reshape(-1, 1) * np.uint64(GAMMA)


class _Scratch(threading.local):
    """A generator for each thread, whose registers every row overwrites: to make one takes longer than a small draw.

    The four words of SFC64 are the first of its C struct; written there, they need no dictionary.
    """

    def __init__(self) -> None:
        self.bits = np.random.SFC64(0)
        address = self.bits.ctypes.state_address
        self.registers = np.ctypeslib.as_array((ctypes.c_uint64 * 4).from_address(address))
        if not np.array_equal(self.registers, self.bits.state["state"]["state"]):
            raise RuntimeError(f"NumPy {np.__version__} keeps the state of SFC64 elsewhere; please report this")


_scratch = _Scratch()


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
