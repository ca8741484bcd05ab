"""Checks of the data module: what a run that is repeated or resumed sees."""

from __future__ import annotations

import itertools
from typing import Any

from framework.testing.compare import difference
from framework.testing.subject import BATCHES, Failed, Passed, Subject
from framework.training.loader import ResumableLoader


def loader_repeats(subject: Subject) -> Passed:
    """Two fresh data modules give the same first batches, of training and of validation, and leave the same items out,
    each with its name and the reason: a run is a function of its configuration.
    """
    seen, left_out = 0, _left_out(subject)
    for loader in ("train_dataloader", "val_dataloader"):
        first, second = (_batches(getattr(data, loader)(), BATCHES) for data in (subject.data, subject.twin))
        if not first or len(first) != len(second):
            raise Failed(f"{loader} of two fresh data modules gives {len(first)} and {len(second)} batches")
        for i, (ours, theirs) in enumerate(zip(first, second, strict=True)):
            if (apart := difference(ours, theirs)) is not None:
                raise Failed(
                    f"batch {i} of {loader} is another in a second, fresh data module: {apart}; let all that is random "
                    "be a function of the seed and the item's number",
                    seen,
                )
        seen += len(first)
    return Passed(f"the first {BATCHES} batches of training and of validation come again{left_out}", seen)


def _left_out(subject: Subject) -> str:
    """How many items could not be used, in words; Failed if one is not named, or they are others a second time."""
    if not hasattr(subject.data, "bad_items"):
        return ""
    bad = list(subject.data.bad_items)
    for item in bad:
        if not str(getattr(item, "name", "")).strip() or not str(getattr(item, "reason", "")).strip():
            raise Failed(f"bad_items holds {item!r}: an item that is left out has a name and a reason (BadItem)")
    if (apart := difference(bad, list(subject.twin.bad_items))) is not None:
        raise Failed(f"a second, fresh data module leaves out other items: {apart}")
    return f"; {len(bad)} items that cannot be used are named"


def loader_resumes(subject: Subject) -> Passed:
    """A loader that is given the place of another goes on from there: a resumed run is the uninterrupted one."""
    loader = subject.data.train_dataloader()
    if not isinstance(loader, ResumableLoader):
        raise Failed(
            f"train_dataloader gives a {type(loader).__name__}, which cannot go on where it was: use "
            "framework.training.loader.ResumableLoader"
        )
    wanted = _batches(loader, BATCHES)
    for _ in range(BATCHES - 1):
        loader.consume()
    resumed = subject.twin.train_dataloader()
    resumed.load_state_dict(loader.state_dict())
    [found] = _batches(resumed, 1)
    if (apart := difference(found, wanted[-1])) is not None:
        raise Failed(
            f"after {BATCHES - 1} batches a resumed loader does not give batch {BATCHES - 1}: {apart}", BATCHES
        )
    return Passed(f"resumed after {BATCHES - 1} batches, it gives the next", BATCHES)


def _batches(loader: Any, count: int) -> list[Any]:
    return list(itertools.islice(iter(loader), count))
