"""A network as the denoiser of a state with tokens in it, alone or beside continuous components.

The network maps (x_t, noise level (B,) float32, condition) to a state of the same components: for a Gaussian one its
parametrisation's target, for tokens (B, *positions) the logits (B, *positions, K) of the clean ones. All components
share the global time; what it means for one of them is its own clock's to say.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from framework.denoiser import NoiseLevel, Prediction, check_terminal
from framework.ledger import Ledger
from framework.parametrizations import Parametrization
from framework.processes.by_component import parts_of
from framework.processes.categorical import Categorical
from framework.processes.gaussian import Gaussian
from framework.processes.process import Process
from framework.schedules import Schedule
from framework.spaces import Space
from framework.state import Condition, State, batch_size, combine, components, device_of, of_components


class ComponentDenoiser:
    """A network with its process as a Denoiser; see the module's docstring.

    Args:
        network: what predicts.
        process: of the state; its Gaussian components have `parametrization`.
        schedule: of the global time.
        parametrization: what the network predicts of Gaussian components.
        space: of the state.
        noise_level: what the network is told of the time.
        ledger: where evaluations are entered.

    Raises:
        UserError: the network predicts noise on a schedule that ends without any data.
    """

    def __init__(
        self,
        network: nn.Module,
        process: Process,
        schedule: Schedule,
        parametrization: Parametrization,
        space: Space,
        noise_level: NoiseLevel,
        ledger: Ledger | None = None,
    ) -> None:
        self.parts = parts_of(process)
        for part in self.parts.values():
            if isinstance(part, Gaussian):
                check_terminal(part.schedule, parametrization)
        self.network, self.process, self.schedule, self.parametrization = network, process, schedule, parametrization
        self.space, self.noise_level, self.ledger = space, noise_level, ledger
        self.tokens = tuple(name for name, part in self.parts.items() if isinstance(part, Categorical))

    def raw(self, x_t: State, t: Tensor, condition: Condition) -> State:
        """The network's own output at x_t, projected onto the space; t is float64 (B,) or ()."""
        given = components(x_t)
        for name, part in self.parts.items():
            if isinstance(part, Gaussian):
                scale = self.parametrization.input_scale(*_levels(part, t))
                given[name] = combine([(scale, given[name])])  # type: ignore[assignment]
        level = self.noise_level(self.schedule, t).to(device=device_of(x_t), dtype=torch.float32)
        out = self.network(of_components(given), level.expand(batch_size(x_t)), condition)
        return self.space.project(out, condition)

    def clean(self, x_t: State, raw: State, t: Tensor) -> State:
        """What the output says of the data: the mean of Gaussian components, the probabilities of tokens."""
        given, said = components(x_t), components(raw)
        for name, part in self.parts.items():
            if isinstance(part, Gaussian):
                said[name] = self.parametrization.clean(given[name], said[name], *_levels(part, t))  # type: ignore[assignment]
            else:
                said[name] = said[name].softmax(-1)
        return of_components(said)

    def __call__(self, x_t: State, t: Tensor, condition: Condition) -> Prediction:
        if self.ledger is not None:
            self.ledger.count_forward(batch_size(x_t))
        clean = self.space.project(self.clean(x_t, self.raw(x_t, t, condition), t), condition)
        return Prediction(clean, x_t, self.schedule.alpha(t), self.schedule.sigma(t), self.tokens)


def _levels(part: Gaussian, t: Tensor) -> tuple[Tensor, Tensor]:
    return part.schedule.alpha_sigma(t)
