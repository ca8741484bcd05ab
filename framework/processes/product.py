r"""The product process: each named component of a state is corrupted by a process of its own, on a clock of its own.

    q(x_t | x_0) = prod_c q_c(x_t^c | x_0^c)

Given x_0 the components are independent, and the denoiser sees all of them: it returns a Prediction whose `clean` is
a TensorDict, the mean of x_0 for Gaussian components and the probabilities of x_0 for categorical ones. On a product
space the generator of the marginal process is the sum of the components' own, each with the joint state in its
prediction (Holderrieth et al. 2024, "Generator Matching", arXiv:2410.20587); framework/solvers/splitting.py splits it.

All components share the global time t. A component's clock is its schedule: what should be settled early has a schedule
that reaches the data's end sooner.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tensordict import TensorDict
from torch import Tensor

from framework.errors import UserError
from framework.noise import NoiseKey
from framework.processes.process import Process
from framework.state import Condition, State


@dataclass(frozen=True)
class Product:
    """One process a component of a TensorDict state; each draws from a key of its own.

    Raises:
        UserError: there is no component; a state has others than the process.
    """

    processes: Mapping[str, Process]

    def __post_init__(self) -> None:
        if not self.processes:
            raise UserError("a product process needs at least one component")

    def prior(self, t: Tensor, key: NoiseKey, condition: Condition) -> TensorDict:
        """Each component's state at a time t where nothing of the data is left to matter."""
        parts = {name: process.prior(t, key.component(name), condition) for name, process in self.processes.items()}
        return TensorDict(parts, batch_size=condition.batch_size)

    def corrupt(self, x_0: State, t: Tensor, key: NoiseKey, condition: Condition) -> tuple[TensorDict, TensorDict]:
        """(x_t, what was done) for clean states at times t (B,), by component."""
        x_0 = self.check(x_0)
        both = {
            name: process.corrupt(x_0[name], t, key.component(name), condition)
            for name, process in self.processes.items()
        }
        size = condition.batch_size
        return (
            TensorDict({name: x_t for name, (x_t, _) in both.items()}, batch_size=size),
            TensorDict({name: done for name, (_, done) in both.items()}, batch_size=size),
        )

    def check(self, x: State) -> TensorDict:
        """`x` itself, if its components are the process's."""
        found = sorted(x.keys()) if isinstance(x, TensorDict) else type(x).__name__
        if not isinstance(x, TensorDict) or found != sorted(self.processes):
            raise UserError(f"the process has the components {sorted(self.processes)}, and the state has {found}")
        return x
