r"""The laws of solvers of categorical processes, on chains of which every probability is known.

    order         how fast the total variation between the solver's exact law and the data's falls with the steps; a
                  solver whose law is the data's at any number of steps is exact, and its order infinite
    terminal_law  drawn samples follow the law that the kernels say (or the data's, for a solver without kernels):
                  Pearson's chi-squared over all sequences
    evaluations, padding, change_of_schedule, ends: as for continuous states (framework/certify/continuous.py)

Kernels multiply out to the exact law without Monte Carlo (framework/certify/chains.py). A solver that is no kernel, as
the first-hitting one, is held against the data's law by its samples alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import chi2
from tensordict import TensorDict
from torch import Tensor

from framework.categories import Categories, Nodes
from framework.certify.bed import draw_state
from framework.certify.chains import (
    CHAIN_2,
    CHAIN_3,
    Chain,
    ChainDenoiser,
    index_of,
    prior_law,
    propagate,
    terminal_error,
)
from framework.certify.check import Check, within
from framework.certify.slope import Measurement, Order, enough, fit
from framework.denoiser import Prediction
from framework.errors import UserError
from framework.grids import UniformTime
from framework.ledger import Ledger
from framework.processes.categorical import Categorical, Marginal, Mask, Stationary, Uniform
from framework.sampler import Loop
from framework.schedules import Cosine, Flow, Schedule
from framework.solvers.categorical.kernels import KernelSolver
from framework.state import Condition

STEPS = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096)
ROUNDING = 1e-12
SAMPLES = 8192
UNLIKELY = 1e-4  # the p-value below which samples do not follow a law


@dataclass(frozen=True)
class ChainBed:
    """A chain under a process as a bed of certification."""

    name: str
    chain: Chain
    stationary: Stationary

    @property
    def space(self) -> Categories:
        return self.chain.space

    def condition(self, samples: Sequence[int]) -> Condition:
        return TensorDict({}, batch_size=[len(samples)])

    def process(self, schedule: Schedule) -> Categorical:
        return self.chain.process(self.stationary, schedule)

    def denoiser(self, schedule: Schedule, ledger: Ledger | None = None) -> ChainDenoiser:
        return ChainDenoiser(self.chain, self.process(schedule), ledger)


MASKED = ChainBed("2-state chain, masks", CHAIN_2, Mask())
CHAINS = (
    MASKED,
    ChainBed("3-state chain, masks", CHAIN_3, Mask()),
    ChainBed("2-state chain, uniform noise", CHAIN_2, Uniform()),
    ChainBed("3-state chain, marginal noise", CHAIN_3, Marginal((0.4, 0.35, 0.25))),
)


@dataclass(frozen=True)
class TokenSetBed:
    """Sets of independent tokens, padded to `padded`: token j of a set is 0, 1 or 2 with a law of its own."""

    padded: int = 6
    name: str = "padded sets of tokens"

    @property
    def space(self) -> Categories:
        return Categories(3, Nodes())

    def condition(self, samples: Sequence[int]) -> Condition:
        members = torch.tensor([2 + i % 4 for i in samples])
        return TensorDict({"mask": torch.arange(self.padded) < members[:, None]}, batch_size=[len(samples)])

    def process(self, schedule: Schedule) -> Categorical:
        return Categorical(schedule, self.space, Mask())

    def denoiser(self, schedule: Schedule, ledger: Ledger | None = None) -> TokenSetDenoiser:
        return TokenSetDenoiser(self.process(schedule))


@dataclass(frozen=True)
class TokenSetDenoiser:
    """The exact probabilities of each token given its own noisy one."""

    process: Categorical

    @property
    def schedule(self) -> Schedule:
        return self.process.schedule

    def __call__(self, x_t: Tensor, t: Tensor, condition: Condition) -> Prediction:  # type: ignore[override]
        place = torch.arange(x_t.shape[1], dtype=torch.float64)[:, None]
        laws = torch.softmax(torch.cos(place + 2.0 * torch.arange(3, dtype=torch.float64)), -1)
        joint = laws * self.process.likelihood(x_t, t)
        clean = joint / joint.sum(-1, keepdim=True)
        return Prediction(clean, x_t, self.schedule.alpha(t), self.schedule.sigma(t))


def served(solver: Loop) -> list[ChainBed]:
    """The chains whose process the solver undoes: some undo masks only."""
    found = []
    for bed in CHAINS:
        try:
            draw_state(bed, solver, Flow(), UniformTime()(Flow(), 2), (0,))
        except UserError:
            continue
        found.append(bed)
    return found


def orders(solver: Loop, steps: Sequence[int] = STEPS) -> Iterator[Measurement]:
    """The order on each chain, from the exact law or, without kernels, from samples."""
    for bed in served(solver):
        process = bed.process(Flow())
        if isinstance(solver, KernelSolver):
            taken: list[int] = []
            errors: list[np.ndarray] = []
            for n in steps:
                error = terminal_error(solver, bed.chain, process, UniformTime()(Flow(), n))
                taken.append(n)
                errors.append(np.array([error]))
                if enough(taken, errors, ROUNDING, solver.order):
                    break
            yield Measurement(bed.name, "flow", "uniform", "law", fit(taken, np.stack(errors), ROUNDING))
        else:
            likely = _p_value(solver, bed, bed.chain.law, 16) > UNLIKELY
            value = math.inf if likely else 0.0
            yield Measurement(bed.name, "flow", "uniform", "law", Order(value, value, value, (), ()))


def kernel_law(solver: Loop) -> Check:
    """Whether what `run` draws is what the kernels say."""
    worst, said = 1.0, []
    for bed in served(solver):
        process, times = bed.process(Flow()), UniformTime()(Flow(), 8)
        law = bed.chain.law
        if isinstance(solver, KernelSolver):
            start = prior_law(process, bed.chain.positions)
            condition = TensorDict({}, batch_size=[1])
            law = propagate(solver, bed.denoiser(Flow()), process, condition, start, times)
        p = _p_value(solver, bed, law, 8)
        worst = min(worst, p)
        said.append(f"{bed.name}: p = {p:.2g}")
    return Check("terminal_law", worst > UNLIKELY, f"chi-squared of {SAMPLES} samples, " + "; ".join(said), worst)


def _p_value(solver: Loop, bed: ChainBed, law: Tensor, steps: int) -> float:
    """Pearson's chi-squared of samples against a law over all sequences of states (or of classes)."""
    states = round(len(law) ** (1 / bed.chain.positions))
    got = draw_state(bed, solver, Flow(), UniformTime()(Flow(), steps), range(SAMPLES), seed=5)
    assert isinstance(got, Tensor)
    if int(got.max()) >= states:
        return 0.0  # a mask is left where the law has none
    counts = torch.bincount(index_of(got, states), minlength=len(law)).double()
    possible = law > ROUNDING
    if float(counts[~possible].sum()) > 0:
        return 0.0
    expected = SAMPLES * law[possible]
    statistic = float(((counts[possible] - expected) ** 2 / expected).sum())
    return float(chi2.sf(statistic, int(possible.sum()) - 1))


