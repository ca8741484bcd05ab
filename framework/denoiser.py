"""The one thing that solvers see: (x_t, t, condition) -> Prediction, the mean of the data given the noisy state.

Whatever a network was trained to predict, a Denoiser returns the clean mean D = E[x_0 | x_t]; noise, velocity and score
follow from it and x_t. Guidance takes a Denoiser and returns one, and so does everything else that changes a prediction
(thresholding, a change of schedule), so that they compose in any order a person writes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor, nn

from framework.errors import UserError
from framework.ledger import Ledger
from framework.parametrizations import Parametrization
from framework.schedules import Schedule, angle
from framework.spaces import Space
from framework.state import Coefficient, Condition, State, batch_size, combine, device_of


@dataclass(frozen=True)
class Prediction:
    """The clean mean at one noise level, with what is needed to say it in other words.

    `alpha` and `sigma` are float64 (B,) or numbers, at the time of `x_t`. `tokens` names the components that hold the
    probabilities of tokens, the last axis the classes; a state that is all tokens has the name "".
    """

    clean: State
    x_t: State
    alpha: Coefficient
    sigma: Coefficient
    tokens: tuple[str, ...] = ()

    @property
    def noise(self) -> State:
        """z = (x_t - alpha x_0) / sigma; not defined at sigma = 0."""
        return combine([(1 / self.sigma, self.x_t), (-self.alpha / self.sigma, self.clean)])

    @property
    def velocity(self) -> State:
        """v = alpha z - sigma x_0."""
        ratio = self.alpha / self.sigma
        return combine([(ratio, self.x_t), (-(self.alpha * ratio + self.sigma), self.clean)])

    @property
    def score(self) -> State:
        """The gradient of log p_t at x_t: (alpha x_0 - x_t) / sigma^2 (Tweedie's formula)."""
        return combine([(self.alpha / self.sigma**2, self.clean), (-1 / self.sigma**2, self.x_t)])

    def with_clean(self, clean: State) -> Prediction:
        """The same noise level and state with another clean mean."""
        return replace(self, clean=clean)


class Denoiser(Protocol):
    """The role: `schedule` is the one that its times refer to; `t` is float64 (B,)."""

    @property
    def schedule(self) -> Schedule: ...

    def __call__(self, x_t: State, t: Tensor, condition: Condition) -> Prediction: ...


KEPT = 4096  # times whose numbers a denoiser keeps
NoiseLevel = Callable[[Schedule, Tensor], Tensor]


@dataclass(frozen=True)
class Angle:
    """scale * (2 / pi) atan(sigma / alpha): 0 for data, `scale` for pure noise, finite on every schedule."""

    scale: float = 1000.0

    def __call__(self, schedule: Schedule, t: Tensor) -> Tensor:
        return self.scale * (2 / torch.pi) * angle(schedule, t)


@dataclass(frozen=True)
class TableIndex:
    """The index k - 1 of time t = k / T in a table of T betas: what checkpoints with integer timesteps were given."""

    timesteps: int = 1000

    def __call__(self, schedule: Schedule, t: Tensor) -> Tensor:
        return self.timesteps * t - 1


@dataclass(frozen=True)
class LogSigma:
    """scale * log(sigma / alpha), EDM's c_noise with scale 1/4; infinite at both ends of some schedules."""

    scale: float = 0.25

    def __call__(self, schedule: Schedule, t: Tensor) -> Tensor:
        return -0.5 * self.scale * schedule.log_snr(t)


class NetworkDenoiser:
    """A network with its schedule and parametrisation as a Denoiser.

    The network maps (c_in x_t, noise level (B,) float32, condition) to a state. Each call is entered into the ledger,
    if there is one, with the number of samples that it evaluated.

    Raises:
        UserError: the network predicts noise on a schedule that ends without any data (alpha = 0), where the clean
            mean cannot be recovered from it.
    """

    def __init__(
        self,
        network: nn.Module,
        schedule: Schedule,
        parametrization: Parametrization,
        space: Space,
        noise_level: NoiseLevel,
        ledger: Ledger | None = None,
    ) -> None:
        check_terminal(schedule, parametrization)
        self.network, self.schedule, self.parametrization = network, schedule, parametrization
        self.space, self.noise_level, self.ledger = space, noise_level, ledger
        self._kept: dict[float, _Numbers] = {}

    def raw(self, x_t: State, t: Tensor, condition: Condition) -> State:
        """The network's own output at x_t, projected onto the space: a prediction of the parametrisation's target."""
        return self._raw(x_t, t, self.schedule.alpha(t), self.schedule.sigma(t), condition)

    def _raw(self, x_t: State, t: Tensor, alpha: Tensor, sigma: Tensor, condition: Condition) -> State:
        scale = self.parametrization.input_scale(alpha, sigma)
        return self._network(x_t, scale, self.noise_level(self.schedule, t), condition)

    def _network(self, x_t: State, scale: Coefficient, level: Tensor, condition: Condition) -> State:
        level = level.to(device=device_of(x_t), dtype=torch.float32).expand(batch_size(x_t))
        return self.space.project(self.network(combine([(scale, x_t)]), level, condition), condition)

    def __call__(self, x_t: State, t: Tensor, condition: Condition) -> Prediction:
        t = shared(t)
        if self.ledger is not None:
            self.ledger.count_forward(batch_size(x_t))
        if t.ndim == 0 and t.device.type == "cpu" and not t.requires_grad:
            at = self._numbers_at(t)
            y = self._network(x_t, at.scale, at.level, condition)
            return Prediction(combine([(at.weights[0], x_t), (at.weights[1], y)]), x_t, at.alpha, at.sigma)
        alpha, sigma = self.schedule.alpha_sigma(t)
        y = self._raw(x_t, t, alpha, sigma, condition)
        return Prediction(self.parametrization.clean(x_t, y, alpha, sigma), x_t, alpha, sigma)

    def _numbers_at(self, t: Tensor) -> _Numbers:
        """All that depends on the time alone, kept: a sampler asks for few times, and for each of them again."""
        time = t.item()
        found = self._kept.get(time)
        if found is None:
            alpha, sigma = self.schedule.alpha_sigma(t)
            scale = self.parametrization.input_scale(alpha, sigma).item()
            a, b = self.parametrization.clean_weights(alpha, sigma)
            level = self.noise_level(self.schedule, t).to(torch.float32)
            found = _Numbers(alpha, sigma, scale, level, (a.item(), b.item()))
            if len(self._kept) >= KEPT:
                self._kept.clear()
            self._kept[time] = found
        return found


@dataclass(frozen=True)
class _Numbers:
    """A time's alpha and sigma, the scale of the network's input, its noise level, and the clean mean's weights."""

    alpha: Tensor
    sigma: Tensor
    scale: float
    level: Tensor
    weights: tuple[float, float]


def shared(t: Tensor) -> Tensor:
    """Times (B,) that are one number expanded, as a sampler gives them, as that number (); else unchanged."""
    return t[0] if t.ndim == 1 and len(t) > 0 and t.stride(0) == 0 else t


def check_terminal(schedule: Schedule, parametrization: Parametrization) -> None:
    """Refuse a target that cannot recover the data from pure noise.

    Raises:
        UserError: alpha(1) = 0 and the parametrisation's determinant is zero there (epsilon, score).
    """
    end = torch.ones((), dtype=torch.float64)
    if not schedule.zero_terminal_snr:
        return
    if bool(parametrization.determinant(schedule.alpha(end), schedule.sigma(end)) == 0):
        name, path = type(parametrization).__name__, type(schedule).__name__
        raise UserError(
            f"{name} prediction does not say what the data is at t = 1 of the {path} schedule, where alpha = 0; "
            "choose V, Flow, Data or Karras, or a schedule that keeps some signal (LinearVP)"
        )


class Rescheduled:
    """A denoiser of one schedule, used on the times of another.

    A state at signal-to-noise ratio r on any schedule is, up to its scale, a state at r on every other: x' = x sigma' /
    sigma.
    """

    def __init__(self, denoiser: Denoiser, schedule: Schedule) -> None:
        self.denoiser, self.schedule = denoiser, schedule

    def __call__(self, x_t: State, t: Tensor, condition: Condition) -> Prediction:
        inner = self.denoiser.schedule
        alpha, sigma = self.schedule.alpha_sigma(t)
        time = inner.time(self.schedule.log_snr(t)).clamp(0.0, 1.0)
        scale = torch.where(sigma > 0, inner.sigma(time) / sigma, inner.alpha(time) / alpha)
        prediction = self.denoiser(combine([(scale, x_t)]), time, condition)
        return Prediction(prediction.clean, x_t, alpha, sigma)
