"""The plugin contract: what a kind of data supplies, and what it gets for it.

A modality turns data into states and back, reads a person's prompts, and shows and judges samples. Schedules,
objectives, solvers, guidance, training, EMA, resume, the store and the commands come for nothing. The built-in
modalities are declared by entry points and use nothing but this contract, as a stranger's would. What every kind of
data must say is in this file; what has a default for all of them is in three more: how samples are judged
(`framework.judged`), edited (`framework.editing.editable`) and exchanged with others (`framework.exchange`).

    batch of data  --encode-->  (State, Condition)   --decode-->   samples, in the data's own form
    prompts        --parse-->   Condition            --null-->     the condition that says nothing
    file           --read-->    a batch of one, where samples of one's own can be edited; words --region--> part of it

Shapes: a Condition is a TensorDict with batch_size [B]; a State has B rows and lies in `space`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor, nn

from framework.editing.editable import Editable
from framework.errors import UserError
from framework.exchange import Exchanged
from framework.judged import Judged
from framework.posterior import Posterior
from framework.spaces import Space
from framework.state import Condition, State, select

if TYPE_CHECKING:
    from framework.hints import Hint

API_VERSION = 1


@dataclass(frozen=True)
class Symmetry:
    """A change of samples that changes nothing about them: they are as likely before and after.

    Attributes:
        name: a word.
        apply: (state, condition, seed) -> the changed state, one change a row, the same for the same seed. The state
            may be clean, noisy or a prediction, whose tokens are logits or probabilities (B, *positions, K). The
            condition stays as it is.
    """

    name: str
    apply: Callable[[State, Condition, int], State]


class Modality(Judged, Editable, Exchanged):
    """One kind of data.

    Attributes:
        name: a word.
        api_version: the version of this contract that it was written for.
        hint: what the network is shown of the sample that it is to make (inpainting, super-resolution), if it is.
    """

    api_version: ClassVar[int] = API_VERSION
    name: ClassVar[str]
    hint: Hint | None = None

    @property
    @abstractmethod
    def space(self) -> Space:
        """Where the state and its noise live."""

    @abstractmethod
    def encode(self, batch: Mapping[str, Any]) -> tuple[State, Condition]:
        """A batch of the data module as clean states of about unit scale, and conditions; on the batch's device."""

    def posterior(self, batch: Mapping[str, Any]) -> Posterior:
        """What `encode` gives, and how uncertain the encoder is of it; here it is certain."""
        x, condition = self.encode(batch)
        return Posterior(x, None, condition)

    @abstractmethod
    def decode(self, state: State, condition: Condition) -> Any:
        """States as B samples in the data's own form, on the CPU; it must support slicing and `len`."""

    @abstractmethod
    def parse(self, prompts: Sequence[Any]) -> Condition:
        """The condition that B prompts ask for.

        Raises:
            PromptError: a prompt has no meaning here; the message names the nearest that has.
        """

    @abstractmethod
    def null(self, condition: Condition) -> Condition:
        """`condition` with all that guidance may drop replaced by "nothing said"; masks and sizes stay."""

    @abstractmethod
    def render(
        self, samples: Any, prompts: Sequence[Any], folder: Path, metadata: Sequence[Mapping[str, str]]
    ) -> list[Path]:
        """Write samples in the format of their field and a picture of all; returns the files, the picture last.

        The folder is there.
        """

    @abstractmethod
    def join(self, parts: Sequence[Any]) -> Any:
        """Decoded samples of several batches as one."""

    def examples(self, n: int) -> Sequence[Any]:
        """`n` prompts that are known without any data, as different as they come: what grids are fitted under.

        None says nothing, which is all that is known here.
        """
        return [None] * n

    def complete(self, prompts: Sequence[Any], seed: int, samples: Sequence[int]) -> Sequence[Any]:
        """Prompts with what they leave open (a length, a number of points) drawn as the data has it, for `parse`.

        What is drawn is a function of the seed and of each sample's index alone.
        """
        return prompts

    def sizes(self, prompts: Sequence[Any]) -> Sequence[float]:
        """How large the samples of complete prompts are to be: those that are alike are drawn in one batch.

        Here they are all of one size.
        """
        return [0.0] * len(prompts)

    def symmetries(self, network: nn.Module) -> Sequence[Symmetry]:
        """The symmetries of the data that this network is made to have: it says of a changed state what it said,
        changed in the same way. None are known here.
        """
        return ()

    def render_trajectory(self, states: Sequence[Any], prompts: Sequence[Any], folder: Path) -> list[Path]:
        """Write how samples came out of the noise, given decoded samples at several times; optional."""
        return []

    @classmethod
    def adapt(cls, config: dict[str, Any], data: Any) -> dict[str, Any]:
        """The run's configuration with what only the data can know filled in (names of classes, sizes)."""
        return config


def drop(condition: Condition, null: Condition, keep: Tensor) -> Condition:
    """`condition` where keep (B,) is True, and `null` elsewhere: what teaches a network both."""
    if not condition.keys():
        return condition
    return select(keep, condition, null)  # type: ignore[return-value]


def check_version(modality: Modality) -> None:
    """Raise UserError when a modality was written for another version of the contract."""
    if modality.api_version != API_VERSION:
        raise UserError(
            f"modality {modality.name!r} speaks version {modality.api_version} of the plugin contract and this is "
            f"version {API_VERSION}; install a release of it that matches"
        )
