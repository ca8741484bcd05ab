"""The plugin itself: how this kind of data becomes states and comes back. CHANGE each method to fit your data.

    batch of the data module  --encode-->  (state, condition)  --decode-->  samples
    prompts                   --parse-->   condition           --null-->    the condition that says nothing

A state is a tensor (B, ...) of about unit scale, or a TensorDict of several. `space` says where its noise lives:
`Euclidean` is everywhere, `Masked` is for sets and sequences of varying length, `ZeroCentreOfMass` for positions,
`Categories` for tokens, `Product` for several of them. The contract is `framework.modality.Modality`; what is not
overridden here has a default there (reading files to edit them, prompts that leave sizes open, symmetries, ...).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from framework.conditions import ConditionKind
from framework.errors import UserError
from framework.metrics.measurement import Measurement
from framework.modality import Modality
from framework.spaces import Euclidean
from tensordict import TensorDict
from torch import Tensor

from diffract_my_modality.metrics import judge
from diffract_my_modality.render import write_picture, write_table


class MyModality(Modality):
    """Curves of one length.

    Args:
        condition: how labels, and a person's words, become what the network is told.
        points: the values of a curve.
    """

    name: ClassVar[str] = "my_modality"

    def __init__(self, condition: ConditionKind, points: int = 32) -> None:
        self.conditions, self.points = condition, points

    @property
    def space(self) -> Euclidean:
        return Euclidean((self.points,))

    def encode(self, batch: Mapping[str, Any]) -> tuple[Tensor, TensorDict]:
        """Curves are states as they are. Yours may need scaling: noise has a standard deviation of 1."""
        return batch["curve"], self.conditions.encode(batch)

    def decode(self, state: Any, condition: TensorDict) -> Tensor:
        """Curves (B, N) on the CPU. Whatever you return must support slices and `len`."""
        return state.float().clamp(-1, 1).cpu()

    def join(self, parts: Sequence[Tensor]) -> Tensor:
        return torch.cat(list(parts))

    def parse(self, prompts: Sequence[Any]) -> TensorDict:
        """Names of shapes, or their numbers; "" says nothing. What has no meaning raises PromptError."""
        return self.conditions.parse(prompts)

    def null(self, condition: TensorDict) -> TensorDict:
        return self.conditions.null(condition)

    def render(
        self, samples: Tensor, prompts: Sequence[Any], folder: Path, metadata: Sequence[Mapping[str, str]]
    ) -> list[Path]:
        """A CSV file with all curves, and a picture."""
        folder.mkdir(parents=True, exist_ok=True)
        titles = ["" if prompt is None else str(prompt) for prompt in prompts]
        return [
            write_table(samples, metadata, folder / "curves.csv"),
            write_picture(samples, titles, folder / "sheet.png"),
        ]

    def evaluate(
        self, samples: Any, prompts: Sequence[Any], data: Any, seed: int, options: Mapping[str, Any]
    ) -> dict[str, Measurement]:
        """The metrics of metrics.py, each beside what real curves get (`ceiling/NAME`)."""
        if options:
            raise UserError(f"there is no option {', '.join(options)}: this modality knows none")
        real = data.reference(2 * len(samples), seed)
        half = len(real.curves) // 2
        asked = self.conditions.parse(prompts)["label"]
        ceiling = judge(real.curves[half:], real.labels[half:], real.curves[:half], seed)
        found = judge(samples, asked, real.curves[:half], seed)
        return {**found, **{f"ceiling/{name}": value for name, value in ceiling.items()}}

    def examples(self, n: int) -> Sequence[Any]:
        return [i % 3 for i in range(n)]
