"""Which process each component of a state has: the space says where it is Gaussian, the configuration the rest.

Euclidean, Masked, ZeroCentreOfMass, ...   Gaussian, on the model's schedule
Categories                                 Categorical, on the same, with the noise that is given here
Product                                    a product of these
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from framework.categories import Categories
from framework.couplings import Coupling
from framework.errors import UserError
from framework.processes.categorical import Categorical, Mask, Stationary
from framework.processes.gaussian import Gaussian
from framework.processes.process import Process
from framework.processes.product import Product
from framework.schedules import Schedule
from framework.spaces import Product as ProductSpace
from framework.spaces import Space


@dataclass(frozen=True)
class ByComponent:
    """A recipe of processes.

    Attributes:
        stationary: what tokens become, in components that `tokens` does not name.
        tokens: what the tokens of a component become, by its name.
        clocks: schedules of components that are to have another than the model's, by name.
        couplings: what pairs the noise of a Gaussian component with its data in training, by name.
    """

    stationary: Stationary = field(default_factory=Mask)
    tokens: Mapping[str, Stationary] = field(default_factory=dict)
    clocks: Mapping[str, Schedule] = field(default_factory=dict)
    couplings: Mapping[str, Coupling] = field(default_factory=dict)

    def process(self, space: Space, schedule: Schedule) -> Process:
        """The process of a space.

        Raises:
            UserError: a component is named that the space has not, or that is of another kind.
        """
        if not isinstance(space, ProductSpace):
            self._check({"": space})
            return self._of("", space, schedule)
        self._check(space.components)
        if not (self.clocks or self.couplings or _any_tokens(space)):
            return Gaussian(schedule, space)  # one process of all components, which every solver can undo
        return Product({name: self._of(name, part, schedule) for name, part in space.components.items()})

    def _of(self, name: str, space: Space, schedule: Schedule) -> Process:
        clock = self.clocks.get(name, schedule)
        if isinstance(space, Categories):
            return Categorical(clock, space, self.tokens.get(name, self.stationary))
        return Gaussian(clock, space, self.couplings.get(name))

    def _check(self, spaces: Mapping[str, Space]) -> None:
        tokens = {name for name, space in spaces.items() if isinstance(space, Categories)}
        for option, named, possible in (
            ("clocks", self.clocks, set(spaces)),
            ("tokens", self.tokens, tokens),
            ("couplings", self.couplings, set(spaces) - tokens),
        ):
            if unknown := sorted(set(named) - possible):
                known = ", ".join(sorted(possible)) or "nothing"
                raise UserError(f"processes.{option} names {', '.join(unknown)}; here it may name {known}")


def _any_tokens(space: ProductSpace) -> bool:
    return any(isinstance(part, Categories) for part in space.components.values())


def parts_of(process: Process) -> dict[str, Process]:
    """The components' processes by name; one that is no product has the name ""."""
    return dict(process.processes) if isinstance(process, Product) else {"": process}
