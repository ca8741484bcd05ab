"""What is lost on the way from states to samples and back: in memory, or through the modality's own files."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from torch.nn.functional import pad

from framework.errors import UserError
from framework.modality import Modality
from framework.state import State, map_state
from framework.testing.compare import leaves
from framework.testing.subject import Failed, Passed, Skipped, Subject

LOST = 0.05  # the share of a state's root mean square that a round trip may change it by
READ = 3  # samples that are written and read again


def compare(state: State, returned: State, rows: int, what: str) -> str:
    """How far a state has come, in words.

    Raises:
        Failed: it is more than LOST of its size, or a token is another.
    """
    words, wrong = [], False
    for name, part in leaves(state).items():
        other = leaves(returned).get(name)
        if other is None or other.shape != part.shape:
            raise Failed(
                f"{name} is {tuple(part.shape)} and after a round trip {other if other is None else other.shape}"
            )
        if part.is_floating_point():
            lost = float((other - part).double().norm() / part.double().norm().clamp(min=1e-12))
            words.append(f"{name} by {100 * lost:.2g} % of its size")
            wrong |= not lost <= LOST
        else:
            changed = int((other != part).sum())
            words.append(f"{changed} of {part.numel()} tokens of {name}")
            wrong |= changed > 0
    told = ", ".join(words)
    if wrong:
        raise Failed(f"{what} changes {told}; {100 * LOST:.0f} % and no token may be lost", rows)
    return told


def through_files(subject: Subject, samples: Any, state: State) -> Passed:
    """Samples, each rendered alone, as the file from which the most comes back gives them.

    Raises:
        Skipped: the modality reads no files.
        Failed: no file can be read, or too much is lost in each.
    """
    modality = subject.modality
    if type(modality).read is Modality.read:
        raise Skipped("it is not clear where in a batch samples belong: pass rebatch=(samples, batch) -> batch")
    count, told = min(subject.rows, READ), ""
    for row in range(count):
        with TemporaryDirectory() as place:
            said = {"prompt": "", "index": str(row)}
            files = modality.render(samples[row : row + 1], [None], Path(place), [said])
            told = _best(modality, [Path(file) for file in files], state[row : row + 1])
    return Passed(f"writing and reading {count} samples again changes {told}", count)


def _best(modality: Modality, files: list[Path], state: State) -> str:
    """What comes back of one sample from the first file that keeps it; Failed if none does."""
    faults = []
    for file in files:
        try:
            batch = modality.read(file)
        except UserError:
            continue  # a picture, say: not all that is written is to be read
        returned, _ = modality.encode(batch)
        try:
            return f"{compare(state, _padded(returned, state), 1, f'writing {file.name}, reading and encoding it')}"
        except Failed as fault:
            faults.append(str(fault))
    raise Failed("; ".join(faults) or f"read understands none of {', '.join(file.name for file in files)}")


def _padded(returned: State, state: State) -> State:
    """A state that was padded less, or more with nothing but zeros, in the other's shape."""

    def fit(part: Any, like: Any) -> Any:
        if part.ndim != like.ndim:
            return part
        if any(bool(part.narrow(d, n, part.shape[d] - n).any()) for d, n in enumerate(like.shape) if part.shape[d] > n):
            return part
        return pad(part, [n for a, b in zip(like.shape[::-1], part.shape[::-1], strict=True) for n in (0, a - b)])

    return map_state(fit, returned, state)
