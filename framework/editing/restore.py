"""From a measurement to samples that agree with it: super-resolution, colourisation, whatever a modality can name.

Restore makes the tasks of `observed` from a file and words. A model that was trained with this very measurement as its
hint needs no guidance: it is shown it, and kept to it exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from framework.editing.known import TimeTravel
from framework.editing.observed import DDNM, PiGDM
from framework.editing.requests import check_input
from framework.editing.shown import shown_measurement
from framework.editing.task import Task
from framework.errors import UserError
from framework.modality import Modality


@dataclass(frozen=True)
class Restore:
    """Samples of which the file `input` is what `seen` names, in the modality's words.

    Args:
        input: the measurement.
        seen: how it came about, as "pool=4".
        noise: the deviation of its noise, in a state's units.
        through_network: whether the network's derivative leads what was not seen (PiGDM), which costs a backward pass
            an evaluation, or what was seen is put in its place and no more (DDNM).
        resampling: how often each step is walked; see TimeTravel.

    Raises:
        UserError: there is no such file; noise is negative, or not zero without the network's derivative.
    """

    input: str
    seen: str
    noise: float = 0.0
    through_network: bool = True
    resampling: int = 1

    def __post_init__(self) -> None:
        check_input(self.input)
        TimeTravel(self.resampling)
        if self.noise < 0 or (self.noise > 0 and not self.through_network):
            raise UserError(
                f"noise={self.noise:g}: it is 0 or more, and 0 where what was seen is put in its place "
                "(through_network=false)"
            )

    def tasks(self, modality: Modality) -> Sequence[Task]:
        operator, seen = modality.observed(Path(self.input), self.seen)
        shown = shown_measurement(modality, operator, seen)
        exact = (DDNM(operator, seen),) if self.noise == 0 else ()
        led = () if shown or not self.through_network else (PiGDM(operator, seen, self.noise),)
        return (*shown, *led, *exact, TimeTravel(self.resampling))
