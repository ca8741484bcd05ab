"""The plugin contract: what a kind of data supplies, and what it gets for it.

A modality turns data into states and back, reads a person's prompts, and shows and judges samples. Schedules,
objectives, solvers, guidance, training, EMA, resume, the store and the commands come for nothing. The built-in
modalities are declared by entry points and use nothing but this file, as a stranger's would.

    batch of data  --encode-->  (State, Condition)   --decode-->   samples, in the data's own form
    prompts        --parse-->   Condition            --null-->     the condition that says nothing
    file           --read-->    a batch of one, where samples of one's own can be edited; words --region--> part of it

Shapes: a Condition is a TensorDict with batch_size [B]; a State has B rows and lies in `space`.
"""

from __future__ import annotations

import base64
import html
import mimetypes
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from framework.errors import UserError
from framework.metrics.measurement import Measurement
from framework.metrics.reconstruction import measured, psnr
from framework.metrics.score import Score
from framework.posterior import Posterior
from framework.spaces import Masked, Space
from framework.state import Condition, State, map_state, select

if TYPE_CHECKING:
    from framework.editing.known import Given
    from framework.editing.observed import Operator
    from framework.editing.task import Task
    from framework.hints import Hint
    from framework.metrics.feature_net import FeatureNet
    from framework.model import Model

API_VERSION = 1


class JudgeData(Protocol):
    """What evaluation asks of a LightningDataModule: prompts to sample for, and real data that was not trained on."""

    def setup(self, stage: str) -> None: ...

    def prompts(self, n: int, seed: int) -> Sequence[Any]:
        """`n` prompts, a function of the seed."""
        ...

    def reference(self, n: int, seed: int) -> Any:
        """Up to `n` real items in a form that the modality's `evaluate` understands."""
        ...


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


