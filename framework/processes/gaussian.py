"""The Gaussian process x_t = alpha(t) x_0 + sigma(t) z, with z standard noise in a space."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from framework.couplings import Coupling
from framework.noise import NoiseKey
from framework.schedules import Schedule
from framework.spaces import Space
from framework.state import Condition, State, combine


@dataclass(frozen=True)
class Gaussian:
    """A schedule in a space; times are float64, a number of dimension () or one a sample (B,).

    With a coupling, `corrupt` pairs the noise that it draws with the data that it meets.
    """

    schedule: Schedule
    space: Space
    coupling: Coupling | None = None

    def prior(self, t: Tensor, key: NoiseKey, condition: Condition) -> State:
        """The state at a time t where nothing of the data is left to matter: sigma(t) z."""
        return combine([(float(self.schedule.sigma(t)), self.space.noise(key, condition))])

    def corrupt(self, x_0: State, t: Tensor, key: NoiseKey, condition: Condition) -> tuple[State, State]:
        """(x_t, z) for clean x_0 at times t (B,)."""
        z = self.space.noise(key, condition)
        if self.coupling is not None:
            z = self.coupling(z, x_0, condition)  # type: ignore[arg-type]
        return combine([(self.schedule.alpha(t), x_0), (self.schedule.sigma(t), z)]), z
