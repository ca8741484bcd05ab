"""What is checked, and what many checks need of it: data made afresh, an encoded batch, a network that shows itself.

A network as it is made often says nothing: its last layer is zero. So the checks look at a copy whose zero parameters
have been moved by a little noise. Nothing that was given is changed.
"""

from __future__ import annotations

import copy
import functools
import itertools
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from framework.build import MODEL_FOLDER, Allow
from framework.categories import Categories
from framework.denoiser import Angle, NoiseLevel
from framework.modality import Modality
from framework.model import Model, SamplingDefaults
from framework.noise import SampleKey
from framework.objectives.components import ComponentObjective
from framework.objectives.distances import MSE
from framework.objectives.objective import Objective
from framework.objectives.times import Uniform
from framework.objectives.weightings import Constant
from framework.parametrizations import Parametrization, V
from framework.processes.by_component import ByComponent
from framework.processes.categorical import Categorical
from framework.processes.gaussian import Gaussian
from framework.processes.process import Process
from framework.sampler import Loop
from framework.schedules import Flow, Schedule
from framework.solvers.categorical.ancestral import Ancestral
from framework.solvers.plan import Solver
from framework.spaces import Space
from framework.state import Condition, State, batch_size, map_state
from framework.testing.tokens import said_like, token_spaces

BATCHES = 3  # batches of the data that are looked at


class Failed(Exception):
    """A check found a fault; the message is its detail."""

    def __init__(self, detail: str, items: int = 0) -> None:
        super().__init__(detail)
        self.items = items


class Skipped(Exception):
    """A check does not apply; the message is the reason."""


@dataclass(frozen=True)
class Passed:
    """What a check that found no fault has seen."""

    detail: str
    items: int
    figures: Mapping[str, float] = field(default_factory=dict)  # numbers for scripts


Check = Callable[["Subject"], Passed]