class Modality(ABC):
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

    def evaluate(
        self, samples: Any, prompts: Sequence[Any], data: JudgeData, seed: int, options: Mapping[str, Any]
    ) -> dict[str, Measurement]:
        """How good the samples of these prompts are, beside the data's own ceiling; {} where nothing is measured.

        `options` are the modality's own, from the command line (`+options.NAME=VALUE`); unknown ones raise UserError.
        """
        return {}

    def assess(self, model: Model, data: JudgeData, seed: int, options: Mapping[str, Any]) -> dict[str, Measurement]:
        """What is measured of the model itself and of no sample, as a bound on the likelihood of held-out data; {} if
        nothing is. `options` are those of `evaluate`, which refuses unknown ones.
        """
        return {}

    def scores(self, samples: Any, prompts: Sequence[Any], data: JudgeData, seed: int) -> dict[str, Score]:
        """Each sample judged by itself, by name, the most telling first; {} where nothing is.

        Studies compare two ways of sampling by these, sample by sample, so a score is a function of its sample and its
        prompt alone.
        """
        return {}

    def features(self, samples: Any, data: JudgeData) -> np.ndarray | None:
        """Samples as points (n, D), float32, of which sets are compared with sets of `real` ones; None: there are none.

        What makes them is a function of the data, made once and cached.
        """
        return None

    def real(self, data: JudgeData, n: int, seed: int) -> tuple[Any, Sequence[Any]] | None:
        """Up to `n` real items that were not trained on, in the form of samples, and prompts that describe them.

        They are what samples are held against: `scores` and `features` of them are as good as it gets. None: unknown.
        """
        return None

    def show(self, samples: Any, prompts: Sequence[Any]) -> list[str]:
        """Each sample as a fragment of HTML that needs nothing else; here the picture that `render` makes of it."""
        return [_picture(self, samples[i : i + 1], [prompt]) for i, prompt in enumerate(prompts)]

    def reconstruction(
        self, original: State, reconstructed: State, condition: Condition, data: JudgeData, seed: int
    ) -> dict[str, Measurement]:
        """How good an autoencoder's reconstructions of encoded states are; here the PSNR of the states themselves.

        Its peak is the range of the originals. A modality measures what its field does, on decoded samples.
        """
        if not isinstance(original, Tensor) or not isinstance(reconstructed, Tensor):
            return {}
        mask = condition[self.space.mask] if isinstance(self.space, Masked) else None
        real = original if mask is None else original[mask]
        return {"psnr": measured(psnr(original, reconstructed, float(real.max() - real.min()), mask), seed)}

    def perceptual(self, data: Any) -> FeatureNet | None:
        """A network of the data's own labels that reads states as pictures, for perceptual losses; None: there is none.

        `data` is the run's data module. The network is a function of the data, trained once and cached.
        """
        return None

    def prompts(self, data: JudgeData, n: int, seed: int) -> Sequence[Any]:
        """`n` prompts for such data that this modality's conditions can read."""
        return data.prompts(n, seed)

    def evaluation_prompts(self, data: JudgeData, n: int, seed: int) -> Sequence[Any]:
        """The prompts whose samples `evaluate` judges."""
        return self.prompts(data, n, seed)

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

    def given(self, prompts: Sequence[Any], condition: Condition) -> Given | None:
        """What complete prompts fix of the samples' own states, beside the condition; None where they fix nothing.

        Raises:
            PromptError: it is nothing that a sample can have.
        """
        return None

    def restored(self, samples: Any, prompts: Sequence[Any]) -> Any:
        """Decoded samples of such prompts, with what was fixed exactly as it was given, beyond what a state keeps."""
        return samples

    def read(self, path: Path) -> Mapping[str, Any]:
        """A file of the field as a batch of one for `encode`, which says nothing of what guidance may drop.

        Raises:
            UserError: this modality reads no files.
            DataError: the file cannot be read, or is not of this field.
        """
        raise UserError(f"{self.name} cannot be edited: this modality reads no files")

    def region(self, text: str, state: State, condition: Condition) -> State:
        """Which part of encoded states a person's words name: bool, of a shape that broadcasts to the state's.

        The words are the modality's own, as "time=0.2-0.6" or "x=0-0.5". No words name all that is real. Of a
        TensorDict state it is a TensorDict, in which a component that no word is about may be missing.

        Raises:
            UserError: this modality knows no regions, or not this one; the message says which it knows.
        """
        if not text.strip():
            return map_state(lambda part: torch.ones_like(part, dtype=torch.bool), state)
        raise UserError(f"{self.name} knows no regions, so that no part can be named, as in {text!r}")

    def touched(self, text: str, state: State, condition: Condition) -> State:
        """As `region`, with all that the words so much as touch, where an element of a state stands for several of a
        sample: what goes when the region is made anew. Here the region itself.
        """
        return self.region(text, state, condition)

    def pasted(self, samples: Any, original: Mapping[str, Any], keep: str | None, redo: str | None) -> Any:
        """Decoded samples with the region `keep` of `original` (as `read` gave it), or all of it but the region `redo`,
        exactly as it was, beyond what states keep. Here they are as states have them.
        """
        return samples

    def observed(self, path: Path, text: str) -> tuple[Operator, Tensor]:
        """What a file shows of a sample, by the measurement that the words name: the operator A, and y (1, ...) = A x
        of the clean state x.

        Raises:
            UserError: this modality knows no measurements, or not this one; the message says which it knows.
            DataError: the file cannot be read.
        """
        raise UserError(f"{self.name} cannot be restored: this modality knows no measurements, as in {text!r}")

    def marked(self, samples: Any, text: str) -> Any:
        """Decoded samples with an invisible watermark of which `text` is the key.

        Raises:
            UserError: this modality has none.
        """
        raise UserError(f"{self.name} cannot be watermarked")

    @classmethod
    def detected(cls, path: Path, text: str) -> float | None:
        """The probability that a file without the watermark `text` looks as much as if it had it as this one does; None
        where the file is not of this field.
        """
        return None

    @classmethod
    def told(cls, path: Path) -> Mapping[str, str] | None:
        """The metadata that `render` wrote into a file of a single sample; None where it is not of this field."""
        return None

    def resized(self, condition: Condition, like: Condition) -> Condition:
        """`condition` with what says how large states are (masks, sizes, lengths) from `like`; its words stay.

        An edited sample has the size of the one that was given. Both have B rows. `condition` itself is right where all
        states are of one size.
        """
        return condition

    def windows(self, overlap: float) -> Task:
        """What samples longer states than the network was trained on, in windows that share `overlap` (0 to 1).

        Raises:
            UserError: states have one size.
        """
        raise UserError(f"{self.name} of any length cannot be sampled: states of this modality have one size")

    def symmetries(self, network: nn.Module) -> Sequence[Symmetry]:
        """The symmetries of the data that this network is made to have: it says of a changed state what it said,
        changed in the same way. None are known here.
        """
        return ()

    def render_trajectory(self, states: Sequence[Any], prompts: Sequence[Any], folder: Path) -> list[Path]:
        """Write how samples came out of the noise, given decoded samples at several times; optional."""
        return []

    @classmethod
    def foreign(cls, folder: Path) -> Any | None:
        """The `Model` in a folder that other software wrote, if it is one of this modality's field; None where not.

        Raises:
            UserError: it is one, but cannot be read.
        """
        return None

    def export(self, model: Any, folder: Path) -> list[Path]:
        """Write a `Model` of this modality as other software of its field reads it; returns the files.

        Raises:
            UserError: it cannot be said there; what can is named.
        """
        raise UserError(f"{self.name} models are not written in the form of other software")

    @classmethod
    def adapt(cls, config: dict[str, Any], data: Any) -> dict[str, Any]:
        """The run's configuration with what only the data can know filled in (names of classes, sizes)."""
        return config


def _picture(modality: Modality, sample: Any, prompts: Sequence[Any]) -> str:
    """One sample's picture as an <img>; the path of its file, where `render` makes no picture."""
    with tempfile.TemporaryDirectory() as folder:
        files = modality.render(sample, prompts, Path(folder), [{"prompt": str(prompt)} for prompt in prompts])
        kind = mimetypes.guess_type(files[-1].name)[0] or ""
        if not kind.startswith("image/"):
            return f"<code>{html.escape(files[-1].name)}</code>"
        code = base64.b64encode(files[-1].read_bytes()).decode()
    return f'<img alt="{html.escape(str(prompts[0] or ""))}" src="data:{kind};base64,{code}">'


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
