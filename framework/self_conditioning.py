"""Self-conditioning: a network sees what it said last (Chen et al. 2022, "Analog Bits", 2208.04202).

A network that takes part has the attribute `self_conditioned = True` and reads condition["previous"], a clean
prediction of the state's structure; where the key is missing, or a row is all zero, nothing has been said yet.
"""

from __future__ import annotations

import torch
from tensordict import TensorDict
from torch import Tensor, nn

from framework.denoiser import Denoiser, Prediction
from framework.schedules import Schedule
from framework.state import Condition, State, batch_size, components, of_components

PREVIOUS = "previous"


def takes_part(network: nn.Module) -> bool:
    """Whether the network reads what it said last."""
    return bool(getattr(network, "self_conditioned", False))


def with_previous(condition: Condition, previous: State) -> Condition:
    """The condition with a clean prediction in it."""
    parts = {**{key: condition[key] for key in condition.keys()}, PREVIOUS: previous.detach()}  # noqa: SIM118
    return TensorDict(parts, batch_size=condition.batch_size)


class Remembering:
    """The model's own denoiser that is given its last prediction at each call: one object a run, inside guidance.

    Rows must be the same ones from call to call. Where their number changes, it begins anew.
    """

    def __init__(self, denoiser: Denoiser) -> None:
        self.denoiser = denoiser
        self._previous: State | None = None

    @property
    def schedule(self) -> Schedule:
        return self.denoiser.schedule

    def __call__(self, x_t: State, t: Tensor, condition: Condition) -> Prediction:
        if self._previous is not None and batch_size(self._previous) == batch_size(x_t):
            condition = with_previous(condition, self._previous)
        prediction = self.denoiser(x_t, t, condition)
        self._previous = prediction.clean
        return prediction

    def rows(self, index: Tensor) -> None:
        """Go on with these rows of the batch, which may repeat, for methods that branch or resample.

        Guidance may have put several batches in a row, of which each goes on alike.
        """
        if self._previous is None:
            return
        batches, rest = divmod(batch_size(self._previous), len(index))
        at = torch.cat([index + i * len(index) for i in range(max(batches, 1))])
        self._previous = None if rest or not batches else self._previous[at]


class RememberingEachRun(Remembering):
    """The same for many runs of the same rows, as fitting a grid takes: where time rises, another run begins."""

    def __init__(self, denoiser: Denoiser) -> None:
        super().__init__(denoiser)
        self._time = float("inf")

    def __call__(self, x_t: State, t: Tensor, condition: Condition) -> Prediction:
        time = float(t.detach().max())
        if time > self._time:
            self._previous = None
        self._time = time
        return super().__call__(x_t, t, condition)


def in_training(denoiser: Denoiser, x_t: State, t: Tensor, condition: Condition, rows: Tensor) -> Condition:
    """The condition with a first prediction, without gradients, in the rows (B,) that are True, and zeros elsewhere."""
    index = rows.nonzero()[:, 0]
    if len(index) == 0:
        return condition
    with torch.no_grad():
        said = denoiser(x_t[index], t[index], condition[index]).clean

    spread = {
        name: part.new_zeros((len(rows), *part.shape[1:])).index_copy(0, index, part)
        for name, part in components(said).items()
    }
    return with_previous(condition, of_components(spread))
