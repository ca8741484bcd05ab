"""Modalities that keep the contract: points of the plane, padded sets of up to five of them, and coloured sets."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import lightning as L
import numpy as np
import torch
from tensordict import TensorDict
from torch import Tensor, nn

from framework.errors import PromptError
from framework.metrics.measurement import Measurement
from framework.modality import Modality
from framework.spaces import Masked, Product, ZeroCentreOfMass
from framework.training.loader import ResumableLoader
from tests.toy import PointNet, Points

LARGEST = 5


def png(width: int = 4) -> bytes:
    """A grey picture."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + bytes([128]) * width for _ in range(width))
    head = struct.pack(">IIBBBBB", width, width, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


class SoundPoints(Points):
    """The points of tests/toy.py with what they lack: refusals in words, a picture, and a metric."""

    def parse(self, prompts: Sequence[Any]) -> TensorDict:
        for prompt in prompts:
            if prompt not in ("", 0, 1, 2):
                raise PromptError(f"there is no class {prompt!r}; the classes are 0 and 1")
        return super().parse(prompts)

    def render(
        self, samples: Any, prompts: Sequence[Any], folder: Path, metadata: Sequence[Mapping[str, str]]
    ) -> list[Path]:
        files = super().render(samples, prompts, folder, metadata)
        (folder / "sheet.png").write_bytes(png())
        return [*files, folder / "sheet.png"]

    def evaluate(
        self, samples: Any, prompts: Sequence[Any], data: Any, seed: int, options: Mapping[str, Any]
    ) -> dict[str, Measurement]:
        """How far samples are from the middle of their class."""
        real = data.reference(2 * len(samples), seed)[1::2], [1] * len(samples)
        return {
            name: Measurement(value, value - 0.05, value + 0.05, len(samples), seed)
            for name, value in {"spread": self.spread(samples, prompts), "ceiling/spread": self.spread(*real)}.items()
        }

    def spread(self, points: Tensor, classes: Sequence[int]) -> float:
        return float((points - (2.0 * torch.tensor(classes) - 1)[:, None]).norm(dim=1).mean())


class Sets(Modality):
    """Sets of 3 to 5 points of the plane with their centre at 0, padded; without any condition but their size."""

    name: ClassVar[str] = "sets"

    @property
    def space(self) -> ZeroCentreOfMass:
        return ZeroCentreOfMass(2)

    def encode(self, batch: Mapping[str, Any]) -> tuple[Tensor, TensorDict]:
        condition = TensorDict({"mask": batch["mask"]}, batch_size=[len(batch["mask"])])
        return self.space.project(batch["points"], condition), condition

    def decode(self, state: Any, condition: TensorDict) -> list[np.ndarray]:
        masks = condition["mask"].cpu()
        return [points[mask].numpy() for points, mask in zip(state.float().cpu(), masks, strict=True)]

    def join(self, parts: Sequence[list[np.ndarray]]) -> list[np.ndarray]:
        return [points for part in parts for points in part]

    def parse(self, prompts: Sequence[Any]) -> TensorDict:
        if wrong := [prompt for prompt in prompts if prompt != ""]:
            raise PromptError(f"sets follow no prompts, not even {wrong[0]!r}")
        return TensorDict({"mask": torch.arange(LARGEST).expand(len(prompts), -1) < 4}, batch_size=[len(prompts)])

    def null(self, condition: TensorDict) -> TensorDict:
        return condition

    def render(
        self, samples: Any, prompts: Sequence[Any], folder: Path, metadata: Sequence[Mapping[str, str]]
    ) -> list[Path]:
        (folder / "sets.png").write_bytes(png())
        return [folder / "sets.png"]


class SetData(L.LightningDataModule):
    """Twenty-four sets."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        points = 1.5 * torch.randn(24, LARGEST, 2, generator=generator)
        masks = torch.arange(LARGEST) < 3 + torch.arange(24)[:, None] % 3
        self.items = [{"points": p, "mask": m} for p, m in zip(points, masks, strict=True)]

    def train_dataloader(self) -> ResumableLoader:
        return ResumableLoader(self.items, batch_size=12, seed=0, shuffle=True)  # type: ignore[arg-type]

    def val_dataloader(self) -> ResumableLoader:
        return ResumableLoader(self.items, batch_size=12, seed=0, shuffle=False)  # type: ignore[arg-type]

    def prompts(self, n: int, seed: int) -> list[None]:
        return [None] * n


class SetNet(nn.Module):
    """Each point sees itself, the mean of all, and the noise level; zero when fresh."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.first = nn.Linear(5, width)
        self.last = nn.Linear(width, 2)
        nn.init.zeros_(self.last.weight)

    def forward(self, x_t: Tensor, noise_level: Tensor, condition: TensorDict) -> Tensor:
        mask = condition["mask"][..., None]
        mean = (x_t * mask).sum(1, keepdim=True) / mask.sum(1, keepdim=True)
        level = noise_level[:, None, None].expand(-1, x_t.shape[1], 1) / 1000
        return self.last(torch.tanh(self.first(torch.cat([x_t, mean.expand_as(x_t), level], dim=2)))) * mask


class ColouredSets(Sets):
    """The same with a colour for each point: states of two components."""

    name: ClassVar[str] = "coloured sets"

    @property
    def space(self) -> Any:
        return Product({"points": super().space, "colour": Masked(1)})

    def encode(self, batch: Mapping[str, Any]) -> tuple[Any, TensorDict]:
        condition = TensorDict({"mask": batch["mask"]}, batch_size=[len(batch["mask"])])
        parts = {"points": batch["points"], "colour": batch["points"][..., :1].sign()}
        return self.space.project(TensorDict(parts, batch_size=[len(batch["mask"])]), condition), condition

    def decode(self, state: Any, condition: TensorDict) -> Any:
        both = torch.cat([state["points"], state["colour"]], dim=2)
        return super().decode(both, condition)


class ColouredNet(nn.Module):
    """A network for each component."""

    def __init__(self) -> None:
        super().__init__()
        self.points, self.colour = SetNet(), SetNet()

    def forward(self, x_t: TensorDict, noise_level: Tensor, condition: TensorDict) -> TensorDict:
        points = self.points(x_t["points"], noise_level, condition)
        colour = self.colour(x_t["points"] + x_t["colour"], noise_level, condition).sum(2, keepdim=True)
        return TensorDict({"points": points, "colour": colour}, batch_size=x_t.batch_size)


__all__ = ["ColouredNet", "ColouredSets", "PointNet", "SetData", "SetNet", "Sets", "SoundPoints", "png"]
