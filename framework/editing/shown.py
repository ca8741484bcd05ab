"""Networks that read a hint of the sample that they are to make (`framework.hints`) are given what a task knows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from torch import Tensor

from framework.editing.observed import Operator
from framework.editing.task import Run, Task, rows_of
from framework.hints import with_hint
from framework.modality import Modality
from framework.state import State


@dataclass(frozen=True)
class Shown:
    """`hint` (n, K, ...) in the condition; before guidance, so that the negative condition has it too."""

    hint: Tensor
    before_guidance: ClassVar[bool] = True

    def __call__(self, run: Run) -> Run:
        hint = rows_of(self.hint, run)
        assert isinstance(hint, Tensor)
        return replace(run, condition=with_hint(run.condition, hint))


def shown_part(modality: Modality, state: State, mask: State) -> Sequence[Task]:
    """The task that shows `state` where `mask` is True to a network that reads such a hint; none to any other."""
    if modality.hint is None or not isinstance(state, Tensor) or not isinstance(mask, Tensor):
        return ()
    hint = modality.hint.of_known(state, mask)
    return () if hint is None else (Shown(hint),)


def shown_measurement(modality: Modality, operator: Operator, seen: Tensor) -> Sequence[Task]:
    """Likewise for what an operator saw."""
    hint = None if modality.hint is None else modality.hint.of_seen(operator, seen)
    return () if hint is None else (Shown(hint),)
