r"""The training loss: corrupt at a sampled time, predict, and measure the error in a stated space.

A network predicts y of its own parametrisation. At fixed x_t an error e in y is an error g e in the target of another
parametrisation, with g = d_other / d_own the ratio of their determinants. So one scalar a sample carries the error to
wherever the weighting is stated: "x_0-prediction with the loss in v space" (Li & He 2025, JiT) is parametrization=Data
with space=V, where g = 1 / sigma on a variance-preserving path. |g| is capped at `max_gain` (JiT caps 1 / sigma at 20).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from framework.denoiser import NetworkDenoiser
from framework.errors import UserError
from framework.noise import NoiseKey
from framework.objectives.distances import Distance
from framework.objectives.times import TimeSampler
from framework.objectives.weightings import Weighting
from framework.parametrizations import Parametrization
from framework.processes.gaussian import Gaussian
from framework.state import Condition, State, map_state, masked_sum

EARLIEST = 1e-5  # training never asks for t = 0, where some targets are 0 / 0


@dataclass(frozen=True)
class Terms:
    """Per-sample results of an objective.

    Attributes:
        loss: weighted, what is minimised (B,).
        error: the distance before weighting (B,).
        times: float64 (B,).
    """

    loss: Tensor
    error: Tensor
    times: Tensor


class Objective(nn.Module):
    """Time sampler, weighting, space of the error and distance, each an object of its own.

    Args:
        time_sampler: where to train.
        weighting: how errors count; it may have parameters of its own.
        distance: from squared sums to a number.
        space: the parametrisation in which the error is measured; None is the weighting's own, or else the network's.
        max_gain: the cap on the conversion of errors between parametrisations.

    Raises:
        UserError: both the weighting and `space` name a space, and not the same one.
    """

    def __init__(
        self,
        time_sampler: TimeSampler,
        weighting: Weighting,
        distance: Distance,
        space: Parametrization | None = None,
        max_gain: float = 20.0,
    ) -> None:
        super().__init__()
        if space is not None and weighting.space is not None and weighting.space != space:
            raise UserError(f"{type(weighting).__name__} weighs errors in {weighting.space}, not in space={space}")
        self.time_sampler, self.weighting, self.distance = time_sampler, weighting, distance
        self.space = weighting.space if space is None else space
        self.max_gain = max_gain

    def forward(
        self,
        denoiser: NetworkDenoiser,
        x_0: State,
        condition: Condition,
        key: NoiseKey,
        uniforms: Tensor | None = None,
    ) -> Terms:
        """Per-sample loss of a batch; `uniforms` float64 (B,) fix the quantiles of time, else the key draws them."""
        schedule = denoiser.schedule
        if uniforms is None:
            drawn = key.component("time").uniform((), torch.zeros((), dtype=torch.float64))
            t = self.time_sampler(drawn, schedule)
        else:
            t = self.time_sampler.quantile(uniforms, schedule)
        t = t.clamp(EARLIEST, 1.0)
        x_t, z = Gaussian(schedule, denoiser.space).corrupt(x_0, t, key.component("noise"), condition)
        alpha, sigma = schedule.alpha_sigma(t)
        own = denoiser.parametrization
        clean, noise, condition = self.lesson(denoiser, x_t, t, x_0, z, condition, key)
        target = own.target(clean, noise, alpha, sigma)
        squared = _squared_error(denoiser.raw(x_t, t, condition), target)
        squared = converted(squared, own, self.space, alpha, sigma, self.max_gain)
        error = self.distance(squared, denoiser.space.degrees_of_freedom(condition).to(squared))
        return Terms(self.weighting(error, schedule.log_snr(t)), error, t)

    def lesson(
        self,
        denoiser: NetworkDenoiser,
        x_t: State,
        t: Tensor,
        x_0: State,
        z: State,
        condition: Condition,
        key: NoiseKey,
    ) -> tuple[State, State, Condition]:
        """What clean state and noise the network shall find in x_t, and under which condition: here the truth."""
        return x_0, z, condition


def converted(
    squared: Tensor, own: Parametrization, space: Parametrization | None, alpha: Tensor, sigma: Tensor, max_gain: float
) -> Tensor:
    """Squared errors (B,) of one parametrisation's target as those of another's, `space`; None leaves them."""
    if space is None or space == own:
        return squared
    gain = space.determinant(alpha, sigma) / own.determinant(alpha, sigma)
    return squared * gain.clamp(-max_gain, max_gain).square().to(squared)


def _squared_error(prediction: State, target: State) -> Tensor:
    """The squared error summed over each sample's elements and components, float32 (B,)."""
    squares = map_state(lambda p, y: (p.float() - y.float()).square(), prediction, target)
    if isinstance(squares, Tensor):
        return masked_sum(squares)[0]
    parts = [masked_sum(squares[name])[0] for name in squares.keys(include_nested=True, leaves_only=True)]
    return torch.stack(parts).sum(0)
