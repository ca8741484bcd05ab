"""Each fault of a modality with tokens fails the check that is there for it, in words that name it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from typing import Any

import pytest
import torch
from tensordict import TensorDict

from framework.categories import Categories, Nodes, Pairs
from framework.modality import Symmetry
from framework.solvers.dpmpp import DPMpp2M
from framework.spaces import Product
from framework.testing import CHECKS
from tests.testing.planted import changed
from tests.testing.token_toys import KINDS, GraphNet, Graphs, check_graphs, permuted

TURNS = count()  # the state of a change that is to be a function of its seed


def faulty(kind: type, classes: int, layout: Any, **methods: Any) -> Any:
    return type("FaultySpace", (kind,), methods)(classes, layout)


def with_space(**parts: Any) -> property:
    return property(lambda self: Product({**Graphs().space.components, **parts}))


def encoded(change: Any) -> Any:
    """An encode whose state is changed at the end."""

    def encode(self: Any, batch: Any) -> Any:
        state, condition = Graphs.encode(self, batch)
        change(state, condition)
        return state, condition

    return encode


def lone(state: Any, condition: Any) -> None:
    state["links"][:, 0, 1] = 1 - state["links"][:, 0, 1]


def litter(state: Any, condition: Any) -> None:
    state["kinds"][~condition["mask"]] = 1


def one_more(state: Any, condition: Any) -> None:
    state["kinds"][0, 0] = KINDS


def forgets(self: Any, state: Any, condition: Any) -> Any:
    samples = Graphs.decode(self, state, condition)
    samples[0] = {**samples[0], "kinds": (samples[0]["kinds"] + (torch.arange(len(samples[0]["kinds"])) == 0)) % KINDS}
    return samples


def leaky(self: Any, x_t: Any, level: Any, said: Any) -> Any:
    y = GraphNet.forward(self, x_t, level, said)
    y["kinds"] = y["kinds"] - y["kinds"].mean(0)
    return y


def neighbourly(self: Any, x_t: Any, level: Any, said: Any) -> Any:
    y = GraphNet.forward(self, x_t, level, said)
    y["links"] = y["links"] + 0.1 * y["links"].roll(1, 0)
    return y


def deaf(self: Any, x_t: Any, level: Any, said: Any) -> Any:
    silent = TensorDict({**dict(x_t.items()), "links": 0 * x_t["links"]}, batch_size=x_t.batch_size)
    return GraphNet.forward(self, silent, level, said)


def ordered(self: Any, x_t: Any, level: Any, said: Any) -> Any:
    y = GraphNet.forward(self, x_t, level, said)
    y["kinds"] = y["kinds"] + 1e-6 * torch.arange(y["kinds"].shape[1])[:, None]
    return y


def certain(self: Any, x_t: Any, level: Any, said: Any) -> Any:
    y = GraphNet.forward(self, x_t, level, said)
    y["kinds"] = y["kinds"].argmax(-1)
    return y


def one_draw(self: Any, key: Any, said: Any) -> Any:
    alike = key.uniform((1,), torch.zeros((), dtype=torch.float64)).expand(-1, said["mask"].shape[1])
    return torch.where(said["mask"], alike, 0.0)


def both_draws(self: Any, key: Any, said: Any) -> Any:
    n = said["mask"].shape[1]
    drawn = key.uniform((n, n), torch.zeros((), dtype=torch.float64))
    return torch.where(Categories.project(self, torch.ones_like(drawn), said) > 0, drawn, 0.0)


def lower(self: Any, x: Any, said: Any) -> Any:
    """Tokens of pairs by their lower entry, and probabilities by the upper one."""
    return Categories.project(self, x if not x.is_floating_point() or x.ndim < 4 else x.roll(1, 3), said)


NETWORK = {"network_output", "network_inputs", "network_gradients", "batch_invariance", "order_invariance"}


@dataclass
class Fault:
    """A fault, the check that finds it and its words, and what else it breaks."""

    check: str
    words: str
    modality: Any = None
    network: Any = None
    besides: frozenset[str] = frozenset()


def fault(check: str, words: str, *besides: str, net: Any = None, **methods: Any) -> Fault:
    torch.manual_seed(0)
    network = changed(GraphNet, forward=net) if net is not None else None
    return Fault(check, words, changed(Graphs, **methods) if methods else None, network, frozenset(besides))


FAULTS = {
    "pairs whose entries differ": fault("encoding", "entries of a pair must be equal", "oracle", encode=encoded(lone)),
    "padding that is a token": fault("encoding", "entries of padding are not zero", "oracle", encode=encoded(litter)),
    "a token of no class": fault(
        "encoding",
        "1 of 60 tokens are none of the 3 classes (they reach from 0 to 3)",
        *("decoding", "round_trip", "oracle", "training_steps", "solvers"),
        encode=encoded(one_more),
    ),
    "a codec that loses a token": fault("round_trip", "1 of 60 tokens of kinds", decode=forgets),
    "a network that looks around": fault("batch_invariance", "it mixes rows", net=leaky),
    "a network that looks aside": fault("order_invariance", "it mixes rows", "batch_invariance", net=neighbourly),
    "a network deaf to links": fault("network_inputs", "does not look at the state (links)", net=deaf),
    "a network that sees the order": fault("symmetries", "has not the symmetry of permutation", net=ordered),
    "a network that says tokens": fault(
        "network_output",
        "kinds ends with 3 logits",
        *(NETWORK | {"symmetries", "training_steps", "solvers"}),
        net=certain,
    ),
    "uniforms beyond 1": fault(
        "noise",
        "are not in [0, 1)",
        space=with_space(
            kinds=faulty(Categories, KINDS, Nodes(), noise=lambda self, key, c: 1.5 * Categories.noise(self, key, c))
        ),
    ),
    "uniforms that are not even": fault(
        "noise",
        "times the variance of standard noise",
        space=with_space(
            kinds=faulty(Categories, KINDS, Nodes(), noise=lambda self, key, c: Categories.noise(self, key, c) ** 2)
        ),
    ),
    "one draw for all": fault(
        "degrees_of_freedom",
        "degrees of freedom of kinds, and its noise has 1 different numbers",
        space=with_space(kinds=faulty(Categories, KINDS, Nodes(), noise=one_draw)),
    ),
    "two draws for a pair": fault(
        "noise",
        "noise is not in the space",
        "degrees_of_freedom",
        space=with_space(links=faulty(Categories, 2, Pairs(), noise=both_draws)),
    ),
    "free entries miscounted": fault(
        "degrees_of_freedom",
        "degrees of freedom of links",
        space=with_space(
            links=faulty(
                Categories, 2, Pairs(), degrees_of_freedom=lambda self, c: 2 * Categories.degrees_of_freedom(self, c)
            )
        ),
    ),
    "probabilities that go elsewhere": fault(
        "projection",
        "project is not idempotent",
        space=with_space(links=faulty(Categories, 2, Pairs(), project=lower)),
    ),
    "a symmetry that is none": fault(
        "symmetries",
        "stillness leaves every state as it is",
        symmetries=lambda self, network: [Symmetry("stillness", lambda state, condition, seed: state)],
    ),
    "a symmetry that leaves the space": fault(
        "symmetries",
        "takes states out of their space",
        symmetries=lambda self, network: [
            Symmetry("shift", lambda s, condition, seed: s.clone().update({"points": s["points"] + 1.0}))
        ],
    ),
    "a symmetry of the batch": fault(
        "symmetries",
        "is another change when it is made a second time",
        symmetries=lambda self, network: [
            Symmetry("chance", lambda s, condition, seed: permuted(s, condition, next(TURNS)))
        ],
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_fault(name):
    planted = FAULTS[name]
    names = list(CHECKS)
    asks_network = planted.modality is None or "symmetries" in vars(type(planted.modality))
    middle = names.index("oracle")
    if asks_network:
        names = names[middle + 1 :]
    elif planted.check != "encoding":  # the oracle takes its time
        names = names[:middle]
    report = check_graphs(planted.modality, planted.network, solvers={"DPMpp2M": DPMpp2M()}, only=names)
    found = {result.name: result.detail for result in report.failures}
    assert planted.words in found.get(planted.check, ""), found
    assert set(found) <= {planted.check, *planted.besides}, found
