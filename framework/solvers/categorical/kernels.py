r"""A categorical solver is a kernel: given the state, each position has a law of its own for the next time.

    x_s^i ~ K^i(. | x_t, p, t, s),        p = p(x_0 | x_t), the denoiser's probabilities, one i for each position,

drawn by the inverse distribution function at one keyed uniform for each position and step, so that solvers given one
seed share their random numbers. A kernel is a law and not a draw: its exact law over all sequences can be computed
(framework/certify/chains.py), and a product of states can be split (framework/solvers/splitting.py).

Positions that change within one step do so independently, though in truth they depend on each other. The chance that
two of n positions change within one step of length h is O(h^2), and there are 1 / h steps: the order is one. A solver
that reveals one position a step is exact, however long its steps; that is written as order `math.inf`.

A kernel may remember: what it learned on the way is an explicit tensor with B rows, and the solver holds nothing.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor

from framework.categories import draw
from framework.denoiser import Denoiser
from framework.errors import UserError
from framework.noise import NoiseKey
from framework.processes.categorical import Categorical
from framework.processes.process import Process
from framework.sampler import Hook, Progress
from framework.solvers.plan import Stage
from framework.state import Condition, State, batch_size


@dataclass(frozen=True)
class Step:
    """What a kernel is told of one step from t to s, all of it packed (framework/categories.py).

    Attributes:
        process: the process that is undone.
        x: int64 (B, M), the tokens at t.
        probabilities: float64 (B, M, K), p(x_0 | x_t).
        valid: bool (B, M); what is not valid does not move, whatever the kernel says of it.
        t, s: times, t > s.
        memory: (B, ...), what the kernel remembers.
    """

    process: Categorical
    x: Tensor
    probabilities: Tensor
    valid: Tensor
    t: float
    s: float
    memory: Tensor

    @property
    def alpha_t(self) -> float:
        return self._alpha(self.t)

    @property
    def alpha_s(self) -> float:
        return self._alpha(self.s)

    @property
    def masked(self) -> Tensor:
        """Which valid positions hold the mask: bool (B, M); none if the process has no mask."""
        token = self.process.mask_token
        return torch.zeros_like(self.valid) if token is None else self.valid & (self.x == token)

    def one_hot(self, tokens: Tensor) -> Tensor:
        """Certainty of the tokens: float64 (B, M, S)."""
        return torch.nn.functional.one_hot(tokens, self.process.states).double()

    @property
    def clean(self) -> Tensor:
        """The probabilities over all states, (B, M, S): none for the mask."""
        return torch.nn.functional.pad(self.probabilities, (0, self.process.states - self.process.space.classes))

    def _alpha(self, t: float) -> float:
        return float(self.process.schedule.alpha(torch.tensor(t, dtype=torch.float64)))


class KernelSolver(ABC):
    """A Loop made of kernels (see the module's docstring); a subclass declares its order and writes `transition`."""

    evaluations_per_step: ClassVar[int] = 1
    stochastic: ClassVar[bool] = True

    @property
    @abstractmethod
    def order(self) -> float:
        """The order at which the law of several positions converges; `math.inf` is exact."""

    @abstractmethod
    def transition(self, step: Step) -> Tensor:
        """The law of each position at s: float64 (B, M, S), rows summing to one."""

    def start(self, process: Categorical, x: Tensor) -> Tensor:
        """The memory before the first step from packed tokens x (B, M): (B, ...).

        Raises:
            UserError: the solver has no meaning on this process.
        """
        return x.new_zeros((len(x), 0), dtype=torch.float64)

    def remember(self, step: Step, x_s: Tensor) -> Tensor:
        """The memory after x_s (B, M) was drawn."""
        return step.memory

    def run(
        self,
        denoiser: Denoiser,
        process: Process,
        times: Tensor,
        x: State,
        condition: Condition,
        key: NoiseKey,
        hooks: Sequence[Hook],
    ) -> State:
        if not isinstance(process, Categorical):
            raise UserError(
                f"{type(self).__name__} undoes a Categorical process and was given a {type(process).__name__}; pass "
                "process=Categorical(...), or put both in a Product and use Splitting"
            )
        walk = KernelExecution(self, process, x, condition, key)
        steps = list(pairwise(times.tolist()))
        for index, (t, s) in enumerate(steps):
            rows = torch.full((batch_size(x),), t, dtype=torch.float64)
            prediction = denoiser(x, rows, condition)
            x = walk.advance(index, t, s, x, prediction.clean)
            for hook in hooks:
                hook(Progress(index, len(steps), Stage(index, t, s, ()), x, prediction))
        return x


class KernelExecution:
    """A kernel solver under way: its memory, and the way between arrays and packed tokens."""

    def __init__(
        self, solver: KernelSolver, process: Categorical, x: State, condition: Condition, key: NoiseKey
    ) -> None:
        self.solver, self.process, self.condition, self.key = solver, process, condition, key
        self.layout = process.space.layout
        self.valid = self.layout.valid(condition)
        self.memory = solver.start(process, self.layout.pack(_tokens(x)))

    def step(self, t: float, s: float, x: State, probabilities: State) -> Step:
        """What the kernel is told, for tokens (B, *positions) and probabilities (B, *positions, K)."""
        packed = self.layout.pack(_tokens(probabilities)).double()
        return Step(self.process, self.layout.pack(_tokens(x)), packed, self.valid, t, s, self.memory)

    def advance(self, index: int, t: float, s: float, x: State, probabilities: State) -> Tensor:
        """The tokens at s; `index` is the step's place on the grid."""
        step = self.step(t, s, x, probabilities)
        uniforms = self.process.space.uniform(self.key.at(index + 1), self.condition)
        drawn = torch.where(self.valid, draw(self.solver.transition(step), uniforms), step.x)
        self.memory = self.solver.remember(step, drawn)
        return self.layout.unpack(drawn, self.condition)


def _tokens(x: State) -> Tensor:
    if not isinstance(x, Tensor):
        raise UserError("a categorical solver walks one tensor of tokens; use Splitting for named components")
    return x


def mask_token(process: Categorical, solver: object) -> int:
    """The mask's token, for solvers that unmask.

    Raises:
        UserError: the process has no mask.
    """
    token = process.mask_token
    if token is None:
        raise UserError(
            f"{type(solver).__name__} unmasks tokens and this process has no mask; use Categorical(..., "
            "stationary=Mask()), or Ancestral or TauLeaping, which undo any categorical process"
        )
    return token
