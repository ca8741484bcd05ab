"""Some clouds of points as one value, padded to the largest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32
from torch import Tensor
from torch.nn.functional import pad


@dataclass(frozen=True, eq=False)
class Clouds:
    """Points (B, N, 3), zero where `mask` (B, N) is False."""

    points: Float32[Tensor, "b n 3"]
    mask: Bool[Tensor, "b n"]

    def __len__(self) -> int:
        return len(self.points)

    def __getitem__(self, rows: slice | Sequence[int]) -> Clouds:
        return Clouds(self.points[rows], self.mask[rows])

    def arrays(self) -> list[Float[np.ndarray, "n 3"]]:
        """Each cloud's own points."""
        return [points[mask].numpy() for points, mask in zip(self.points, self.mask, strict=True)]

    def first(self, count: int) -> Float32[Tensor, "b n 3"]:
        """The first points of each cloud, as many of each: at most `count`, and no more than the smallest has."""
        order = torch.argsort((~self.mask).int(), dim=1, stable=True)[:, : min(count, int(self.mask.sum(1).min()))]
        return self.points[torch.arange(len(self))[:, None], order]

    @staticmethod
    def join(parts: Sequence[Clouds]) -> Clouds:
        """One after the other."""
        widest = max(part.mask.shape[1] for part in parts)
        missing = [widest - part.mask.shape[1] for part in parts]
        points = [pad(part.points, (0, 0, 0, n)) for part, n in zip(parts, missing, strict=True)]
        return Clouds(torch.cat(points), torch.cat([pad(p.mask, (0, n)) for p, n in zip(parts, missing, strict=True)]))

    @staticmethod
    def of(arrays: Sequence[Float[np.ndarray, "n 3"]], size: int | None = None) -> Clouds:
        """Clouds of arrays, padded to `size` points or to the largest."""
        size = max(size or 1, max(map(len, arrays)))
        points = [pad(torch.as_tensor(a, dtype=torch.float32), (0, 0, 0, size - len(a))) for a in arrays]
        lengths = torch.tensor([len(a) for a in arrays])
        return Clouds(torch.stack(points), torch.arange(size) < lengths[:, None])


def normalised(points: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
    """A cloud with its mean at 0 and a root mean square of 1 for its coordinates, of whatever size it was."""
    points = points - points.mean(0)
    return points / max(float(np.sqrt((points**2).mean())), 1e-12)
