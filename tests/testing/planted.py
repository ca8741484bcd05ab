"""A modality with a fault in it, and what finds it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from tensordict import TensorDict

from framework.build import Allow
from framework.solvers.dpmpp import DPMpp2M
from framework.spaces import Euclidean
from framework.testing import check_modality
from tests.testing.toys import SetData, SetNet, Sets, SoundPoints
from tests.toy import PointData, PointNet

ALLOW = Allow(packages=("framework", "tests"))
NETWORKS = (
    "network_output",
    "network_inputs",
    "network_gradients",
    "batch_invariance",
    "order_invariance",
    "training_steps",
    "solvers",
)
SOLVERS = {"DPMpp2M": DPMpp2M()}


def changed(base: type, **methods: Any) -> Any:
    """An object of a class like `base` with other methods."""
    return type(f"Faulty{base.__name__}", (base,), methods)()


@dataclass
class Planted:
    """A modality with a fault, and the check that finds it."""

    check: str
    words: str
    modality: Any = None
    data: Any = None
    network: Any = None
    besides: frozenset[str] = frozenset()  # what the fault breaks too
    solvers: Any = None


def points(check: str, words: str, *besides: str, solvers: Any = None, **methods: Any) -> Planted:
    return Planted(check, words, changed(SoundPoints, **methods), besides=frozenset(besides), solvers=solvers)


def sets(check: str, words: str, *besides: str, **methods: Any) -> Planted:
    return Planted(check, words, changed(Sets, **methods), SetData, SetNet(), frozenset(besides))


def data(check: str, words: str, module: Callable[[], Any], *besides: str) -> Planted:
    return Planted(check, words, data=module, besides=frozenset(besides))


def network(check: str, words: str, forward: Any, *besides: str, made: Any = None) -> Planted:
    return Planted(check, words, network=changed(PointNet, forward=forward, **(made or {})), besides=frozenset(besides))


def condition(**parts: torch.Tensor) -> TensorDict:
    return TensorDict(parts, batch_size=[len(next(iter(parts.values())))])


def space(kind: type, **methods: Any) -> property:
    made = type("FaultySpace", (kind,), methods)
    return property(lambda self: made((2,)) if kind is Euclidean else made(2))


def fails(planted: Planted, config: Any = None) -> None:
    """Assert that the check that is there for the fault fails, in words that name it, and none but those it breaks."""
    report = check_modality(
        planted.modality or SoundPoints(),
        planted.data or PointData(),
        planted.network or PointNet(),
        solvers=planted.solvers or SOLVERS,
        config=config,
        allow=ALLOW,
        thorough=True,
    )
    found = {result.name: result.detail for result in report.failures}
    assert planted.words in found.get(planted.check, ""), found
    assert set(found) <= {planted.check, *planted.besides}, found
