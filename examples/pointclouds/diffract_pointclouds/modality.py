"""Point clouds as a plugin of Diffract: sets without an order, of any number of points, PLY files in and out.

A state is (B, N, 3) with its mean at 0 and coordinates of unit size; condition["mask"] (B, N) says which points there
are. How many a prompt may say ("cone points=120"); where it does not, the number is drawn as the data has it.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from tensordict import TensorDict
from torch import Tensor, nn

from diffract_pointclouds.clouds import Clouds, normalised
from diffract_pointclouds.data import CloudData
from diffract_pointclouds.files import read_points, write_ply
from diffract_pointclouds.metrics import chamfer, cloud_metrics
from diffract_pointclouds.render import drawing, sheet
from framework.conditions import ClassCondition, ConditionKind
from framework.data.counter import uniforms
from framework.errors import DataError, PromptError, UserError
from framework.metrics.measurement import Measurement
from framework.metrics.score import Score, verdicts
from framework.modality import Modality, Symmetry
from framework.spaces import ZeroCentreOfMass
from framework.state import Condition, State

POINTS = re.compile(r"\s*\bpoints=(\d+)\s*")
SPAN = re.compile(r"([xyz])=([0-9]*\.?[0-9]+)-([0-9]*\.?[0-9]+)")
MOST = 4096  # points that a prompt may ask for
QUANTILES = 12
EMD, JUDGES = (
    48,
    300,
)  # clouds that the earth mover's distance is taken of; real ones that single clouds are held against


@dataclass(frozen=True)
class Sized:
    """A prompt and how many points its cloud has."""

    prompt: Any
    points: int


class PointClouds(Modality):
    """Clouds of points in space.

    Args:
        condition: how classes become tensors.
        least, most: how many points the training clouds have; None is the data's when a run begins.
    """

    name: ClassVar[str] = "pointclouds"

    def __init__(self, condition: ConditionKind, least: int | None = None, most: int | None = None) -> None:
        if least is None or most is None:
            raise ValueError("point clouds need least and most; a run takes them from its data")
        self.conditions, self.least, self.most = condition, least, most

    @property
    def space(self) -> ZeroCentreOfMass:
        return ZeroCentreOfMass(3)

    def encode(self, batch: Mapping[str, Any]) -> tuple[Tensor, TensorDict]:
        condition = self.conditions.encode(batch).update({"mask": batch["mask"]})
        return self.space.project(batch["points"].float(), condition), condition

    def decode(self, state: Tensor, condition: TensorDict) -> Clouds:  # type: ignore[override]
        return Clouds(state.float().cpu(), condition["mask"].cpu())

    def join(self, parts: Sequence[Clouds]) -> Clouds:
        return Clouds.join(parts)

    def complete(self, prompts: Sequence[Any], seed: int, samples: Sequence[int]) -> Sequence[Sized]:
        """Prompts with the number of points that they leave open drawn evenly from `least` to `most`."""
        shares = uniforms(seed, "pointclouds/points", np.asarray(samples), 1)[:, 0]
        drawn = self.least + np.floor(shares * (self.most - self.least + 1)).astype(int)
        said = [_said(prompt) for prompt in prompts]
        return [Sized(prompt, count or int(n)) for (prompt, count), n in zip(said, drawn, strict=True)]

    def sizes(self, prompts: Sequence[Any]) -> Sequence[float]:
        return [float(_said(prompt)[1] or self.most) for prompt in prompts]

    def parse(self, prompts: Sequence[Any]) -> TensorDict:
        said = [_said(prompt) for prompt in prompts]
        counts = torch.tensor([count or self.most for _, count in said])
        mask = torch.arange(max(self.most, int(counts.max()))) < counts[:, None]
        return self.conditions.parse(["" if prompt is None else prompt for prompt, _ in said]).update({"mask": mask})

    def null(self, condition: TensorDict) -> TensorDict:
        return self.resized(self.conditions.null(condition.exclude("mask")), condition)

    def resized(self, condition: TensorDict, like: TensorDict) -> TensorDict:  # type: ignore[override]
        return condition.copy().update({"mask": like["mask"]})

    def read(self, path: Path) -> Mapping[str, Any]:
        """A PLY or XYZ file, centred and scaled to the size of all clouds."""
        cloud = Clouds.of([normalised(read_points(path))])
        return {"points": cloud.points, "mask": cloud.mask, "label": torch.tensor([-1])}

    def region(self, text: str, state: Tensor, condition: TensorDict) -> Tensor:  # type: ignore[override]
        """ "z=0.5-1": points of which a coordinate lies between shares of the cloud's extent; several hold together."""
        inside = condition["mask"][..., None].clone()
        for word in text.replace(",", " ").split():
            if not (found := SPAN.fullmatch(word)):
                raise UserError(f"unknown region {word!r}; regions are x=0-0.5, y=0-0.5 and z=0.5-1")
            along = state[..., "xyz".index(found[1])]
            low = along.masked_fill(~condition["mask"], torch.inf).amin(1, keepdim=True)
            high = along.masked_fill(~condition["mask"], -torch.inf).amax(1, keepdim=True)
            place = (along - low) / (high - low).clamp(min=1e-9)
            inside &= ((place >= float(found[2])) & (place <= float(found[3])))[..., None]
        if not bool(inside.any()):
            raise UserError(f"no point lies in the region {text!r}")
        return inside

    def symmetries(self, network: nn.Module) -> Sequence[Symmetry]:
        return (Symmetry("permutation", permuted),)

    def render(
        self, samples: Clouds, prompts: Sequence[Any], folder: Path, metadata: Sequence[Mapping[str, str]]
    ) -> list[Path]:
        """A PLY file for each cloud, with its metadata as comments, and sheet.png."""
        clouds = samples.arrays()
        files = [
            write_ply(folder / f"{i:05d}.ply", points, row)
            for i, (points, row) in enumerate(zip(clouds, metadata, strict=True))
        ]
        return [*files, sheet(clouds, [self._text(prompt) for prompt in prompts], folder / "sheet.png")]

    def prompts(self, data: CloudData, n: int, seed: int) -> Sequence[Any]:  # type: ignore[override]
        return data.prompts(n, seed) if isinstance(self.conditions, ClassCondition) else [None] * n

    def examples(self, n: int) -> Sequence[Any]:
        names = self.conditions.names if isinstance(self.conditions, ClassCondition) else [None]
        return [names[i % len(names)] for i in range(n)]

    def evaluate(  # type: ignore[override]
        self, samples: Clouds, prompts: Sequence[Any], data: CloudData, seed: int, options: Mapping[str, Any]
    ) -> dict[str, Measurement]:
        """The metrics of `metrics`, beside those of held-out clouds. Option `emd`: of how many it is taken."""
        if unknown := set(options) - {"emd"}:
            raise UserError(f"pointclouds know no option {', '.join(sorted(unknown))}; they know emd")
        emd = int(options.get("emd", EMD))
        clouds, labels = data.reference(2 * len(samples), seed)
        half, are = len(clouds) // 2, labels.numpy()
        first, asked = clouds[:half], self._labels(prompts)
        found = cloud_metrics(samples, first, asked, are[:half], emd, seed)
        ceiling = cloud_metrics(clouds[half:], first, are[half:], are[:half], emd, seed)
        return found | {f"ceiling/{name}": value for name, value in ceiling.items()}

    def scores(  # type: ignore[override]
        self, samples: Clouds, prompts: Sequence[Any], data: CloudData, seed: int
    ) -> dict[str, Score]:
        """The distance to the nearest of some real clouds, and whether that has the class that was asked for."""
        clouds, labels = data.reference(JUDGES, 0)
        distances, asked = chamfer(samples, clouds), self._labels(prompts)
        nearest = Score(distances.min(1), "Chamfer distance to the nearest real cloud", "lower")
        if not len(samples) or (asked < 0).any():
            return {"nearest": nearest}
        right = labels.numpy()[distances.argmin(1)] == asked
        return {"class": verdicts(right, "class of the nearest real cloud"), "nearest": nearest}

    def features(self, samples: Clouds, data: CloudData) -> np.ndarray:  # type: ignore[override]
        """Sorted coordinates and distances from the middle: quantiles of what does not depend on the points' order."""
        levels = np.linspace(0, 1, QUANTILES)
        wide = [np.c_[cloud, np.linalg.norm(cloud, axis=1), np.hypot(*cloud[:, :2].T)] for cloud in samples.arrays()]
        return np.stack([np.quantile(cloud, levels, axis=0).ravel() for cloud in wide]).astype(np.float32)

    def real(self, data: CloudData, n: int, seed: int) -> tuple[Clouds, Sequence[Any]]:  # type: ignore[override]
        clouds, labels = data.reference(n, seed)
        return clouds, [label if label >= 0 else None for label in labels.tolist()]

    def show(self, samples: Clouds, prompts: Sequence[Any]) -> list[str]:
        """Each cloud as dots (SVG)."""
        return [drawing(points) for points in samples.arrays()]

    def _labels(self, prompts: Sequence[Any]) -> np.ndarray:
        """The classes that were asked for, -1 for none."""
        if not isinstance(self.conditions, ClassCondition):
            return np.full(len(prompts), -1)
        labels = self.parse(prompts)["label"].numpy()
        return np.where(labels == self.conditions.num_classes, -1, labels)

    def _text(self, prompt: Any) -> str:
        prompt, _ = _said(prompt)
        named = isinstance(prompt, int) and isinstance(self.conditions, ClassCondition)
        return "" if prompt is None else self.conditions.names[prompt] if named else str(prompt)

    @classmethod
    def adapt(cls, config: dict[str, Any], data: CloudData) -> dict[str, Any]:
        """Numbers of points and classes, where the configuration leaves them open."""
        config = copy.deepcopy(config)
        modality, backbone = config["modality"], config["backbone"]
        known = {"least": data.least, "most": data.most}
        modality |= {key: value for key, value in known.items() if modality.get(key) is None}
        condition, classes = modality["condition"], 0
        if "names" in condition:
            if not data.class_names:
                raise DataError("these clouds have no classes; choose modality=pointclouds/unconditional")
            condition["names"] = list(condition["names"] or data.class_names)
            classes = len(condition["names"])
        if "classes" in backbone and backbone["classes"] is None:
            backbone["classes"] = classes
        return config


def permuted(state: State, condition: Condition, seed: int) -> State:
    """The points of each cloud in another order, padding where it was."""
    assert isinstance(state, Tensor)
    generator = torch.Generator().manual_seed(seed)
    keys = torch.rand(state.shape[:2], generator=generator).to(state.device)
    last = 2.0 + torch.arange(state.shape[1], device=state.device)
    order = torch.where(condition["mask"], keys, last).argsort(1)
    return state.gather(1, order[..., None].expand_as(state))


def _said(prompt: Any) -> tuple[Any, int | None]:
    """A prompt without its number of points, and this, if it says so."""
    if isinstance(prompt, Sized):
        return prompt.prompt, prompt.points
    if not isinstance(prompt, str) or not (found := POINTS.search(prompt)):
        return prompt, None
    count = int(found[1])
    if not 2 <= count <= MOST:
        raise PromptError(f"a cloud has from 2 to {MOST} points, not {count}")
    return (prompt[: found.start()] + " " + prompt[found.end() :]).strip(), count
