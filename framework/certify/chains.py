r"""An analytic bed for categorical solvers: short Markov chains, of which every probability can be written down.

Data is a sequence x_0 of L positions with law P(x_0) = first(x_0^1) prod_i step(x_0^i | x_0^{i-1}). All K^L sequences
are enumerated, so that for any categorical process the denoiser is exact:

    p(x_0^i = k | x_t) proportional to sum_{x_0 : x_0^i = k} P(x_0) prod_j q(x_t^j | x_0^j).

A kernel solver's law is exact as well. Given x_t its positions are independent, so that the law over all sequences is
carried from time to time by

    law_s(y) = sum_x law_t(x) prod_i K^i(y^i | x),

which has no Monte-Carlo error: the total variation between the last law and P is the solver's own error, and falls with
its order. What the kernel remembers is a part of the state.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import torch
from torch import Tensor

from framework.categories import Array, Categories
from framework.denoiser import Denoiser, Prediction
from framework.ledger import Ledger
from framework.processes.categorical import Categorical, Mask, Stationary
from framework.schedules import Flow, Schedule
from framework.solvers.categorical.kernels import KernelSolver, Step
from framework.state import Condition


def sequences(states: int, positions: int) -> Tensor:
    """All sequences: int64 (states ** positions, positions), in lexicographic order."""
    return torch.cartesian_prod(*[torch.arange(states)] * positions).reshape(-1, positions)


def index_of(x: Tensor, states: int) -> Tensor:
    """The row of `sequences` in which each row of x (B, L) stands: int64 (B,)."""
    powers = states ** torch.arange(x.shape[1] - 1, -1, -1)
    return (x * powers).sum(1)


def total_variation(a: Tensor, b: Tensor) -> float:
    """Half the sum of |a - b|: the largest difference between the probabilities of an event."""
    return float((a - b).abs().sum()) / 2


@dataclass(frozen=True)
class Chain:
    """`positions` states of a Markov chain: `first` (K,) and `step` (K, K), whose rows are laws of the next state."""

    first: Sequence[float]
    step: Sequence[Sequence[float]]
    positions: int

    @property
    def classes(self) -> int:
        return len(self.first)

    @property
    def space(self) -> Categories:
        return Categories(self.classes, Array((self.positions,)))

    @cached_property
    def law(self) -> Tensor:
        """P over all sequences: float64 (K ** L,)."""
        x = sequences(self.classes, self.positions)
        first, step = (torch.tensor(v, dtype=torch.float64) for v in (self.first, self.step))
        law = first[x[:, 0]]
        for here, there in pairwise(range(self.positions)):
            law = law * step[x[:, here], x[:, there]]
        return law

    def process(self, stationary: Stationary | None = None, schedule: Schedule | None = None) -> Categorical:
        """A categorical process of these tokens; by default masks on alpha = 1 - t."""
        return Categorical(schedule or Flow(), self.space, stationary or Mask())

    def law_at(self, process: Categorical, t: float) -> Tensor:
        """The law of x_t over all sequences of states: float64 (S ** L,)."""
        x = sequences(process.states, self.positions)
        return (self._joint(process, x, torch.tensor(t, dtype=torch.float64))).sum(1)

    def posterior(self, process: Categorical, x: Tensor, t: Tensor) -> Tensor:
        """p(x_0^i | x_t = x) for x (B, L) at times t (B,): float64 (B, L, K)."""
        weights = self._joint(process, x, t)
        weights = weights / weights.sum(1, keepdim=True)
        clean = torch.nn.functional.one_hot(sequences(self.classes, self.positions), self.classes).double()
        return torch.einsum("bn,nlk->blk", weights, clean)

    def _joint(self, process: Categorical, x: Tensor, t: Tensor) -> Tensor:
        """P(x_0) prod_j q(x^j | x_0^j) for each row of x and each x_0: (B, K ** L)."""
        likelihood = process.likelihood(x, t)
        clean = sequences(self.classes, self.positions)
        places = torch.arange(self.positions)
        return self.law * likelihood[:, places, clean].prod(-1)


CHAIN_2 = Chain(first=(0.6, 0.4), step=((0.8, 0.2), (0.3, 0.7)), positions=3)
CHAIN_3 = Chain(first=(0.5, 0.3, 0.2), step=((0.7, 0.2, 0.1), (0.1, 0.6, 0.3), (0.35, 0.05, 0.6)), positions=2)


@dataclass
class ChainDenoiser:
    """The exact denoiser of a chain under a process; conditions are ignored."""

    chain: Chain
    process: Categorical
    ledger: Ledger | None = None

    @property
    def schedule(self) -> Schedule:
        return self.process.schedule

    def __call__(self, x_t: Tensor, t: Tensor, condition: Condition) -> Prediction:  # type: ignore[override]
        if self.ledger is not None:
            self.ledger.count_forward(len(x_t))
        return Prediction(
            self.chain.posterior(self.process, x_t, t), x_t, self.schedule.alpha(t), self.schedule.sigma(t)
        )


def propagate(
    solver: KernelSolver,
    denoiser: Denoiser,
    process: Categorical,
    condition: Condition,
    law: Tensor,
    times: Sequence[float] | Tensor,
) -> Tensor:
    """The exact law at times[-1] of a solver that starts from `law` at times[0]; both float64 (S ** L,).

    The condition has one row, which holds for all; its layout must leave all positions free.
    """
    valid = process.space.layout.valid(condition)
    every = sequences(process.states, valid.shape[1])
    keep = law > 0
    x, weights = every[keep], law[keep]
    memory = solver.start(process, x)
    for t, s in pairwise(torch.as_tensor(times, dtype=torch.float64).tolist()):
        rows = condition.expand(len(x))
        p = denoiser(process.space.layout.unpack(x, rows), torch.full((len(x),), t, dtype=torch.float64), rows).clean
        packed = process.space.layout.pack(p)  # type: ignore[arg-type]
        step = Step(process, x, packed, valid.expand(len(x), -1), t, s, memory)
        x, weights, memory = _branch(solver, step, weights, every)
    return torch.zeros(len(every), dtype=torch.float64).index_add_(0, index_of(x, process.states), weights)


def _branch(solver: KernelSolver, step: Step, weights: Tensor, every: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Each state to every next one, and those that are the same in all that counts made one."""
    places = torch.arange(every.shape[1])
    joint = weights.unsqueeze(1) * solver.transition(step)[:, places, every].prod(-1)  # (B, S ** L)
    source, target = (joint > 0).nonzero(as_tuple=True)
    after = every[target]
    origin = Step(
        step.process,
        step.x[source],
        step.probabilities[source],
        step.valid[source],
        step.t,
        step.s,
        step.memory[source],
    )
    memory = solver.remember(origin, after)
    both = torch.cat(
        [after.double(), memory.reshape(len(after), -1).round(decimals=9)], dim=1
    )  # or rounding splits them
    states, where = both.unique(dim=0, return_inverse=True)
    merged = torch.zeros(len(states), dtype=torch.float64).index_add_(0, where, joint[source, target])
    tokens, remembered = states[:, : every.shape[1]], states[:, every.shape[1] :]
    return tokens.long(), merged, remembered.reshape(len(states), *memory.shape[1:])


