"""Outpainting: a picture becomes a part of a larger one, of which the rest is made.

The model's canvas stays what it is, so the picture is shrunk into a box of it, and all around is inpainted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from framework.editing.known import Known, TimeTravel
from framework.editing.requests import Pasted, check_input
from framework.editing.shown import shown_part
from framework.editing.task import Task
from framework.errors import UserError
from framework.modality import Modality
from modalities.images.files import read_image
from modalities.images.modality import Images

PLACES = {"centre": (0.5, 0.5), "left": (0.0, 0.5), "right": (1.0, 0.5), "top": (0.5, 0.0), "bottom": (0.5, 1.0)}


@dataclass(frozen=True)
class Outpaint:
    """The picture in the file `input` on a `share` of each side of the canvas, at `place`, and what lies around it.

    `resampling` is that of Inpaint.

    Raises:
        UserError: there is no such file, the share is not between 0 and 1, or there is no such place.
    """

    input: str
    share: float = 0.5
    place: str = "centre"
    resampling: int = 5

    def __post_init__(self) -> None:
        check_input(self.input)
        TimeTravel(self.resampling)
        if not 0 < self.share < 1:
            raise UserError(f"share={self.share:g}: the picture takes a share of the canvas between 0 and 1")
        if self.place not in PLACES:
            raise UserError(f"place={self.place}: the places are {', '.join(PLACES)}")

    def tasks(self, modality: Modality) -> Sequence[Task]:
        if not isinstance(modality, Images):
            raise UserError(f"outpainting is for images, not for {modality.name}")
        original, region = self.on_canvas(modality)
        state, condition = modality.encode(original)
        mask = modality.region(region, state, condition)
        shown = shown_part(modality, state, mask)
        return (*shown, Known(state, mask), TimeTravel(self.resampling), Pasted(modality, original, keep=region))

    def on_canvas(self, modality: Images) -> tuple[Mapping[str, Any], str]:
        """The canvas with the picture in it, continued to the edges, as a batch of one; and where the picture is."""
        size = modality.size
        small = max(1, round(self.share * size))
        left, top = (round(where * (size - small)) for where in PLACES[self.place])
        picture: Tensor = read_image(self.input, small, modality.channels)[None].float()
        margins = (left, size - small - left, top, size - small - top)
        canvas = torch.nn.functional.pad(picture, margins, mode="replicate").to(torch.uint8)
        box = ",".join(f"{edge / size:.6f}" for edge in (left, top, left + small, top + small))
        batch = {"image": canvas, "caption": [""], "label": torch.tensor([-1])}
        return batch, f"box={box}"
