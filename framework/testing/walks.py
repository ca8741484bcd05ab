"""Samples of a network under whatever process its states have, and which solvers can undo that process."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from framework.denoiser import Denoiser, Prediction
from framework.errors import UserError
from framework.grids import UniformTime
from framework.noise import SampleKey
from framework.processes.categorical import Categorical
from framework.processes.gaussian import Gaussian
from framework.sampler import Loop, sample
from framework.schedules import Schedule
from framework.self_conditioning import Remembering, takes_part
from framework.solvers.adams import DEIS
from framework.solvers.ancestral import EulerAncestral
from framework.solvers.categorical.ancestral import Ancestral
from framework.solvers.categorical.tau_leaping import TauLeaping
from framework.solvers.ddim import DDIM
from framework.solvers.dpmpp import DPMpp2M
from framework.solvers.edm import Heun
from framework.solvers.plan import Solver
from framework.solvers.sde_dpmpp import SDEDPMpp2M
from framework.solvers.splitting import fitting
from framework.solvers.unipc import UniPC
from framework.state import Condition, State, batch_size
from framework.testing.subject import Subject
from framework.testing.tokens import probabilities, said_like

STEPS = 4


def some_solvers(tokens: bool = False) -> dict[str, Solver | Loop]:
    """One solver of each family: what is tried where no solvers are named."""
    chosen: tuple[Solver | Loop, ...] = (
        DDIM(),
        Heun(),
        DPMpp2M(),
        DEIS(),
        UniPC(),
        EulerAncestral(),
        SDEDPMpp2M(),
        *((Ancestral(), TauLeaping()) if tokens else ()),
    )
    return {type(solver).__name__: solver for solver in chosen}


def two_solvers(subject: Subject) -> dict[str, Solver | Loop]:
    """A deterministic and a stochastic one, or, of tokens alone, two that draw."""
    if isinstance(subject.process, Categorical):
        return {"Ancestral": Ancestral(), "TauLeaping": TauLeaping()}
    return {"DPMpp2M": DPMpp2M(), "EulerAncestral": EulerAncestral()}


def draw(subject: Subject, network: nn.Module, solver: Solver | Loop, rows: list[int]) -> State:
    """Samples with the conditions of some rows of the data, in an order, as a model draws them."""
    denoiser: Denoiser = subject.model(network).denoiser()
    with torch.no_grad():
        return _walk(subject, Remembering(denoiser) if takes_part(network) else denoiser, solver, rows)


def prediction(subject: Subject, network: nn.Module, rows: list[int]) -> State:
    """What the network says of some rows of the data, half way to noise: the same noisy states in whatever order."""
    t = torch.full((subject.rows,), 0.5, dtype=torch.float64)
    x_t, _ = subject.process.corrupt(subject.state, t, subject.key, subject.condition)
    index = torch.tensor(rows)
    with torch.no_grad():
        return subject.model(network).denoiser().raw(x_t[index], t[index], subject.condition[index])


def refusal(subject: Subject, solver: Solver | Loop, rows: list[int]) -> str | None:
    """Why a solver cannot undo the subject's process, in its own words; None where it can.

    It is asked with a denoiser that knows nothing, so that no network has a say in it.
    """
    process = subject.process
    if not isinstance(solver, Loop):
        if isinstance(process, Gaussian):
            return None
        if isinstance(process, Categorical):
            return "it combines states linearly, and tokens cannot be added"
    try:
        with torch.no_grad():
            _walk(subject, _Ignorant(subject), solver, rows)
    except UserError as error:
        return str(error)
    except Exception:  # what else it does is told where it samples the network
        return None
    return None


def _walk(subject: Subject, denoiser: Denoiser, solver: Solver | Loop, rows: list[int]) -> State:
    times = UniformTime()(subject.schedule, STEPS)
    condition, key = subject.condition[torch.tensor(rows)], SampleKey(11, tuple(rows))
    process = subject.process
    return sample(denoiser, fitting(solver, process), times, subject.space, condition, key, process=process)


@dataclass
class _Ignorant:
    """A denoiser that says the same of all: zeros, and of tokens that each class is as likely."""

    subject: Subject

    @property
    def schedule(self) -> Schedule:
        return self.subject.schedule

    def __call__(self, x_t: State, t: Tensor, condition: Condition) -> Prediction:
        tokens = self.subject.tokens
        said = probabilities(said_like(self.subject.state[:1], tokens), tokens)
        clean = self.subject.space.project(said[torch.zeros(batch_size(x_t), dtype=torch.long)], condition)
        names = tuple("" if isinstance(x_t, Tensor) else name for name in tokens)
        return Prediction(clean, x_t, self.schedule.alpha(t), self.schedule.sigma(t), names)
