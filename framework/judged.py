"""The part of the plugin contract by which samples are judged: every method has a default, which measures nothing.

`evaluate` speaks of a set of samples beside the data's own ceiling; `scores`, `features`, `real` and `show` are what
studies compare samplers by.
"""

from __future__ import annotations

import base64
import html
import mimetypes
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
from torch import Tensor

from framework.metrics.measurement import Measurement
from framework.metrics.reconstruction import measured, psnr
from framework.metrics.score import Score
from framework.spaces import Masked, Space
from framework.state import Condition, State

if TYPE_CHECKING:
    from framework.metrics.feature_net import FeatureNet
    from framework.model import Model


class JudgeData(Protocol):
    """What evaluation asks of a LightningDataModule: prompts to sample for, and real data that was not trained on."""

    def setup(self, stage: str) -> None: ...

    def prompts(self, n: int, seed: int) -> Sequence[Any]:
        """`n` prompts, a function of the seed."""
        ...

    def reference(self, n: int, seed: int) -> Any:
        """Up to `n` real items in a form that the modality's `evaluate` understands."""
        ...


class Judged(ABC):
    """What a modality says of its samples.

    Attributes:
        name: a word.
        space: where the state and its noise live.
    """

    name: ClassVar[str]

    @property
    @abstractmethod
    def space(self) -> Space: ...

    @abstractmethod
    def render(
        self, samples: Any, prompts: Sequence[Any], folder: Path, metadata: Sequence[Mapping[str, str]]
    ) -> list[Path]: ...

    def prompts(self, data: JudgeData, n: int, seed: int) -> Sequence[Any]:
        """`n` prompts for such data that this modality's conditions can read."""
        return data.prompts(n, seed)

    def evaluation_prompts(self, data: JudgeData, n: int, seed: int) -> Sequence[Any]:
        """The prompts whose samples `evaluate` judges."""
        return self.prompts(data, n, seed)

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


def _picture(modality: Judged, sample: Any, prompts: Sequence[Any]) -> str:
    """One sample's picture as an <img>; the path of its file, where `render` makes no picture."""
    with tempfile.TemporaryDirectory() as folder:
        files = modality.render(sample, prompts, Path(folder), [{"prompt": str(prompt)} for prompt in prompts])
        kind = mimetypes.guess_type(files[-1].name)[0] or ""
        if not kind.startswith("image/"):
            return f"<code>{html.escape(files[-1].name)}</code>"
        code = base64.b64encode(files[-1].read_bytes()).decode()
    return f'<img alt="{html.escape(str(prompts[0] or ""))}" src="data:{kind};base64,{code}">'
