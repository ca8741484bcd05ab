"""Checks of conditions: of the one that says nothing, and of those that prompts ask for."""

from __future__ import annotations

from typing import Any

import torch

from framework.errors import PromptError
from framework.modality import drop
from framework.state import Condition
from framework.testing.compare import difference, leaves, signature, signature_difference, unequal_keys
from framework.testing.subject import Failed, Passed, Skipped, Subject

PROMPTS = 4
ABSURD: tuple[Any, ...] = ("zxqv 17 !! no such thing ÿ", -123456789, {"no such field": "no such value"})


def null_condition(subject: Subject) -> Passed:
    """null keeps rows, keys, dtypes and shapes, changes nothing a second time, and leaves the space as it was; drop can
    mix it with conditions: training and guidance do so in one batch.
    """
    condition, modality = subject.condition, subject.modality
    nothing = modality.null(condition)
    if tuple(nothing.batch_size) != tuple(condition.batch_size):
        raise Failed(f"null makes batch_size {list(nothing.batch_size)} of {list(condition.batch_size)}")
    if (apart := signature_difference(nothing, condition)) is not None:
        raise Failed(f"null changes the structure of a condition: {apart}")
    if again := unequal_keys(modality.null(nothing), nothing):
        raise Failed(f"null of the null condition is another in {', '.join(again)}")
    g = subject.gaussian(5)
    sizes = [leaves(subject.space.project(g, each)) for each in (condition, nothing)]
    if difference(sizes[0], sizes[1]) is not None:
        raise Failed("null changes the space of a sample: masks and sizes must stay as they are")
    keep = torch.arange(subject.rows) % 2 == 0
    mixed = drop(condition, nothing, keep)
    for name, part in leaves(mixed).items():
        for row, kept in enumerate(keep.tolist()):
            if not torch.equal(part[row], leaves(condition if kept else nothing)[name][row]):
                raise Failed(f"drop does not mix rows of {name}")
    said = unequal_keys(condition, nothing)
    return Passed(
        f"null replaces {', '.join(said) or 'nothing'} of {', '.join(leaves(condition)) or 'nothing'}", subject.rows
    )


def prompts(subject: Subject) -> Passed:
    """parse of the data's prompts gives conditions with the keys, dtypes and shapes that encode gives: the network is
    trained on the one and sampled with the other.

    Sizes that vary between batches of the data may vary here.
    """
    asked = subject.prompts(PROMPTS)
    if len(asked) != PROMPTS:
        raise Failed(f"{PROMPTS} prompts were asked for, and {len(asked)} came")
    parsed = subject.parse(asked)
    if tuple(parsed.batch_size) != (PROMPTS,):
        raise Failed(f"parse of {PROMPTS} prompts gives batch_size {list(parsed.batch_size)}")
    if (apart := signature_difference(_fixed(subject, parsed), _fixed(subject, subject.condition))) is not None:
        raise Failed(f"what parse gives is not what encode gives: {apart} (parse {signature(parsed)})", PROMPTS)
    nothing = subject.parse([None] * 2)
    if (apart := signature_difference(_fixed(subject, nothing), _fixed(subject, subject.condition))) is not None:
        raise Failed(f"the empty prompt's condition is not what encode gives: {apart}", PROMPTS)
    return Passed(f"conditions of prompts and of data have the same {len(leaves(parsed))} parts", PROMPTS + 2)


def _fixed(subject: Subject, condition: Condition) -> Condition:
    """The condition with axes whose size varies between batches cut to nothing."""
    shapes = [signature(subject.encode(batch)[1]) for batch in subject.batches]
    cut = condition.clone(recurse=False)
    for name, part in leaves(condition).items():
        known = [shape[name][1] for shape in shapes if name in shape]
        for axis, size in enumerate(part.shape[1:]):
            if len({shape[axis] for shape in known if axis < len(shape)}) > 1 and size:
                part = part.narrow(axis + 1, 0, 0)
        cut[tuple(name.split("."))] = part
    return cut


def absurd_prompts(subject: Subject) -> Passed:
    """A prompt without a meaning raises PromptError and nothing else, whatever it is: a person reads its message.

    A modality that reads any words may read these too; what it makes of them must be a condition.
    """
    refused = []
    for prompt in ABSURD:
        try:
            made = subject.modality.parse([prompt])
        except PromptError as error:
            if not str(error):
                raise Failed(f"PromptError for the prompt {prompt!r} says nothing") from error
            refused.append(prompt)
            continue
        except Exception as error:
            raise Failed(
                f"the prompt {prompt!r} raises {type(error).__name__} ({error}), not PromptError", len(refused) + 1
            ) from error
        if tuple(made.batch_size) != (1,):
            raise Failed(f"the prompt {prompt!r} gives batch_size {list(made.batch_size)}, not [1]")
    if not leaves(subject.condition) and not refused:
        raise Skipped("without a condition there is nothing to say")
    words = ", ".join(repr(prompt) for prompt in refused)
    return Passed(f"refused with PromptError: {words or 'none'}; the others were read", len(ABSURD))