def evaluations(solver: Loop) -> Check:
    """A kernel is asked for once a step; a solver of events as often on a finer grid."""
    counts = []
    for steps in (8, 16):
        ledger = Ledger()
        draw_state(MASKED, solver, Flow(), UniformTime()(Flow(), steps), range(4), ledger=ledger)
        counts.append(ledger.forward / 4)
    each = (counts[1] - counts[0]) / 8
    if each == 0:
        return Check("evaluations", True, f"{counts[0]:g} in all, whatever the grid's steps", math.nan)
    return Check("evaluations", each == solver.evaluations_per_step, f"{each:g} a step", each)


def padding(solver: Loop) -> Check:
    samples, times = tuple(range(8)), UniformTime()(Flow(), 8)
    wide = TokenSetBed(9)
    a, b = (draw_state(bed, solver, Flow(), times, samples) for bed in (TokenSetBed(6), wide))
    mask = wide.condition(samples)["mask"]
    if int(b[~mask].abs().max()) != 0:
        return Check("padding", False, "padding is not exactly 0")
    differ = float((a != b[:, :6]).sum())
    return within("padding", differ, 0.0, "padding exactly 0; tokens that differ from a wider padding")


def change_of_schedule(solver: Loop) -> Check:
    if not getattr(solver, "schedule_free", True):
        return Check("change_of_schedule", None, "declared to depend on the schedule's own time")
    samples, worst = tuple(range(64)), 0.0
    for bed in served(solver):
        alphas = torch.linspace(0.02, 1.0, 9, dtype=torch.float64)
        first, other = (
            draw_state(bed, solver, schedule, times, samples)
            for schedule, times in ((Flow(), 1 - alphas), (Cosine(), 2 / math.pi * torch.arccos(alphas)))
        )
        worst = max(worst, float((first != other).sum()))
    return within("change_of_schedule", worst, 0.0, "tokens that differ on another schedule with the same alphas")


def ends(solver: Loop, schedules: Mapping[str, Schedule]) -> Check:
    """From t = 1 to t = 0 on every schedule that a categorical process takes, all tokens come out as data."""
    walked = []
    for name, schedule in schedules.items():
        for bed in served(solver):
            try:
                bed.process(schedule)
            except UserError:  # it keeps too much of the data
                continue
            for steps in (1, 2, 3, 10):
                got = draw_state(bed, solver, schedule, UniformTime()(schedule, steps), range(16))
                if int(got.max()) >= bed.chain.classes or int(got.min()) < 0:
                    return Check("ends", False, f"{name}: a token is noise after {steps} steps")
            walked.append(name)
    return Check("ends", bool(walked), f"all tokens are data at t = 0 on {', '.join(dict.fromkeys(walked))}")


def laws(solver: Loop, schedules: Mapping[str, Schedule]) -> dict[str, Callable[[], Check]]:
    """The laws of the module's docstring by name."""
    return {
        "evaluations": lambda: evaluations(solver),
        "padding": lambda: padding(solver),
        "change_of_schedule": lambda: change_of_schedule(solver),
        "ends": lambda: ends(solver, schedules),
        "terminal_law": lambda: kernel_law(solver),
    }
