r"""One Brownian path a sample, so that a stochastic solver with more steps refines the same trajectory.

At eta = 1 the reverse SDE has a clock in which its noise is a Brownian motion's own. In y = x / alpha and u = sigma /
alpha its exact step with a constant clean mean is (framework/solvers/sde_dpmpp.py, divided by alpha)

    y_s = (w^2 / u^2) y_t + (1 - w^2 / u^2) D + w sqrt(1 - w^2 / u^2) z.

Divide by w^2, and write omega = y / u^2 = alpha x / sigma^2 and the clock snr = alpha^2 / sigma^2 = 1 / u^2:

    omega_s = omega_t + int D d snr + B(snr_s) - B(snr_t),     z = [B(snr_s) - B(snr_t)] / sqrt(snr_s - snr_t),

for any step, and any D inside it: B is one path, whatever the grid, the schedule and the solver. With other amounts of
noise the solvers' z are the same increments, and two grids still share their path in the limit.

B is a virtual tree (as in torchsde's BrownianTree, but keyed, with no seeds to hand down). The clock's octaves
[2^o, 2^{o+1}] each have a dyadic grid of 2^depth cells and the Haar functions on it, H_n, with independent normals Z_n
from the key of (seed, sample, component, octave, n). Levy's construction B(q) - B(p) = sum_n Z_n int_p^q H_n needs the
roots of the octaves that are met and, below them, only nodes that hold p or q inside: about two a level. For p and q
on the grid the sum is finite and, by Parseval, its variance is q - p and increments over disjoint intervals are
independent, exactly. Ratios are therefore moved to the nearest point of the grid, at most 2^-(depth + 1) of an octave.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from framework.noise import SampleKey

LOWEST, HIGHEST = -64, 64  # octaves of the signal-to-noise ratio; what lies below 2^LOWEST is moved to 0


@dataclass(frozen=True)
class BrownianKey:
    """A `SampleKey` whose noise along a path of the sampler is the normalised increment of a Brownian motion.

    Where there is no path, where it has no length on the grid, or where it ends without noise (a ratio that is
    infinite), the noise is the step's own, as `key` alone would draw it.

    Args:
        key: what seeds, samples, step and component are; its step is used where there is no path.
        depth: each octave of the signal-to-noise ratio has 2^depth cells, below which two grids see the same times.
        path: the two signal-to-noise ratios, increasing, between which the next draw is the increment.
    """

    key: SampleKey
    depth: int = 10
    path: tuple[float, float] | None = None

    def at(self, step: int) -> BrownianKey:
        return replace(self, key=self.key.at(step), path=None)

    def along(self, step: int, path: tuple[float, float] | None) -> BrownianKey:
        return replace(self, key=self.key.at(step), path=path)

    def component(self, name: str) -> BrownianKey:
        return replace(self, key=self.key.component(name))

    def rows(self, first: int, last: int) -> BrownianKey:
        """The key of rows first:last of the batch."""
        return replace(self, key=self.key.rows(first, last))

    def normal(self, shape: Sequence[int], like: Tensor) -> Tensor:
        start, end = self._snapped()
        if not start < end:
            return self.key.normal(shape, like)
        tree = self.key.component("brownian")
        exact = torch.zeros((), dtype=torch.float64)
        total = torch.zeros(len(self.key.samples), *shape, dtype=torch.float64)
        for node, weight in haar(start, end, self.depth):
            total.add_(tree.at(node).normal(shape, exact), alpha=weight)
        return (total / math.sqrt(end - start)).to(device=like.device, dtype=like.dtype)

    def uniform(self, shape: Sequence[int], like: Tensor) -> Tensor:
        return self.key.uniform(shape, like)

    def _snapped(self) -> tuple[float, float]:
        """The path's ends on the grid; (0, 0) where there is none."""
        if self.path is None or not self.path[1] < 2.0**HIGHEST:
            return 0.0, 0.0
        return snap(self.path[0], self.depth), snap(self.path[1], self.depth)


def snap(snr: float, depth: int) -> float:
    """The grid's nearest point, a float64 exactly: 0, or 2^o (1 + j / 2^depth)."""
    if snr < 2.0**LOWEST:
        return 0.0
    mantissa, exponent = math.frexp(snr)
    return math.ldexp(round(mantissa * 2 ** (depth + 1)), exponent - depth - 1)


def haar(start: float, end: float, depth: int) -> Iterator[tuple[int, float]]:
    """(number of a node, integral of its Haar function over [start, end]) for the nodes where that is not zero.

    The nodes of octave o are numbered from (o - LOWEST + 1) 2^depth: its root, which is constant, then the functions
    of mean zero in the order of a heap. Number 0 is the root of what lies below all octaves.
    """
    if start == 0.0:
        yield 0, 2.0 ** (LOWEST / 2)
    first = max(math.frexp(start)[1] - 1, LOWEST) if start > 0 else LOWEST
    for octave in range(first, math.frexp(end)[1]):
        a, b = 2.0**octave, 2.0 ** (octave + 1)
        p, q = max(a, start), min(b, end)
        if p < q:
            base = (octave - LOWEST + 1) << depth
            yield base, (q - p) / math.sqrt(b - a)
            for number, weight in _inside(a, b, p, q, 1):
                yield base + number, weight


def _inside(a: float, b: float, p: float, q: float, number: int) -> Iterator[tuple[int, float]]:
    """The nodes under [a, b] for [p, q] inside it; a function whose support is covered integrates to zero."""
    if p == a and q == b:
        return
    middle = (a + b) / 2
    left, right = max(0.0, min(q, middle) - p), max(0.0, q - max(p, middle))
    if left != right:
        yield number, (left - right) / math.sqrt(b - a)
    if left > 0:
        yield from _inside(a, middle, p, min(q, middle), 2 * number)
    if right > 0:
        yield from _inside(middle, b, max(p, middle), q, 2 * number + 1)
