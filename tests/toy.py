"""A modality of two numbers: small enough to train in a test, complete enough to go through everything."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import lightning as L
import torch
from tensordict import TensorDict
from torch import Tensor, nn

from framework.modality import Modality
from framework.model import Model
from framework.objectives.distances import MSE
from framework.objectives.objective import Objective
from framework.objectives.times import Uniform
from framework.objectives.weightings import Constant
from framework.parametrizations import V
from framework.schedules import Flow
from framework.spaces import Euclidean
from framework.training.loader import ResumableLoader
from framework.training.module import DiffusionTraining
from framework.training.optimizer import AdamW


class Points(Modality):
    """Points of the plane, each of class 0 or 1; 2 is the null class."""

    name: ClassVar[str] = "points"

    @property
    def space(self) -> Euclidean:
        return Euclidean((2,))

    def encode(self, batch: Mapping[str, Any]) -> tuple[Tensor, TensorDict]:
        return batch["point"], TensorDict({"label": batch["label"]}, batch_size=[len(batch["label"])])

    def decode(self, state: Any, condition: TensorDict) -> Tensor:
        return state.float().cpu()

    def join(self, parts: Sequence[Tensor]) -> Tensor:
        return torch.cat(list(parts))

    def parse(self, prompts: Sequence[Any]) -> TensorDict:
        labels = [2 if prompt == "" else int(prompt) for prompt in prompts]
        return TensorDict({"label": torch.tensor(labels)}, batch_size=[len(labels)])

    def null(self, condition: TensorDict) -> TensorDict:
        return TensorDict({"label": torch.full_like(condition["label"], 2)}, batch_size=condition.batch_size)

    def render(
        self, samples: Any, prompts: Sequence[Any], folder: Path, metadata: Sequence[Mapping[str, str]]
    ) -> list[Path]:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "points.json").write_text(json.dumps(samples.tolist()))
        return [folder / "points.json"]


class PointNet(nn.Module):
    """A perceptron with dropout, so that a resumed run has to repeat the layers' randomness too."""

    def __init__(self, width: int = 32, dropout: float = 0.1) -> None:
        super().__init__()
        self.label = nn.Embedding(3, width)
        self.first = nn.Linear(3, width)
        self.rest = nn.Sequential(
            nn.SiLU(), nn.Dropout(dropout), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 2)
        )

    def forward(self, x_t: Tensor, noise_level: Tensor, condition: TensorDict) -> Tensor:
        x = torch.cat([x_t, noise_level[:, None] / 1000], dim=1).to(self.first.weight.dtype)
        return self.rest(self.first(x) + self.label(condition["label"]))


class PointSet(torch.utils.data.Dataset[dict[str, Tensor]]):
    """Two separated clouds; `poison` is an index whose point is not a number."""

    def __init__(self, size: int = 96, poison: Sequence[int] = ()) -> None:
        generator = torch.Generator().manual_seed(0)
        self.labels = torch.arange(size) % 2
        self.points = torch.randn(size, 2, generator=generator) * 0.2 + (2.0 * self.labels - 1)[:, None]
        self.points[list(poison)] = float("nan")

    def __len__(self) -> int:
        return len(self.points)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"point": self.points[index], "label": self.labels[index]}


class PointData(L.LightningDataModule):
    def __init__(
        self,
        size: int = 96,
        poison: Sequence[int] = (),
        batch_size: int = 8,
        num_workers: int = 0,
        validation_size: int = 16,
    ) -> None:
        super().__init__()
        self.validation = PointSet(validation_size)
        self.items, self.batch_size, self.num_workers = PointSet(size, poison), batch_size, num_workers

    def train_dataloader(self) -> ResumableLoader:
        return ResumableLoader(
            self.items, batch_size=self.batch_size, seed=0, shuffle=True, num_workers=self.num_workers
        )

    def val_dataloader(self) -> ResumableLoader:
        return ResumableLoader(self.validation, batch_size=8, seed=0, shuffle=False)

    def prompts(self, n: int, seed: int) -> list[int]:
        return [i % 2 for i in range(n)]

    def reference(self, n: int, seed: int) -> Tensor:
        return PointSet(n).points


def point_model(dropout: float = 0.1) -> Model:
    torch.manual_seed(0)
    return Model(Points(), PointNet(dropout=dropout), Flow(), V())


def point_training(**settings: Any) -> DiffusionTraining:
    objective = Objective(Uniform(), Constant(), MSE())
    return DiffusionTraining(
        point_model(), objective, AdamW(lr=1e-2, warmup_steps=3, final=0.0), half_life=200, **settings
    )


def point_config(run: Path, **changes: Any) -> dict[str, Any]:
    """The plain configuration of a run on points, as `framework.training.run.train` takes it; nested keys by dots."""
    config: dict[str, Any] = {
        "name": "points",
        "run": str(run),
        "resume": None,
        "seed": 0,
        "matmul_precision": "highest",
        "compile": False,
        "condition_dropout": 0.1,
        "modality": {"_target_": "tests.toy.Points"},
        "data": {"_target_": "tests.toy.PointData", "size": 96, "num_workers": 0},
        "backbone": {"_target_": "tests.toy.PointNet"},
        "schedule": {"_target_": "framework.schedules.Flow"},
        "parametrization": {"_target_": "framework.parametrizations.V"},
        "objective": {
            "_target_": "framework.objectives.objective.Objective",
            "time_sampler": {"_target_": "framework.objectives.times.Uniform"},
            "weighting": {"_target_": "framework.objectives.weightings.Constant"},
            "distance": {"_target_": "framework.objectives.distances.MSE"},
        },
        "optimizer": {"_target_": "framework.training.optimizer.AdamW", "lr": 0.01, "warmup_steps": 3, "final": 0.0},
        "ema": {"half_life": 200, "ramp": 0.05},
        "sampling": {
            "every_n_steps": 0,
            "n": 4,
            "steps": 4,
            "prompts": None,
            "solver": {"_target_": "framework.solvers.ddim.DDIM"},
            "grid": None,
            "guidance": None,
        },
        "checkpoint": {"every_n_steps": 5, "keep": 3},
        "logger": {"csv": {"_target_": "framework.training.run_logger.RunLogger", "folder": str(run)}},
        "trainer": {
            "_target_": "lightning.Trainer",
            "_partial_": True,
            "accelerator": "cpu",
            "devices": 1,
            "max_steps": 20,
            "max_epochs": -1,
            "gradient_clip_val": 1.0,
            "accumulate_grad_batches": 1,
            "val_check_interval": 10,
            "check_val_every_n_epoch": None,
            "num_sanity_val_steps": 0,
            "log_every_n_steps": 1,
            "use_distributed_sampler": False,
        },
    }
    for path, value in changes.items():
        *groups, key = path.replace("__", ".").split(".")
        node = config
        for group in groups:
            node = node[group]
        node[key] = value
    return config
