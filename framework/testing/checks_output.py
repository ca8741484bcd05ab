"""Checks of what people see: files, pictures and measurements."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch

from framework.metrics.measurement import Measurement
from framework.modality import Modality
from framework.noise import SampleKey
from framework.state import Condition
from framework.testing.compare import leaves, unequal_keys
from framework.testing.subject import Failed, Passed, Skipped, Subject

PICTURES = {b"\x89PNG\r\n\x1a\n": "PNG", b"\xff\xd8\xff": "JPEG", b"GIF8": "GIF"}
MARK = "conformance-kit-mark"
JUDGED = 64  # real items that are judged in place of samples
WORSE = 0.25  # of what noise loses against the ceiling: what real items may lose
SEED = 0


def rendering(subject: Subject) -> Passed:
    """render writes files into an empty folder, all there, none empty, none elsewhere, the last of them a picture: this
    is all that a person sees of a sample.
    """
    samples = subject.modality.decode(subject.state, subject.condition)
    count = min(subject.rows, 3)
    asked = list(subject.modality.prompts(subject.data, count, 0))
    rows = [{"prompt": str(prompt), "index": str(i), "mark": f"{MARK}-{i}"} for i, prompt in enumerate(asked)]
    with subject.place("rendered") as place:
        folder = Path(place).resolve()
        files = [Path(file) for file in subject.modality.render(samples[:count], asked, folder, rows)]
        if not files:
            raise Failed("render wrote nothing: it returned no files", count)
        for file in files:
            if not file.is_file():
                raise Failed(f"render returned {file.name}, which it did not write")
            if file.stat().st_size == 0:
                raise Failed(f"render wrote {file.name} with nothing in it")
            if folder not in file.resolve().parents:
                raise Failed(f"render wrote {file}, which is not in the folder that it was given")
        contents = [file.read_bytes() for file in files]
        kind = next((name for head, name in PICTURES.items() if contents[-1].startswith(head)), None)
        if kind is None:
            raise Failed(
                f"the last file, {files[-1].name}, is no picture: it starts like no {', '.join(PICTURES.values())}"
            )
        marked = sum(any(f"{MARK}-{i}".encode() in content for content in contents) for i in range(count))
    kinds = ", ".join(sorted({file.suffix for file in files}))
    return Passed(
        f"{len(files)} files ({kinds}), a {kind} last; {marked} of {count} samples' metadata in plain", len(files)
    )


def evaluation(subject: Subject) -> Passed:
    """evaluate gives Measurements, and real data in place of samples come near the ceiling: of what noise loses against
    it, they lose at most a quarter.

    Where a batch does not say which prompts its items answer, it cannot be asked.
    """
    modality, data = subject.modality, subject.data
    if type(modality).evaluate is Modality.evaluate:
        raise Skipped("the modality measures nothing")
    if not subject.thorough:
        raise Skipped("to judge may mean to train a judge first: it is done with thorough=True alone (fast=false)")
    samples, noises, asked = _real(subject)
    count = len(asked)
    real = modality.evaluate(samples, asked, data, SEED, {})
    if wrong := [name for name, value in real.items() if not isinstance(value, Measurement)]:
        raise Failed(f"evaluate gives {', '.join(wrong)}, which is no Measurement", count)
    ceilings = {name: real[f"ceiling/{name}"].value for name in real if f"ceiling/{name}" in real}
    if not ceilings:
        raise Skipped(f"of {len(real)} measurements none has a ceiling/NAME beside it")
    noise = modality.evaluate(noises, asked, data, SEED, {})
    return _judge(real, ceilings, noise, count)


def _judge(
    real: dict[str, Measurement], ceilings: dict[str, float], noise: dict[str, Measurement], count: int
) -> Passed:
    told, wrong = [], []
    for name, ceiling in ceilings.items():
        value, worst = real[name].value, noise[name].value
        width = real[name].high - real[name].low
        if not all(map(math.isfinite, (value, ceiling, worst))) or abs(worst - ceiling) <= width:
            continue  # too few items, or a metric that does not tell noise from data
        lost = (value - ceiling) / (worst - ceiling)
        told.append(f"{name} {lost:+.2f}")
        if lost > WORSE and abs(value - ceiling) > width:
            wrong.append(f"{name} is {value:.4g}, the ceiling {ceiling:.4g} and that of noise {worst:.4g}")
    if wrong:
        raise Failed(f"{count} real items fall short of the ceiling: {'; '.join(wrong)}", count)
    if not told:
        raise Skipped(f"no measurement tells noise from {count} real items")
    return Passed(f"of what noise loses, real items lose: {', '.join(told)}", count)


def _real(subject: Subject) -> tuple[Any, Any, list[Any]]:
    """Held-out items as samples, samples of pure noise of their sizes, and the prompts that the items answer."""
    end, modality = torch.ones((), dtype=torch.float64), subject.modality
    samples, noises = [], []
    asked: list[Any] = []
    for batch in subject.data.val_dataloader():  # each may be padded in a way of its own
        state, condition = subject.encode(batch)
        said = _said(subject, batch, condition)
        rows = min(len(said), JUDGED - len(asked))
        state, condition, begun = state[:rows], condition[:rows], len(asked)
        noise = subject.process.prior(end, SampleKey(19, tuple(range(begun, begun + rows))), condition)
        samples.append(modality.decode(state, condition))
        noises.append(modality.decode(noise, condition))
        asked += said[:rows]
        if len(asked) >= JUDGED:
            break
    return modality.join(samples), modality.join(noises), asked


def _said(subject: Subject, batch: Any, condition: Condition) -> list[Any]:
    """The prompts of a batch's items: the entry of the batch that parses to their own condition."""
    count = len(condition)
    said = unequal_keys(condition, subject.modality.null(condition))
    if not said:
        return [None] * count
    for values in batch.values() if hasattr(batch, "values") else ():
        given = values.tolist() if hasattr(values, "tolist") else values
        if not isinstance(given, list) or len(given) != count:
            continue
        try:
            parsed = leaves(subject.modality.parse(given))
        except Exception:  # what is no prompt may fail in any way
            continue
        if all(name in parsed and parsed[name].equal(leaves(condition)[name]) for name in said):
            return given
    raise Skipped("no entry of a batch says which prompts its items answer")
