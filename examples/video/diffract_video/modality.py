"""Video as a plugin of Diffract: short clips in [-1, 1], described in words; GIF files out."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from tensordict import TensorDict
from torch import Tensor

from diffract_video.data import GROUPS, MovingShapes
from diffract_video.render import embedded, read_gif, render, told
from diffract_video.rules import ATTRIBUTES, verdicts
from framework.conditions import ConditionKind
from framework.errors import UserError
from framework.metrics.measurement import Measurement
from framework.metrics.pictures import verdict_metrics
from framework.metrics.score import Score
from framework.metrics.score import verdicts as verdict_score
from framework.modality import Modality
from framework.spaces import Euclidean


class Video(Modality):
    """Clips of one size.

    Args:
        condition: how captions become tensors.
        frames: of a clip; None is the data's when a run begins.
        size: the canvas in pixels; None likewise.
    """

    name: ClassVar[str] = "video"

    def __init__(self, condition: ConditionKind, frames: int | None = None, size: int | None = None) -> None:
        if frames is None or size is None:
            raise ValueError("video needs frames and a size; a training run takes them from its data")
        self.conditions, self.frames, self.size = condition, frames, size

    @property
    def space(self) -> Euclidean:  # type: ignore[override]
        return Euclidean((self.frames, 3, self.size, self.size))

    def encode(self, batch: Mapping[str, Any]) -> tuple[Tensor, TensorDict]:
        """uint8 (B, T, 3, H, W) as float32 in [-1, 1]."""
        return batch["video"].float() / 127.5 - 1, self.conditions.encode(batch)

    def decode(self, state: Tensor, condition: TensorDict) -> Tensor:  # type: ignore[override]
        """uint8 (B, T, 3, H, W)."""
        return ((state.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).cpu()

    def join(self, parts: Sequence[Tensor]) -> Tensor:
        return torch.cat(list(parts))

    def parse(self, prompts: Sequence[Any]) -> TensorDict:
        return self.conditions.parse(prompts)

    def null(self, condition: TensorDict) -> TensorDict:
        return self.conditions.null(condition)

    def read(self, path: Path) -> Mapping[str, Any]:
        """A GIF's first frames."""
        clip = read_gif(Path(path), self.frames, self.size)
        return {"video": torch.from_numpy(clip)[None], "caption": [""]}

    def region(self, text: str, state: Tensor, condition: TensorDict) -> Tensor:  # type: ignore[override]
        """ "frames=0-3": the first three frames."""
        if not text.strip():
            return torch.ones_like(state, dtype=torch.bool)
        begin, _, end = text.strip().removeprefix("frames=").partition("-")
        if not (text.strip().startswith("frames=") and begin.isdecimal() and end.isdecimal() and int(begin) < int(end)):
            raise UserError(f"{text!r} is no part of a clip; say frames=A-B, as frames=0-3 for its first three")
        frame = torch.arange(self.frames)[:, None, None, None]
        return (frame >= int(begin)) & (frame < int(end))

    def render(
        self, samples: Tensor, prompts: Sequence[Any], folder: Path, metadata: Sequence[Mapping[str, str]]
    ) -> list[Path]:
        """A GIF for each sample, an MP4 where it can be written, and sheet.png with their frames side by side."""
        return render(samples, ["" if prompt is None else str(prompt) for prompt in prompts], folder, metadata)

    @classmethod
    def told(cls, path: Path) -> Mapping[str, str] | None:
        return told(path)

    def show(self, samples: Tensor, prompts: Sequence[Any]) -> list[str]:
        return [embedded(clip) for clip in samples]

    def evaluation_prompts(self, data: MovingShapes, n: int, seed: int) -> Sequence[Any]:  # type: ignore[override]
        """Held-out captions, and a quarter as many that were trained on."""
        return [*self.prompts(data, n, seed), *data.captions("trained", max(n // 4, 1), seed)]

    def evaluate(  # type: ignore[override]
        self, samples: Tensor, prompts: Sequence[Any], data: MovingShapes, seed: int, options: Mapping[str, Any]
    ) -> dict[str, Measurement]:
        """Caption accuracy by exact rules, of held-out and of known captions, beside that of real clips."""
        if options:
            raise UserError(f"video knows no option {', '.join(sorted(options))}")
        judged: dict[str, Mapping[str, np.ndarray]] = {}
        ceiling: dict[str, Mapping[str, np.ndarray]] = {}
        for group, subjects in GROUPS.items():
            said = set(map(str, subjects))
            if rows := [row for row, prompt in enumerate(prompts) if prompt in said]:
                judged[group] = verdicts(samples[rows], [str(prompts[row]) for row in rows])
                ceiling[group] = verdicts(*data.real(group, len(rows), seed))
        best = verdict_metrics(ceiling, seed=seed)
        return verdict_metrics(judged, seed=seed) | {f"ceiling/{name}": value for name, value in best.items()}

    def scores(  # type: ignore[override]
        self, samples: Tensor, prompts: Sequence[Any], data: MovingShapes, seed: int
    ) -> dict[str, Score]:
        """Whether clips are what their captions say."""
        found = verdicts(samples, [str(prompt) for prompt in prompts])
        return {name: verdict_score(found[name], name.replace("_", " ")) for name in ("all", *ATTRIBUTES)}

    def real(self, data: MovingShapes, n: int, seed: int) -> tuple[Tensor, list[str]]:  # type: ignore[override]
        return data.reference(n, seed)

    @classmethod
    def adapt(cls, config: dict[str, Any], data: Any) -> dict[str, Any]:
        """Frames and size, where the configuration leaves them open."""
        config = copy.deepcopy(config)
        config["modality"] |= {
            key: getattr(data, key) for key in ("frames", "size") if config["modality"].get(key) is None
        }
        return config
