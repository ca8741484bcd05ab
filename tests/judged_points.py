"""Points that are judged, and models of them: small enough for whole studies in a test."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import yaml
from tensordict import TensorDict
from torch import Tensor

from experiments.configuration import compose, plain
from framework import store
from framework.metrics.score import Score, verdicts
from framework.model import Model
from framework.solvers.plan import Plan
from framework.studies.runs import Opened, RunSpec, open_run, spec_of
from tests.toy import PointData, PointNet, Points, point_config, point_model

ALLOW = ("tests.judged_points", "tests.toy")


class Judged(Points):
    """Points of the plane, judged by whether they are on their class's side, and how far they are from its middle."""

    name: ClassVar[str] = "judged points"

    def scores(self, samples: Tensor, prompts: Sequence[Any], data: Any, seed: int) -> dict[str, Score]:
        middle = 2.0 * torch.tensor([int(prompt) for prompt in prompts]) - 1
        side = (samples.sum(1) > 0) == (middle > 0)
        return {
            "side": verdicts(side.numpy(), "on its side"),
            "distance": Score((samples - middle[:, None]).norm(dim=1).numpy(), "distance to the middle", "lower"),
        }

    def features(self, samples: Tensor, data: Any) -> np.ndarray:
        return samples.numpy().astype(np.float32)

    def real(self, data: PointData, n: int, seed: int) -> tuple[Tensor, list[int]]:
        rows = torch.arange(n) % len(data.items)
        return data.items.points[rows], data.items.labels[rows].tolist()


class Broken:
    """A solver that fails when it is to plan more than one step."""

    order, evaluations_per_step, stochastic = 1, 1, False

    def plan(self, schedule: Any, times: Tensor) -> Plan:
        from framework.solvers.ddim import DDIM

        if len(times) > 5:
            raise RuntimeError("more steps than it can count")
        return DDIM().plan(schedule, times)


class LabelledNet(PointNet):
    """Pulls towards the class's middle, so that samples have a side."""

    def forward(self, x_t: Tensor, noise_level: Tensor, condition: TensorDict) -> Tensor:
        side = (2.0 * condition["label"].float() - 1) * (condition["label"] < 2)
        return super().forward(x_t, noise_level, condition) - 0.5 * side[:, None]


def save_run(folder: Path, seed: int = 0, name: str = "points") -> Path:
    """A run's folder, with a model of random weights that a seed chooses."""
    model = point_model()
    torch.manual_seed(seed)
    model = Model(Judged(), LabelledNet(dropout=0.0), model.schedule, model.parametrization)
    config = point_config(folder, seed=seed, name=name)
    config["modality"] = {"_target_": "tests.judged_points.Judged"}
    config["backbone"] = {"_target_": "tests.judged_points.LabelledNet", "dropout": 0.0}
    guidance = {"_target_": "framework.guidance.classifier_free.ClassifierFree", "scale": 2.0}
    config["defaults"] = {"solver": {"_target_": "framework.solvers.ddim.DDIM"}, "steps": 6, "guidance": guidance}
    store.save(model, config, folder / "model", "card")
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return folder


def spec(folder: Path, **changes: Any) -> RunSpec:
    """The spec of such a run."""
    return spec_of(folder, data={"_target_": "tests.toy.PointData"}, allow=ALLOW, **changes)


def opened(folder: Path) -> Opened:
    return open_run(spec(folder))


def settings(out: Path, runs: Sequence[Path], *overrides: str) -> dict[str, Any]:
    """The configuration of a small study of such runs."""
    named = f"runs=[{','.join(map(str, runs))}]"
    small = ["study.n=8", "study.seeds=[0,1]", "study.budgets=[4,8]", "study.real=32", "study.shown=1", "batch_size=4"]
    solvers = "study.solvers=[euler,dpmpp_2m,sde_dpmpp_2m]"
    given = [named, f"out={out}", f"allow=[{','.join(ALLOW)}]", solvers, *small, *overrides]
    config = plain(compose("compare", given))
    config["device"] = "cpu"
    return config
