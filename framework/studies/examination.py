"""What is found out of a run before a study: what it costs here, what is measured of it, and how its scores scatter.

It is found out once, and kept in the study's folder, so that what is planned from it stays the same.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from framework.brownian import BrownianKey
from framework.metrics.score import Score
from framework.studies.cell import Protocol, digest
from framework.studies.cost import Probe, probe, warm_up
from framework.studies.judging import catalogue, real_features
from framework.studies.runner import real_file, show
from framework.studies.runs import Opened, RunSpec, open_run
from framework.studies.store import StudyFolder

PILOT_STEPS = (8, 16)  # of two samplings of the same noise, whose differences say what a study can see
PILOT_SEED = 20262  # not one that samples are compared with


@dataclass(frozen=True)
class Examination:
    """What was found out of one run.

    Attributes:
        probe: its cost.
        metrics: what is measured of it, as study.json tells it.
        pilot: the scores of a few samples, by two samplings of the same noise.
    """

    probe: Probe
    metrics: list[dict[str, Any]]
    pilot: Sequence[Mapping[str, Score]]


def examine(spec: RunSpec, protocol: Protocol, folder: Path) -> Examination:
    """Find it out, or read what was found out before."""
    store, opened = StudyFolder(folder), open_run(spec)
    name = f"probe/{spec.file}-{digest(protocol.settles)}.json"
    kept = store.json(name) or {}
    known = Probe.of(kept.get("cost"))
    if known is not None and {"metrics", "pilot"} <= set(kept):
        return Examination(known, kept["metrics"], [_scores(scores) for scores in kept["pilot"]])
    prompts = opened.prompts(protocol.n, 0)
    warm_up(opened.model, prompts, protocol)
    features = real_features(opened, protocol, store.references / real_file(spec, protocol))
    pilot, judging, per_cell = _pilot(opened, prompts[: protocol.batch_size], protocol, features is not None)
    found = probe(opened.model, prompts, protocol, judging, per_cell)
    metrics = catalogue(opened, protocol, features, pilot[0])
    plain = [{key: {**vars(score), "values": score.values.tolist()} for key, score in each.items()} for each in pilot]
    store.write_json(name, {"run": spec.name, "cost": found.plain(), "metrics": metrics, "pilot": plain})
    return Examination(found, metrics, pilot)


def _pilot(
    opened: Opened, prompts: list[Any], protocol: Protocol, has_features: bool
) -> tuple[list[dict[str, Score]], float, float]:
    """The scores of both samplings, the seconds a sample that judging took, and those of a cell's files."""
    found, modality, judging, per_cell = [], opened.model.modality, 0.0, 0.0
    for steps in PILOT_STEPS:  # of the seconds those of the second time, since the first makes what is made once
        noise = BrownianKey if protocol.brownian else None
        drawn = opened.model.sample(prompts, seed=PILOT_SEED, steps=steps, batch_size=len(prompts), noise=noise)
        start = time.perf_counter()
        if opened.data is not None:
            found.append(modality.scores(drawn.samples, prompts, opened.data, PILOT_SEED))
            if has_features:
                modality.features(drawn.samples, opened.data)
        judging, start = time.perf_counter() - start, time.perf_counter()
        if protocol.shown:
            with tempfile.TemporaryDirectory() as folder:
                show(opened, drawn.samples[: protocol.shown], prompts[: protocol.shown], {}, Path(folder))
        per_cell = time.perf_counter() - start
    return found or [{}], judging / len(prompts), per_cell


def _scores(stored: Mapping[str, Any]) -> dict[str, Score]:
    """What JSON has kept; null is no number."""
    return {
        name: Score(**{**score, "values": np.array([np.nan if v is None else v for v in score["values"]], float)})
        for name, score in stored.items()
    }
