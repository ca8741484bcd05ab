"""What a person asks for, in plain values: a file and some words, which a modality makes into tasks.

    Generate     nothing but what the prompt says
    Edit         the file's sample under another prompt or with another seed     FromClean
    Inpaint      part of it stays and the rest is made anew                      Known, TimeTravel
    Continue     it stays, and what lies behind it up to the prompt's own size   Known, TimeTravel
    Long         samples larger than the network was trained on                  Windows
    Steer        samples of which a score of the person's own says much          Steered

and, in files of their own, Restore (from a measurement), Invert (from a sample's own noise) and Interpolate.

What can be told without the modality (a missing file, a strength out of range) is refused when a request is made. A
sample has the size of the input, but for Continue, where it has the size that the prompt asks for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

from framework.editing.known import Known, TimeTravel, whole
from framework.editing.shown import shown_part
from framework.editing.start import FromClean, check_strength
from framework.editing.steering import Decoded, Steered
from framework.editing.task import Run, Task, rows_of
from framework.errors import UserError
from framework.guidance.energy import for_modality
from framework.modality import Modality
from framework.state import Condition, State, map_state


class Request(Protocol):
    """The role: what the tasks are once the modality is known."""

    def tasks(self, modality: Modality) -> Sequence[Task]:
        """UserError if the modality cannot read the input, or knows no such region."""
        ...


@dataclass(frozen=True)
class Generate:
    """Samples from noise."""

    def tasks(self, modality: Modality) -> Sequence[Task]:
        return ()


@dataclass(frozen=True)
class Edit:
    """The sample in the file `input`, of which the less stays the greater `strength` in (0, 1] is."""

    input: str
    strength: float = 0.6

    def __post_init__(self) -> None:
        check_input(self.input)
        check_strength(self.strength)

    def tasks(self, modality: Modality) -> Sequence[Task]:
        state, condition = encoded(modality, self.input)
        return (Resized(modality, condition), FromClean(state, self.strength))


@dataclass(frozen=True)
class Inpaint:
    """The sample in the file `input`, with the region `keep` as it is, or all but the region `redo`.

    `resampling` walks each step so often, to make the new fit the old: see TimeTravel.
    """

    input: str
    keep: str | None = None
    redo: str | None = None
    resampling: int = 5

    def __post_init__(self) -> None:
        check_input(self.input)
        TimeTravel(self.resampling)
        if not ((self.keep or "").strip() or (self.redo or "").strip()) or (self.keep and self.redo):
            raise UserError("name the region that stays (keep=) or the one that is made anew (redo=), one of the two")

    def tasks(self, modality: Modality) -> Sequence[Task]:
        original = modality.read(Path(self.input))
        state, condition = modality.encode(original)
        if self.redo:  # what no word is about stays, if it is there to be kept
            again = whole(modality.touched(self.redo, state, condition), state)
            real = whole(modality.region("", state, condition), state)
            mask = map_state(lambda stays, goes: stays & ~goes, real, again)
        else:
            mask = modality.region(self.keep or "", state, condition)
        known = (Known(state, mask), TimeTravel(self.resampling), Pasted(modality, original, self.keep, self.redo))
        return (Resized(modality, condition), *shown_part(modality, state, mask), *known)


@dataclass(frozen=True)
class Continue:
    """All of the sample in the file `input`, or its region `keep`, and more: as much as the prompt's size leaves."""

    input: str
    keep: str | None = None
    resampling: int = 5

    def __post_init__(self) -> None:
        check_input(self.input)
        TimeTravel(self.resampling)

    def tasks(self, modality: Modality) -> Sequence[Task]:
        state, condition = encoded(modality, self.input)
        return (Known(state, modality.region(self.keep or "", state, condition)), TimeTravel(self.resampling))


@dataclass(frozen=True)
class Long:
    """Samples of the size that the prompt asks for, however large, in windows of the size that was trained on.

    Neighbours share `overlap` of a window, in (0, 1); see Windows.
    """

    overlap: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.overlap < 1:
            raise UserError(f"windows share a part of their length between 0 and 1, got overlap={self.overlap}")

    def tasks(self, modality: Modality) -> Sequence[Task]:
        return (modality.windows(self.overlap),)


@dataclass(frozen=True)
class Steer:
    """Samples that `score` likes: a function from decoded samples to a number for each, more is better.

    If it has a method `for_modality(modality)`, that is asked for the score of this modality. The rest is Steered's.
    """

    score: Callable[[Any], Any]
    particles: int = 4
    temperature: float = 1.0
    every: int | None = 1
    keep: Literal["drawn", "best"] = "drawn"

    def __post_init__(self) -> None:
        self._steered(self.score)

    def tasks(self, modality: Modality) -> Sequence[Task]:
        return (self._steered(Decoded(for_modality(self.score, modality), modality)),)

    def _steered(self, score: Callable[..., Any]) -> Steered:
        return Steered(score, self.particles, self.temperature, self.every, self.keep)


@dataclass(frozen=True)
class Resized:
    """Conditions of the size of `given`, that of one sample."""

    modality: Modality
    given: Condition
    before_guidance: ClassVar[bool] = True

    def __call__(self, run: Run) -> Run:
        like = rows_of(self.given, run)
        return replace(run, condition=self.modality.resized(run.condition, like))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Pasted:
    """What is known of `original` (as the modality read it) in the finished samples, exactly as it was."""

    modality: Modality
    original: Mapping[str, Any]
    keep: str | None = None
    redo: str | None = None
    before_guidance: ClassVar[bool] = False

    def __call__(self, run: Run) -> Run:
        def paste(samples: Any) -> Any:
            return self.modality.pasted(samples, self.original, self.keep, self.redo)

        return replace(run, finish=(*run.finish, paste))


def encoded(modality: Modality, file: str) -> tuple[State, Condition]:
    """The sample in a file as a clean state of one row, with its condition."""
    return modality.encode(modality.read(Path(file)))


def check_input(file: str) -> None:
    """UserError unless there is such a file."""
    if not Path(file).is_file():
        raise UserError(f"input={file}: there is no such file")
