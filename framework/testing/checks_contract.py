"""Checks of what a modality declares, encodes and decodes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor

from framework.modality import API_VERSION, Modality
from framework.state import State, batch_size
from framework.testing.compare import difference, gap, leaves
from framework.testing.round_trips import compare, through_files
from framework.testing.subject import Failed, Passed, Subject
from framework.testing.tokens import probabilities

REQUIRED = ("encode", "decode", "parse", "null", "render", "join")
SCALE = (0.1, 10.0)  # the standard deviations between which a state is of about unit scale


def contract(subject: Subject) -> Passed:
    """The modality speaks this version of the contract, has a name, all its methods, and a space with three of its own:
    everything else relies on them.
    """
    modality = subject.modality
    if not isinstance(modality, Modality):
        raise Failed(f"{type(modality).__name__} is no framework.modality.Modality")
    if modality.api_version != API_VERSION:
        raise Failed(f"it speaks version {modality.api_version} of the contract; this is version {API_VERSION}")
    if not isinstance(getattr(modality, "name", None), str) or not modality.name:
        raise Failed("it has no name: a modality needs `name`, a word")
    missing = [name for name in REQUIRED if not callable(getattr(modality, name, None))]
    missing += [f"space.{name}" for name in ("noise", "project") if not callable(getattr(modality.space, name, None))]
    if missing or not callable(getattr(modality.space, "degrees_of_freedom", None)):
        raise Failed(f"it has no {', '.join(missing) or 'space.degrees_of_freedom'}")
    return Passed(f"version {API_VERSION}, {modality.name!r}, {len(REQUIRED)} methods and a space", len(REQUIRED) + 3)


def encoding(subject: Subject) -> Passed:
    """encode gives finite floats of about unit scale, or tokens of the space's classes, that lie in the space, and a
    condition of as many rows: noise has unit variance, and a sampler projects after every stage.
    """
    state, condition = subject.modality.encode(subject.batches[0])
    if not isinstance(condition, TensorDict):
        raise Failed(f"encode gives a {type(condition).__name__} as condition, not a TensorDict")
    rows = batch_size(state)
    if rows < 1 or tuple(condition.batch_size) != (rows,):
        raise Failed(f"the state has {rows} rows and the condition batch_size {list(condition.batch_size)}")
    if not isinstance(state, Tensor) and tuple(state.batch_size) != (rows,):
        raise Failed(f"the state of components has batch_size {list(state.batch_size)} and not [{rows}]")
    for name, part in leaves(state).items():
        if name in subject.tokens:
            _check_tokens(name, part, subject.tokens[name].classes)
            continue
        if not part.is_floating_point():
            raise Failed(f"{name} is {part.dtype}; states are floats, or tokens where the space is Categories")
        if bad := int((~torch.isfinite(part)).sum()):
            raise Failed(f"{name}: {bad} of {part.numel()} entries are not finite", rows)
    _in_space(subject)
    spreads = _spreads(subject.state, subject.support())
    words = ", ".join(f"{name} {spread:.3g}" for name, spread in spreads.items())
    found = [_seen(name, part, subject) for name, part in leaves(subject.state).items() if name in subject.tokens]
    for name, spread in spreads.items():
        if not SCALE[0] <= spread <= SCALE[1]:
            raise Failed(
                f"the standard deviation of {name} is {spread:.3g}, outside of {SCALE[0]} to {SCALE[1]}: scale what "
                "encode gives to about 1, as the noise has",
                rows,
            )
    told = [*([f"standard deviations: {words}"] if spreads else []), *found]
    return Passed(f"{rows} rows in the space; {'; '.join(told)}", rows)


def _check_tokens(name: str, part: Tensor, classes: int) -> None:
    if part.dtype != torch.int64:
        raise Failed(f"{name} is {part.dtype}; tokens are torch.int64")
    if wrong := int(((part < 0) | (part >= classes)).sum()):
        raise Failed(
            f"{name}: {wrong} of {part.numel()} tokens are none of the {classes} classes (they reach from "
            f"{int(part.min())} to {int(part.max())})"
        )


def _seen(name: str, part: Tensor, subject: Subject) -> str:
    real = part[leaves(subject.support())[name]]
    return f"{name}: {len(real.unique())} of {subject.tokens[name].classes} classes"


def _in_space(subject: Subject) -> None:
    """Failed if a state is not its own projection: exactly where the space is zero, to rounding elsewhere."""
    state, support = subject.state, leaves(subject.support())
    projected = subject.space.project(state, subject.condition)
    for name, part in leaves(state).items():
        outside = part[~support[name]]
        if wrong := int((outside != 0).sum()):
            raise Failed(
                f"{name} is not in its space: {wrong} of {outside.numel()} entries of padding are not zero (up to "
                f"{float(outside.abs().max()):.3g}); let encode end with self.space.project(state, condition)",
                subject.rows,
            )
    for name in subject.tokens:
        here, there = leaves(state)[name], leaves(projected)[name]
        if wrong := int((here != there).sum()):
            raise Failed(
                f"{name} is not in its space: projection changes {wrong} of {here.numel()} tokens; the two entries of "
                "a pair must be equal",
                subject.rows,
            )
    if (apart := gap(projected, state)) > 1e-5:
        raise Failed(f"the states are not in their space: projection moves them by {apart:.3g} of their size")


def _spreads(state: State, support: State) -> dict[str, float]:
    real = leaves(support)
    floats = {name: part for name, part in leaves(state).items() if part.is_floating_point()}
    return {name: float(part[real[name]].double().std(correction=0)) for name, part in floats.items()}


def decoding(subject: Subject) -> Passed:
    """decode gives as many samples as states, also of pure noise and of predictions, whose tokens are probabilities;
    they can be counted, sliced and joined again: samples are drawn in batches, and shown in part.
    """
    modality, rows = subject.modality, subject.rows
    end = torch.ones((), dtype=torch.float64)
    sets = {"encoded data": subject.state, "pure noise": subject.process.prior(end, subject.key, subject.condition)}
    if subject.tokens:
        said = probabilities(subject.said(torch.arange(rows), 21), subject.tokens)
        sets["a prediction"] = subject.space.project(said, subject.condition)
    for what, state in sets.items():
        samples = modality.decode(state, subject.condition)
        if (count := _count(samples)) != rows:
            raise Failed(f"decode gives {count} samples of {rows} states ({what})", rows)
        cut = max(rows // 2, 1)
        try:
            parts = [samples[:cut], samples[cut:]] if rows > 1 else [samples[:cut]]
        except Exception as error:
            raise Failed(
                f"samples ({type(samples).__name__}) cannot be sliced: {type(error).__name__}: {error}"
            ) from error
        if [_count(part) for part in parts] != [cut, rows - cut][: len(parts)]:
            raise Failed(f"samples[:{cut}] and samples[{cut}:] have {[_count(part) for part in parts]} of {rows}")
        joined = modality.join(parts)
        if (count := _count(joined)) != rows:
            raise Failed(f"join makes {count} samples of {rows} in {len(parts)} parts ({what})", rows)
        apart = difference(joined, samples) and difference(joined, modality.join([samples]))  # it may pad anew
        if apart is not None:
            raise Failed(f"join of the parts is not the whole ({what}): {apart}", rows)
    return Passed(f"{rows} samples of {', of '.join(sets)}, sliced and joined", len(sets) * rows)


def _count(samples: Any) -> int:
    try:
        return len(samples)
    except TypeError as error:
        raise Failed(f"samples ({type(samples).__name__}) have no length") from error


def round_trip(subject: Subject) -> Passed:
    """What is decoded and encoded again is where it was, to a twentieth of its size, and each token what it was: what a
    codec loses, no model can give back.

    Samples are put into the batch in the place of what has their type and shape; `rebatch` says how where none has.
    Where that is not clear, samples are written and read again, if the modality reads its files.
    """
    batch = subject.batches[0]
    state, condition = subject.encode(batch)
    samples = subject.modality.decode(state, condition)
    again = subject.rebatch(samples, batch) if subject.rebatch is not None else _rebatched(samples, batch)
    if again is None:
        return through_files(subject, samples, state)
    returned, _ = subject.modality.encode(again)
    rows = batch_size(state)
    words = compare(state, returned, rows, "decoding and encoding again")
    return Passed(f"decoding and encoding again changes {words}", rows)


def _rebatched(samples: Any, batch: Any) -> Any:
    """The batch with each tensor of the samples in the place of the one entry that is like it; None if that is unclear.

    Samples that are shorter than what they replace are padded with zeros.
    """
    if not isinstance(batch, Mapping):
        return None
    if isinstance(samples, Tensor):
        given = [samples]
    elif dataclasses.is_dataclass(samples) and not isinstance(samples, type):
        values = [getattr(samples, field.name) for field in dataclasses.fields(samples)]
        given = [value for value in values if isinstance(value, Tensor)]
    else:
        return None
    again = dict(batch)
    for part in given:
        alike = [key for key, value in batch.items() if _fits(part, value)]
        alike = [key for key in alike if batch[key].shape == part.shape] or alike
        if len(alike) != 1:
            return None
        padding = [n for old, new in zip(batch[alike[0]].shape, part.shape, strict=True) for n in (old - new, 0)]
        again[alike[0]] = torch.nn.functional.pad(part, padding[::-1])
    return again if given else None


def _fits(part: Tensor, value: Any) -> bool:
    return (
        isinstance(value, Tensor)
        and value.dtype == part.dtype
        and value.ndim == part.ndim
        and len(value) == len(part)
        and all(new <= old for old, new in zip(value.shape, part.shape, strict=True))
    )
