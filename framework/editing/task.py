"""A run of the sampler before it starts, and what a task is: a function from one run to another.

`Model.sample` makes a run for each batch, from noise and with nothing else said, and hands it to each task in turn;
what comes out is sampled like any other. So every solver, grid and guidance serves every task.

A task holds states of its own (what is to be edited, what was seen). They have n rows, and sample i of a seed takes row
i modulo n: one row serves all samples, and a sample is the same in any batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from framework.denoiser import Denoiser
from framework.errors import UserError
from framework.ledger import Ledger
from framework.noise import NoiseKey
from framework.processes.process import Process
from framework.sampler import Hook, Loop, sample
from framework.solvers.plan import Solver
from framework.spaces import Space
from framework.state import Condition, State, batch_size, device_of, map_state


@dataclass(frozen=True)
class Run:
    """What is about to be sampled; a value, of which a task returns a changed copy.

    Attributes:
        denoiser: of the model alone for a task with `before_guidance`, guided for any other.
        solver: what walks the times.
        times: float64 (n + 1,), from noise to data.
        space: where states and noise live.
        process: what is undone.
        condition: TensorDict with batch_size [B].
        key: the source of all randomness of these samples.
        samples: the indices of these B samples.
        ledger: where the cost is entered.
        initial: the state at times[0]; None is the prior's draw.
        finish: what is done with the decoded samples, in order.
    """

    denoiser: Denoiser
    solver: Solver | Loop
    times: Tensor
    space: Space
    process: Process
    condition: Condition
    key: NoiseKey
    samples: tuple[int, ...]
    ledger: Ledger
    initial: State | None = None
    finish: tuple[Callable[[Any], Any], ...] = ()

    def start(self) -> State:
        """The state at times[0]."""
        if self.initial is not None:
            return self.initial
        return self.process.prior(self.times[0], self.key, self.condition)

    def draw(self, hooks: Sequence[Hook] = ()) -> State:
        """The samples."""
        return sample(
            self.denoiser,
            self.solver,
            self.times,
            self.space,
            self.condition,
            self.key,
            process=self.process,
            initial=self.initial,
            hooks=hooks,
            ledger=self.ledger,
        )

    def noised(self, clean: State) -> State:
        """Clean states of B rows, corrupted to times[0] with the noise of the prior's draw."""
        x, _ = self.process.corrupt(clean, self.times[0].expand(batch_size(clean)), self.key, self.condition)
        return self.space.project(x, self.condition)


class Task(Protocol):
    """The role. `before_guidance` says that the model's own denoiser is meant, before it is guided."""

    @property
    def before_guidance(self) -> bool: ...

    def __call__(self, run: Run) -> Run: ...


def rows_of(state: State, run: Run) -> State:
    """A task's rows for the samples of this run, on their device; see the module's docstring."""
    index = torch.tensor([i % batch_size(state) for i in run.samples], device=device_of(state))
    return state[index].to(device_of(run.condition))


def fitted(state: State, like: State) -> State:
    """States on a canvas as large as `like`'s: zeros (False) behind them along each axis, and the type of `like`.

    Raises:
        UserError: they are larger than the canvas, or another kind of state.
    """
    if isinstance(like, Tensor) != isinstance(state, Tensor) or (
        not isinstance(like, Tensor) and sorted(like.keys()) != sorted(state.keys())  # type: ignore[union-attr]
    ):
        raise UserError("what is given is not the kind of state that this model samples")
    return map_state(_fitted, like, state)


def _fitted(like: Tensor, part: Tensor) -> Tensor:
    have, want = tuple(part.shape[1:]), tuple(like.shape[1:])
    if len(have) != len(want) or any(a > b for a, b in zip(have, want, strict=False)):
        raise UserError(
            f"what is given has the shape {have} and the samples {want}: it must fit; give less, or sample more"
        )
    out = part.new_zeros((len(part), *want))
    out[(slice(None), *(slice(n) for n in have))] = part
    return out.to(like.dtype) if out.is_floating_point() and like.is_floating_point() else out
