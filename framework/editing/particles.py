"""Groups of particles: k rows of a batch to each sample, with noise of their own, weighed by a score and drawn anew.

Rows are in blocks: particle p of sample i is row p B + i, and particle 0 has the noise of plain sampling.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from framework.denoiser import Prediction
from framework.errors import UserError
from framework.noise import NoiseKey
from framework.sampler import Hook, Progress
from framework.state import Condition, State, batch_size

Score = Callable[[State, Condition], Any]  # (clean states of n rows, condition) to n numbers, more is better


@dataclass(frozen=True)
class ParticleKey:
    """The key of `particles` particles to each row of another key, in blocks; particle 0 has the key itself."""

    key: NoiseKey
    particles: int
    of_particle: tuple[NoiseKey, ...] = ()

    def __post_init__(self) -> None:
        if not self.of_particle:
            others = (self.key.component(f"particle {p}") for p in range(1, self.particles))
            object.__setattr__(self, "of_particle", (self.key, *others))

    def at(self, step: int) -> ParticleKey:
        return replace(self, of_particle=tuple(key.at(step) for key in self.of_particle))

    def along(self, step: int, path: tuple[float, float] | None) -> ParticleKey:
        return replace(self, of_particle=tuple(key.along(step, path) for key in self.of_particle))

    def component(self, name: str) -> ParticleKey:
        return replace(self, of_particle=tuple(key.component(name) for key in self.of_particle))

    def normal(self, shape: Sequence[int], like: Tensor) -> Tensor:
        return torch.cat([key.normal(shape, like) for key in self.of_particle])

    def uniform(self, shape: Sequence[int], like: Tensor) -> Tensor:
        return torch.cat([key.uniform(shape, like) for key in self.of_particle])


class Group:
    """The scores of each sample's particles so far, and what follows from them; rows are in blocks of B."""

    def __init__(
        self, score: Score, temperature: float, key: NoiseKey, particles: int, samples: int, device: torch.device
    ) -> None:
        self.score, self.temperature, self.particles, self.samples = score, temperature, particles, samples
        self.key = key.component("steering")
        self.said = torch.zeros(samples, particles, dtype=torch.float64, device=device)

    def resampled(self, clean: State, condition: Condition, step: int) -> Tensor:
        """The rows (k B,) that go on, after the score was asked."""
        weights, self.said = self._weighed(self.scores(clean, condition))
        ancestors = systematic(weights, self._uniform(step))
        self.said = self.said.gather(1, ancestors)
        return self._row(ancestors).T.flatten()

    def best(self, scores: Tensor) -> Tensor:
        """The row of the highest score (B, k) of each sample: (B,)."""
        return self._row(scores.argmax(1, keepdim=True))[:, 0]

    def drawn(self, scores: Tensor, step: int) -> Tensor:
        """A row of each sample, drawn by the last weights: (B,)."""
        return self._row(_inverse(self._weighed(scores)[0], self._uniform(step)))[:, 0]

    def shown(self, hook: Hook) -> Hook:
        """The hook, shown the particles that lead."""

        def show(progress: Progress) -> None:
            rows = self.best(self.said)
            hook(replace(progress, x=progress.x[rows], prediction=rows_of(progress.prediction, rows)))

        return show

    def scores(self, clean: State, condition: Condition) -> Tensor:
        """What the score says of k B rows: float64 (B, k), -inf for NaN."""
        found = torch.as_tensor(self.score(clean, condition), dtype=torch.float64).to(self.said.device)
        if tuple(found.shape) != (batch_size(clean),):
            raise UserError(
                f"a score is one number a sample, here {batch_size(clean)}, and this one gave {_said(found)}"
            )
        found = torch.where(found.isnan(), -torch.inf, found)
        if bool((found == torch.inf).any()):
            raise UserError("a score may be -inf, for never, but not +inf: nothing could be weighed against it")
        return found.reshape(self.particles, self.samples).T

    def _weighed(self, scores: Tensor) -> tuple[Tensor, Tensor]:
        """Weights (B, k) that sum to one, and what was last said; a group of -inf alone keeps what was."""
        nothing = (scores == -torch.inf).all(1, keepdim=True)
        said = torch.where(nothing, self.said, scores)
        return ((said - self.said) / self.temperature).softmax(1), said

    def _uniform(self, step: int) -> Tensor:
        """(B, 1) in [0, 1)."""
        return self.key.at(step).uniform((1,), self.said)

    def _row(self, particles: Tensor) -> Tensor:
        """Particles (B, n) of each sample as rows of the batch."""
        return particles * self.samples + torch.arange(self.samples, device=particles.device)[:, None]


def systematic(weights: Tensor, u: Tensor) -> Tensor:
    """Systematic resampling: which of k particles each of k takes after, int64 (B, k), for weights (B, k), u (B, 1).

    Particle p has floor(k w_p) or one more successors, k w_p in the mean (Carpenter, Clifford & Fearnhead 1999).
    """
    k = weights.shape[1]
    return _inverse(weights, (u + torch.arange(k, dtype=u.dtype, device=u.device)) / k)


def _inverse(weights: Tensor, u: Tensor) -> Tensor:
    """The inverse distribution function of weights (B, k) at u (B, n)."""
    total = weights.cumsum(1)
    return torch.searchsorted(total / total[:, -1:], u, right=True).clamp(max=weights.shape[1] - 1)


def rows_of(prediction: Prediction, rows: Tensor) -> Prediction:
    """These rows of a prediction, which may repeat."""
    alpha, sigma = (c[rows] if isinstance(c, Tensor) and c.ndim else c for c in (prediction.alpha, prediction.sigma))
    return Prediction(prediction.clean[rows], prediction.x_t[rows], alpha, sigma, prediction.tokens)


def _said(found: Tensor) -> str:
    return "one number" if found.ndim == 0 else f"the shape {tuple(found.shape)}"