def prior_law(process: Categorical, positions: int) -> Tensor:
    """The law of the prior's draw over all sequences: float64 (S ** L,)."""
    pi = process.stationary.probabilities(process.space.classes)
    return pi[sequences(process.states, positions)].prod(1)


def terminal_error(solver: KernelSolver, chain: Chain, process: Categorical, times: Tensor) -> float:
    """The total variation between the law that the solver ends with and the data's; a mask that is left counts."""
    condition = Condition({}, batch_size=[1])
    start = prior_law(process, chain.positions)
    law = propagate(solver, ChainDenoiser(chain, process), process, condition, start, times)
    clean = index_of(sequences(chain.classes, chain.positions), process.states)
    wanted = torch.zeros_like(law).index_add_(0, clean, chain.law)
    return total_variation(law, wanted)


@dataclass(frozen=True)
class Convergence:
    """Errors at numbers of steps, and the slope between the last two in log-log: infinite where there is no error."""

    steps: tuple[int, ...]
    errors: tuple[float, ...]

    @property
    def order(self) -> float:
        (a, b), (n, m) = self.errors[-2:], self.steps[-2:]
        if max(a, b) < 1e-13:
            return float("inf")
        ratio = torch.tensor([a / b, m / n], dtype=torch.float64).log()
        return float(ratio[0] / ratio[1])


def convergence(
    solver: KernelSolver, chain: Chain, process: Categorical, steps: Sequence[int] = (16, 32, 64, 128)
) -> Convergence:
    """The terminal error on even times from 1 to 0."""
    errors = []
    for n in steps:
        times = torch.arange(n, -1, -1, dtype=torch.float64) / n
        errors.append(terminal_error(solver, chain, process, times))
    return Convergence(tuple(steps), tuple(errors))
