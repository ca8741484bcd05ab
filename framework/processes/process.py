"""What takes data to noise: the role that the Gaussian, the categorical and the product process fill."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from framework.noise import NoiseKey
from framework.state import Condition, State


class Process(Protocol):
    """x_0 at t = 0 is corrupted until nothing of it is left at t = 1; times are float64."""

    def prior(self, t: Tensor, key: NoiseKey, condition: Condition) -> State:
        """The state at a time t () where nothing of the data is left to matter, for each row of the condition."""
        ...

    def corrupt(self, x_0: State, t: Tensor, key: NoiseKey, condition: Condition) -> tuple[State, State]:
        """(x_t, what was done to x_0) at times t (B,): the noise z of a Gaussian process, say."""
        ...
