"""Each fault of a data module or a network fails the check that is there for it, in words that name it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from framework.training.loader import ResumableLoader
from tests.testing.planted import Planted, condition, data, fails, network
from tests.toy import PointData, PointNet, point_config


class Shuffled(PointData):
    """Training data with noise from torch's own generator."""

    def train_dataloader(self) -> ResumableLoader:
        def collate(items: Any) -> Any:
            batch = torch.utils.data.default_collate(items)
            return {**batch, "point": batch["point"] + 0.01 * torch.randn_like(batch["point"])}

        return ResumableLoader(self.items, batch_size=8, seed=0, shuffle=True, collate_fn=collate)


class PlainLoader(PointData):
    def train_dataloader(self) -> Any:
        return torch.utils.data.DataLoader(self.items, batch_size=8)


class Forgetful(PointData):
    """A loader that always starts at the beginning."""

    def train_dataloader(self) -> ResumableLoader:
        loader = super().train_dataloader()
        loader.load_state_dict = lambda state: None  # type: ignore[method-assign]
        return loader


def leaky(self: Any, x_t: Any, level: Any, said: Any) -> Any:
    y = PointNet.forward(self, x_t, level, said)
    return y - y.mean(0)


def neighbourly(self: Any, x_t: Any, level: Any, said: Any) -> Any:
    return PointNet.forward(self, x_t + 0.5 * x_t.roll(1, 0), level, said)


def with_spare(self: Any) -> None:
    PointNet.__init__(self)
    self.spare = nn.Linear(3, 3)


FAULTS = {
    "data of the generator's mood": data(
        "loader_repeats", "is another in a second, fresh data module", Shuffled, "loader_resumes"
    ),
    "a loader without a place": data("loader_resumes", "cannot go on where it was", PlainLoader),
    "a loader that forgets": data("loader_resumes", "does not give batch 2", Forgetful),
    "a network that looks around": network("batch_invariance", "mixes rows", leaky),
    "a network that looks aside": network("order_invariance", "mixes rows", neighbourly, "batch_invariance"),
    "a dead parameter": network(
        "network_gradients",
        "2 of 9 parameters: spare.weight, spare.bias",
        PointNet.forward,
        made={"__init__": with_spare},
    ),
    "a network deaf to time": network(
        "network_inputs",
        "does not look at the noise level",
        lambda self, x_t, level, said: PointNet.forward(self, x_t, torch.zeros_like(level), said),
    ),
    "a network deaf to words": network(
        "network_inputs",
        "does not look at the condition (label)",
        lambda self, x_t, level, said: PointNet.forward(self, x_t, level, condition(label=0 * said["label"])),
    ),
    "a network of float64": network(
        "network_output",
        "torch.float64",
        lambda self, x_t, level, said: PointNet.forward(self, x_t, level, said).double(),
    ),
    "a network of another shape": network(
        "network_output",
        "rows of shape (1,) and not (2,)",
        lambda self, x_t, level, said: PointNet.forward(self, x_t, level, said)[:, :1],
        *("batch_invariance", "order_invariance"),
    ),
    "a network that learns nothing": network(
        "training_steps",
        "the loss depends on no parameter",
        lambda self, x_t, level, said: PointNet.forward(self, x_t, level, said).detach(),
        "network_gradients",
        "solvers",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_fault(name):
    fails(FAULTS[name])


def test_weights_that_are_not_saved(tmp_path):
    config = point_config(tmp_path, backbone={"_target_": f"{__name__}.Secret"})
    fails(Planted("save_and_load", "the loaded model gives other samples", network=Secret()), config)


class Secret(PointNet):
    """A network with a number that is neither a parameter nor a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.secret = torch.rand(()) * 3

    def forward(self, x_t: Any, level: Any, said: Any) -> Any:
        return super().forward(x_t, level, said) * self.secret