@dataclass
class Subject:
    """See `check_modality` for the attributes."""

    modality: Modality
    make_data: Callable[[], Any]
    network: nn.Module | None = None
    schedule: Schedule = field(default_factory=Flow)
    parametrization: Parametrization = field(default_factory=V)
    noise_level: NoiseLevel = field(default_factory=Angle)
    processes: ByComponent = field(default_factory=ByComponent)
    objective: Objective | ComponentObjective | None = None
    solvers: Mapping[str, Solver | Loop] | None = None
    config: Mapping[str, Any] | None = None
    allow: Allow = MODEL_FOLDER
    items: int = 8
    thorough: bool = False
    rebatch: Callable[[Any, Any], Any] | None = None
    folder: Path | None = None

    @property
    def space(self) -> Space:
        return self.modality.space

    @functools.cached_property
    def process(self) -> Process:
        """What takes states to noise."""
        return self.processes.process(self.space, self.schedule)

    @functools.cached_property
    def tokens(self) -> dict[str, Categories]:
        """The spaces of tokens by the names of their leaves; what is not among them is continuous."""
        return token_spaces(self.space)

    @property
    def loss(self) -> Objective | ComponentObjective:
        """The objective that was given, or else the squared error and, of tokens, the cross entropy."""
        if self.objective is not None:
            return copy.deepcopy(self.objective)
        kind = Objective if isinstance(self.process, Gaussian) else ComponentObjective
        return kind(Uniform(), Constant(), MSE())

    def fresh_data(self) -> Any:
        """A data module of its own, set up."""
        data = self.make_data()
        data.setup("fit")
        return data

    @functools.cached_property
    def data(self) -> Any:
        """The data module that is shared by the checks."""
        return self.fresh_data()

    @functools.cached_property
    def twin(self) -> Any:
        """A second one, made apart from the first: to set one up may mean to read all the data."""
        return self.fresh_data()

    @functools.cached_property
    def batches(self) -> list[Any]:
        """The first batches of training."""
        return list(itertools.islice(iter(self.data.train_dataloader()), BATCHES))

    def encode(self, batch: Any) -> tuple[State, Condition]:
        """All rows of a batch. Skipped, with the error, where encode has one: another check reports it."""
        try:
            state, condition = self.modality.encode(batch)
            return state, condition[: batch_size(state)]
        except Exception as error:
            raise Skipped(f"it needs encode, which raises {type(error).__name__}: {error}") from error

    @functools.cached_property
    def encoded(self) -> tuple[State, Condition]:
        """The first `items` rows of the first batch."""
        state, condition = self.encode(self.batches[0])
        return state[: self.items], condition[: self.items]

    @property
    def state(self) -> State:
        return self.encoded[0]

    @property
    def condition(self) -> Condition:
        return self.encoded[1]

    @property
    def rows(self) -> int:
        """How many there are."""
        return batch_size(self.state)

    @property
    def key(self) -> SampleKey:
        return SampleKey(0, tuple(range(self.rows)))

    def gaussian(self, seed: int, like: State | None = None) -> State:
        """Independent standard normals of a state's structure, in the space or not; of tokens too."""
        generator = torch.Generator().manual_seed(seed)
        like = self.state if like is None else like
        return map_state(lambda part: torch.randn(part.shape, generator=generator), like)

    def said(self, rows: torch.Tensor, seed: int) -> State:
        """Normals of the structure that a network's output has for some rows: of tokens, logits."""
        return self.gaussian(seed, said_like(self.state[rows], self.tokens))

    def support(self) -> State:
        """Which entries of the states are real: bool. All others are zero in the space."""
        return map_state(lambda part: part != 0, self.space.project(self.gaussian(101), self.condition))

    @property
    def backbone(self) -> nn.Module:
        """A copy of the network as it was given. Skipped where there is none."""
        if self.network is None:
            raise Skipped("no backbone was given")
        return copy.deepcopy(self.network)

    @functools.cached_property
    def shaken(self) -> nn.Module:
        """A copy with no parameter at zero, in evaluation mode."""
        return shaken(self.backbone).eval()

    def model(self, network: nn.Module) -> Model:
        """A network as a model, whose own solver can undo its process."""
        defaults = SamplingDefaults(Ancestral()) if isinstance(self.process, Categorical) else SamplingDefaults()
        return Model(
            self.modality,
            network,
            self.schedule,
            self.parametrization,
            self.noise_level,
            defaults=defaults,
            processes=self.processes,
        )

    def prompts(self, n: int) -> Sequence[Any]:
        """The data's own, with what they leave open drawn."""
        prompts = list(self.modality.prompts(self.data, n, 0))
        return self.modality.complete(prompts, 0, tuple(range(len(prompts))))

    def parse(self, prompts: Sequence[Any]) -> Condition:
        """As a model does: None is an empty prompt."""
        return self.modality.parse(["" if prompt is None else prompt for prompt in prompts])

    def place(self, name: str) -> tempfile.TemporaryDirectory[str] | _Kept:
        """An empty folder for a check: below `folder` if one was given, else for the time of a `with` block."""
        return tempfile.TemporaryDirectory() if self.folder is None else _Kept(self.folder / name)


class _Kept:
    """A folder that stays."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> str:
        self.path.mkdir(parents=True, exist_ok=True)
        return str(self.path)

    def __exit__(self, *error: object) -> None:
        """Nothing is taken away."""


def shaken(network: nn.Module, seed: int = 0) -> nn.Module:
    """The network with noise in each parameter that is zero throughout, of about the size that a fresh layer has."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for _, parameter in zeros(network):
            spread = 0.1 if parameter.ndim < 2 else max(parameter[0].numel(), 1) ** -0.5
            parameter.copy_(spread * torch.randn(parameter.shape, generator=generator))
    return network


def zeros(network: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """The parameters that are zero throughout, by name."""
    return ((name, p) for name, p in network.named_parameters() if p.numel() and not bool(p.detach().any()))
