"""What samples are judged by: scores of each, distances of all of them from real items, and what is reachable."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load as parse
from safetensors.numpy import save as format_tensors

from framework.files import write_atomically
from framework.metrics.frechet import Moments, frechet_distance
from framework.metrics.kernel import squared_mmd
from framework.metrics.precision_recall import DENSITY_NEIGHBOURS, overlap
from framework.metrics.score import Score
from framework.studies.cell import Protocol
from framework.studies.reference import has_reference
from framework.studies.runs import Opened

HELD_OUT = 256  # real items in the samples' place
BLOCKS = 10  # of samples, by index, that are left out in turn: the same of every method
SEED = 20261  # of the real items: not one that samples are drawn with
LEAST = DENSITY_NEIGHBOURS + 1  # samples, for distances of sets
ERROR = {"name": "error", "label": "error to the exact solution", "better": "lower", "kind": "value", "unit": ""}
SETS: dict[str, dict[str, str]] = {
    "frechet": {"label": "Fréchet distance to real data", "better": "lower"},
    "kid": {"label": "kernel distance to real data (unbiased)", "better": "lower"},
    "coverage": {"label": "share of real data that samples cover", "better": "higher"},
}


def real_features(opened: Opened, protocol: Protocol, file: Path) -> np.ndarray | None:
    """The features of real items, from `file` if they are there; None if there are none."""
    if not protocol.keeps_any(SETS):
        return None
    if file.is_file():
        kept: np.ndarray = parse(file.read_bytes())["features"]
        return kept if len(kept) else None
    found = None
    if opened.data is not None:
        real = opened.model.modality.real(opened.data, protocol.real + HELD_OUT, SEED)
        if real is not None:
            found = opened.model.modality.features(real[0], opened.data)
    kept = np.zeros((0, 0), np.float32) if found is None else np.ascontiguousarray(found, np.float32)
    write_atomically(file, lambda out: out.write(format_tensors({"features": kept})))
    return found


def catalogue(
    opened: Opened, protocol: Protocol, features: np.ndarray | None, trial: dict[str, Score]
) -> list[dict[str, Any]]:
    """What is measured of a run, as study.json tells it, with what real items reach; `trial` are samples' scores."""
    found: list[dict[str, Any]] = [{**ERROR, "ceiling": None}] if has_reference(opened.model) else []
    ceilings: dict[str, Score] = {}
    if opened.data is not None and trial:
        real = opened.model.modality.real(opened.data, protocol.n, SEED + 1)
        ceilings = {} if real is None else opened.model.modality.scores(real[0], real[1], opened.data, SEED)
    for name, score in trial.items():
        ceiling = float(np.nanmean(ceilings[name].values)) if _known(ceilings.get(name)) else None
        words = {"label": score.label, "better": score.better, "kind": score.kind, "unit": score.unit}
        found.append({"name": name, **words, "ceiling": ceiling})
    if features is not None:
        compared, held_out = parts_of_real(features)
        reachable = set_metrics(held_out[: protocol.n], compared)
        found += [
            {"name": name, **words, "kind": "set", "unit": "", "ceiling": reachable[name]}
            for name, words in SETS.items()
        ]
    return [entry for entry in found if protocol.keeps(entry["name"])]


def parts_of_real(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Those that samples are held against, and those that take the samples' place for the ceiling."""
    held_out = min(HELD_OUT, len(features) // 3)
    return features[: len(features) - held_out], features[len(features) - held_out :]


def _known(score: Score | None) -> bool:
    return score is not None and bool(np.isfinite(score.values).any())


def set_metrics(features: np.ndarray, real: np.ndarray) -> dict[str, float]:
    """The distances of SETS of features (n, D) from those of real items; NaN of too few, or of what is no number."""
    if min(len(features), len(real)) < LEAST or not np.isfinite(features).all():
        return dict.fromkeys(SETS, math.nan)
    x, y = features.astype(np.float64), real.astype(np.float64)
    return {
        "frechet": frechet_distance(Moments.of(x), Moments.of(y)),
        "kid": squared_mmd(x, y),
        "coverage": float(overlap(x, y).coverage.mean()),
    }


def without_blocks(features: np.ndarray, real: np.ndarray) -> dict[str, list[float]]:
    """The distances of SETS without each block of samples; {} of too few samples."""
    if len(features) < 2 * BLOCKS:
        return {}
    block = np.arange(len(features)) % BLOCKS
    found = [set_metrics(features[block != b], real) for b in range(BLOCKS)]
    return {name: [each[name] for each in found] for name in SETS}
