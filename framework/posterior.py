"""What an encoder says of a batch: the states' mean, how uncertain it is of each element, and the condition.

    x_0 = mean + deviation * z,     z standard normal and keyed

Without a deviation the encoder is certain, and so it is taken to be where no key is given: x_0 is the mean then.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from framework.noise import NoiseKey
from framework.state import Condition, State


class Posterior(NamedTuple):
    """See the module's docstring; `deviation` has the shape of a `mean` that is a tensor, zero at padding."""

    mean: State
    deviation: Tensor | None
    condition: Condition

    def draw(self, key: NoiseKey | None) -> State:
        """States of the posterior; without a key its mean."""
        if key is None or self.deviation is None:
            return self.mean
        assert isinstance(self.mean, Tensor)
        return self.mean + self.deviation * key.normal(self.mean.shape[1:], self.mean)
