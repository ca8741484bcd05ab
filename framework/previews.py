"""What samples look like while they come out of the noise.

    model.sample("a red circle", n=4, hooks=[Preview(model.modality, "outputs/previews")])

A hook of the loop is any function of a `Progress`. Preview decodes the clean prediction after every so many steps and
lets the modality write the steps so far as it writes a trajectory, so that a long run can be watched, and stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from framework.errors import UserError
from framework.modality import Modality
from framework.sampler import Hook, Progress
from framework.state import Condition

SHOWN = 8  # samples of a batch


@dataclass
class Preview:
    """Writes into `folder` after every `every` steps; the batch that comes later takes the place of the earlier one.

    Args:
        modality: of the model that is sampled.
        folder: where to write.
        every: so many steps.
        done: called with the files after each time they were written.

    Raises:
        UserError: `every` is less than 1.
    """

    modality: Modality
    folder: str | Path
    every: int = 1
    done: Callable[[list[Path]], None] | None = None
    condition: Condition | None = field(default=None, repr=False)
    prompts: Sequence[Any] = ()
    frames: list[Any] = field(default_factory=list, repr=False)
    steps: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.every < 1:
            raise UserError(f"previews are written every so many steps, at least 1, not {self.every}")

    def for_batch(self, condition: Condition, prompts: Sequence[Any]) -> Preview:
        """The preview of a batch with this condition, which begins anew."""
        return replace(self, condition=condition[:SHOWN], prompts=list(prompts)[:SHOWN], frames=[], steps=[])

    def __call__(self, progress: Progress) -> None:
        step = progress.stage.step
        if self.condition is None or step % self.every or step in self.steps:  # one picture of a step's stages
            return
        clean = progress.prediction.clean
        count = self.condition.batch_size[0]
        self.frames.append(self.modality.decode(clean[:count], self.condition))
        self.steps.append(step)
        Path(self.folder).mkdir(parents=True, exist_ok=True)
        files = self.modality.render_trajectory(self.frames, self.prompts, Path(self.folder))
        if self.done is not None:
            self.done(files)


def for_batch(hook: Hook, condition: Condition, prompts: Sequence[Any]) -> Hook:
    """What a hook is for one batch, if it has such a method; else itself."""
    return hook.for_batch(condition, prompts) if hasattr(hook, "for_batch") else hook
