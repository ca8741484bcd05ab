"""Audio as a plugin of Diffract: clips as spectrograms (or another codec's frames), WAV files out.

A state is (B, L, C, F): L frames, C channels, F bands, of which condition["mask"] (B, L) says which are real; so clips
of all lengths train together, padding never weighs, and the noise of a frame does not depend on how many follow.
condition["samples"] (B,) is a clip's length in samples.

How long a clip is to be, a prompt may say ("seconds=0.7"); where it does not, the length is drawn from those of the
training clips.
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
from torch import Tensor

from framework.build import USER_CONFIG, build
from framework.conditions import ConditionKind, Fields, Unconditional
from framework.data.counter import uniforms
from framework.editing.windows import Windows
from framework.errors import DataError, PromptError, UserError
from framework.metrics.feature_net import FeatureNet
from framework.metrics.measurement import Measurement
from framework.metrics.reconstruction import measured
from framework.metrics.score import Score
from framework.modality import Modality
from framework.posterior import Posterior
from framework.spaces import Masked
from modalities.audio import scores as judged
from modalities.audio.codecs.codec import Codec
from modalities.audio.data import AudioData
from modalities.audio.distances import log_spectral_distance
from modalities.audio.files import SUFFIXES, read_audio, read_metadata
from modalities.audio.judge import judge, label_classifier
from modalities.audio.levels import TARGETS, set_level
from modalities.audio.page import fragments, write_page
from modalities.audio.regions import frames_and_bands
from modalities.audio.render import contact_sheet, save_clips, trajectory_sheet
from modalities.audio.waveforms import Waveforms

QUANTILES = 33  # of the training clips' lengths that a model remembers
SECONDS = re.compile(r"\bseconds=([0-9]*\.?[0-9]+)\s*,?\s*")


FEW_QUANTILES = 9  # and of those with certain labels


@dataclass(frozen=True)
class Timed:
    """A prompt and how many seconds its clip lasts."""

    prompt: Any
    seconds: float


class Audio(Modality):
    """Clips of one channel.

    Args:
        condition: how labels or captions become tensors.
        codec: clips to frames and back.
        seconds: the longest clip that the network was trained on; None is the data's when a run begins.
        durations: quantiles of the training clips' lengths in seconds, evenly spaced; None likewise.
        durations_of: the same of the clips with certain labels, by their numbers ("7,4"): a "seven" lasts longer than a
            "six"; None likewise.
        level, target_db: to what the training clips were levelled (levels.set_level), and files that are edited are;
            None likewise.
    """

    name: ClassVar[str] = "audio"

    def __init__(
        self,
        condition: ConditionKind,
        codec: Codec,
        seconds: float | None = None,
        durations: Sequence[float] | None = None,
        durations_of: Mapping[str, Sequence[float]] | None = None,
        level: str | None = None,
        target_db: float | None = None,
    ) -> None:
        if seconds is None or durations is None:
            raise ValueError("audio needs seconds and durations; a training run takes them from its data")
        self.conditions, self.codec, self.seconds = condition, codec, float(seconds)
        self.durations, self.durations_of = list(durations), dict(durations_of or {})
        self.level, self.target_db = level or "none", target_db
        self._classifier: tuple[AudioData, FeatureNet | None] | None = None

    @property
    def frames(self) -> int:
        """L of the longest clip that was trained on."""
        return self.codec.frames(round(self.seconds * self.codec.rate))

    @property
    def space(self) -> Masked:
        return Masked((self.codec.channels, self.codec.bands))

    def encode(self, batch: Mapping[str, Any]) -> tuple[Tensor, TensorDict]:
        """float32 (B, T) with lengths as frames of about unit variance."""
        mean, _, condition = self.posterior(batch)
        return mean, condition  # type: ignore[return-value]

    def posterior(self, batch: Mapping[str, Any]) -> Posterior:
        condition = self._sized(self.conditions.encode(batch), torch.as_tensor(batch["length"]))
        mean, deviation = self.codec.posterior(batch["waveform"])
        deviation = None if deviation is None else self._on_canvas(deviation, condition)
        return Posterior(self._on_canvas(mean, condition), deviation, condition)

    def _on_canvas(self, x: Tensor, condition: TensorDict) -> Tensor:
        """Frames cut or padded to those of the mask, zero beyond each clip."""
        missing = condition["mask"].shape[1] - x.shape[1]
        x = torch.nn.functional.pad(x, (0, 0, 0, 0, 0, missing)) if missing > 0 else x[:, : condition["mask"].shape[1]]
        return self.space.project(x, condition)

    def decode(self, state: Tensor, condition: TensorDict) -> Waveforms:  # type: ignore[override]
        """Clips whose peak is at most that of the training clips, or 1: a louder one is scaled down as a whole."""
        samples = condition["samples"].to(state.device)
        waveform = self.codec.decode(state.float(), samples)
        target = TARGETS["peak"] if self.target_db is None else self.target_db
        highest = 10 ** (target / 20) if self.level == "peak" else 1.0
        peak = waveform.abs().amax(1, keepdim=True)
        return Waveforms((waveform * (highest / peak.clamp(min=highest))).cpu(), samples.cpu(), self.codec.rate)

    def join(self, parts: Sequence[Waveforms]) -> Waveforms:
        return Waveforms.join(parts)

    def complete(self, prompts: Sequence[Any], seed: int, samples: Sequence[int]) -> Sequence[Timed]:
        """Prompts with the seconds that they leave open drawn from the training clips'."""
        shares = uniforms(seed, "audio/seconds", np.asarray(samples), 1)[:, 0]
        timed = [self._timed(prompt) for prompt in prompts]
        return [
            Timed(prompt, float(_quantile(self._durations_of(prompt), share)) if said is None else said)
            for (prompt, said), share in zip(timed, shares, strict=True)
        ]

    def _durations_of(self, prompt: Any) -> Sequence[float]:
        """The quantiles of the lengths of clips with a prompt's labels, or of all clips."""
        if not self.durations_of or not isinstance(self.conditions, Fields) or prompt is None:
            return self.durations
        labels = self.conditions.parse([prompt])
        key = ",".join(str(labels[name].item()) for name in self.conditions.fields)
        return self.durations_of.get(key, self.durations)

    def parse(self, prompts: Sequence[Any]) -> TensorDict:
        timed = [self._timed(prompt) for prompt in prompts]
        seconds = torch.tensor([self.seconds if said is None else said for _, said in timed])
        words = self.conditions.parse(["" if prompt is None else prompt for prompt, _ in timed])
        return self._sized(words, (seconds * self.codec.rate).round().long())

    def null(self, condition: TensorDict) -> TensorDict:
        silent = self.conditions.null(condition.exclude("mask", "samples"))
        return self.resized(silent, condition)

    def resized(self, condition: TensorDict, like: TensorDict) -> TensorDict:  # type: ignore[override]
        return condition.copy().update({"mask": like["mask"], "samples": like["samples"]})

    def read(self, path: Path) -> Mapping[str, Any]:
        clip = read_audio(path, self.codec.rate)
        clip = set_level(clip - clip.mean(), self.codec.rate, self.level, self.target_db)
        heads = len(self.conditions.fields) if isinstance(self.conditions, Fields) else 1
        return {
            "waveform": clip[None],
            "length": torch.tensor([len(clip)]),
            "caption": [""],
            "label": torch.tensor([-1]),
            "labels": torch.full((1, heads), -1),
        }

    @classmethod
    def told(cls, path: Path) -> Mapping[str, str] | None:
        return read_metadata(path) if path.suffix.lower() in SUFFIXES else None

    def region(self, text: str, state: Tensor, condition: TensorDict) -> Tensor:  # type: ignore[override]
        """ "time=0.2-0.5" in seconds, "below=2000" and "above=500" in Hz; several hold together."""
        return frames_and_bands(text, condition["mask"], self.codec)

    def windows(self, overlap: float) -> Windows:
        return Windows(self.frames, round(overlap * self.frames), axis=1, sliced={"mask": 1})

    def render(
        self, samples: Waveforms, prompts: Sequence[Any], folder: Path, metadata: Sequence[Mapping[str, str]]
    ) -> list[Path]:
        """A WAV for each sample, page.html with players and spectrograms, and sheet.png."""
        texts = [self._text(prompt) for prompt in prompts]
        files = save_clips(samples, folder, texts, metadata)
        files.append(write_page(folder / "page.html", samples, texts, metadata))
        contact_sheet(samples, texts).save(folder / "sheet.png")
        return [*files, folder / "sheet.png"]

    def render_trajectory(self, states: Sequence[Waveforms], prompts: Sequence[Any], folder: Path) -> list[Path]:
        """trajectory.png: a row a sample, at most 8; a column a step, at most 10."""
        shown = np.unique(np.linspace(0, len(states) - 1, min(len(states), 10)).round().astype(int))
        rows = [self._text(prompt) for prompt in prompts[:8]]
        sheet = trajectory_sheet([states[i][:8] for i in shown], [f"step {i + 1}" for i in shown], rows)
        sheet.save(folder / "trajectory.png")
        return [folder / "trajectory.png"]

    def prompts(self, data: AudioData, n: int, seed: int) -> Sequence[Any]:  # type: ignore[override]
        """All combinations of classes in equal numbers, held-out captions, or nothing, as the condition has it."""
        if isinstance(self.conditions, Unconditional):
            return [None] * n
        return data.classes(n, seed) if isinstance(self.conditions, Fields) else data.captions(n, seed)

    def examples(self, n: int) -> Sequence[Any]:
        """The classes of all fields in turn; captions are the data's to know."""
        if not isinstance(self.conditions, Fields):
            return super().examples(n)
        fields = self.conditions.fields.items()
        return [{name: kind.names[i % kind.num_classes] for name, kind in fields} for i in range(n)]

    def evaluation_prompts(self, data: AudioData, n: int, seed: int) -> Sequence[Any]:  # type: ignore[override]
        """The prompts, and behind captions a quarter as many that lie outside of the data (`probes`), if it has any."""
        prompts = list(self.prompts(data, n, seed))
        return [*prompts, *data.probes(max(n // 4, 1), seed)] if isinstance(prompts[0], str) else prompts

    def evaluate(  # type: ignore[override]
        self, samples: Waveforms, prompts: Sequence[Any], data: AudioData, seed: int, options: Mapping[str, Any]
    ) -> dict[str, Measurement]:
        """The metrics of `metrics` and the data's own exact rules; see `judge`."""
        return judge(self, samples, prompts, data, seed, options)

    def reconstruction(  # type: ignore[override]
        self, original: Tensor, reconstructed: Tensor, condition: TensorDict, data: AudioData, seed: int
    ) -> dict[str, Measurement]:
        """The default's, and the log-spectral distance in dB between the clips."""
        found = super().reconstruction(original, reconstructed, condition, data, seed)
        distances = log_spectral_distance(self.decode(reconstructed, condition), self.decode(original, condition))
        return found | {"log_spectral_distance": measured(distances, seed)}

    def scores(  # type: ignore[override]
        self, samples: Waveforms, prompts: Sequence[Any], data: AudioData, seed: int
    ) -> dict[str, Score]:
        """What exact rules hear of captions, or whether a classifier hears the labels."""
        return judged.scores(self, samples, prompts, data)

    def features(self, samples: Waveforms, data: AudioData) -> np.ndarray | None:  # type: ignore[override]
        """The classifier's, of the clips' pictures."""
        return judged.features(self, samples, data)

    def real(self, data: AudioData, n: int, seed: int) -> tuple[Waveforms, Sequence[Any]]:  # type: ignore[override]
        """Held-out clips with their captions or labels."""
        return judged.real(self, data, n, seed)

    def show(self, samples: Waveforms, prompts: Sequence[Any]) -> list[str]:
        """Each as a spectrogram over a player."""
        return fragments(samples, [self._text(prompt) for prompt in prompts])

    def classifier(self, data: AudioData) -> FeatureNet | None:
        """A classifier of the data's own labels, trained once and cached; None where there are no labels."""
        if self._classifier is None or self._classifier[0] is not data:
            self._classifier = data, label_classifier(data)
        return self._classifier[1]

    def through_codec(self, clips: Waveforms) -> Waveforms:
        """Clips as the codec gives them back: as good as a model with it can get."""
        return Waveforms(self.codec.decode(self.codec.encode(clips.samples), clips.lengths), clips.lengths, clips.rate)

    def _sized(self, condition: TensorDict, samples: Tensor) -> TensorDict:
        """A condition with lengths in samples, on a canvas of the model's own frames, or of more for a longer clip."""
        samples = samples.clamp(min=1)
        frames = max(self.frames, self.codec.frames(int(samples.max())) if len(samples) else 0)
        real = -(-samples // self.codec.hop)
        mask = torch.arange(frames, device=samples.device) < real[:, None]
        return condition.update({"mask": mask, "samples": samples})

    def _timed(self, prompt: Any) -> tuple[Any, float | None]:
        """A prompt without its seconds, and these, if it says so."""
        if isinstance(prompt, Timed):
            return prompt.prompt, prompt.seconds
        seconds: Any = None
        if isinstance(prompt, Mapping) and "seconds" in prompt:
            seconds = prompt["seconds"]
            prompt = {key: value for key, value in prompt.items() if key != "seconds"}
        elif isinstance(prompt, str) and (found := SECONDS.search(prompt)):
            seconds, prompt = found[1], (prompt[: found.start()] + prompt[found.end() :]).strip(" ,")
        if seconds is not None and not 0 < float(seconds) < 3600:
            raise PromptError(f"a clip lasts more than 0 and less than 3600 seconds, not {seconds}")
        return prompt, None if seconds is None else float(seconds)

    def _text(self, prompt: Any) -> str:
        """What to write under the spectrograms."""
        prompt = prompt.prompt if isinstance(prompt, Timed) else prompt
        if prompt is None:
            return ""
        return self.conditions.describe(self._timed(prompt)[0]) if isinstance(self.conditions, Fields) else str(prompt)

    @classmethod
    def adapt(cls, config: dict[str, Any], data: Any) -> dict[str, Any]:
        """Seconds, durations, the codec's rate and statistics, names of classes and the sizes of the backbone."""
        config = copy.deepcopy(config)
        modality, backbone, codec = config["modality"], config["backbone"], config["modality"]["codec"]
        allow = USER_CONFIG.plus(*(config.get("allow") or ()))
        lengths = data.lengths.double() / data.rate
        known = {
            "seconds": data.seconds,
            "durations": _quantiles(lengths, QUANTILES),
            "durations_of": {
                ",".join(map(str, row)): _quantiles(lengths[(data.labels == torch.tensor(row)).all(1)], FEW_QUANTILES)
                for row in (torch.unique(data.labels, dim=0).tolist() if "fields" in modality["condition"] else [])
                if min(row) >= 0
            },
            "level": data.preparation.level if hasattr(data, "preparation") else "none",
            "target_db": data.preparation.target_db if hasattr(data, "preparation") else None,
        }
        modality |= {key: value for key, value in known.items() if modality.get(key) is None}
        if codec["rate"] is None:
            codec["rate"] = data.rate
        if codec["rate"] != data.rate:
            raise UserError(
                f"the codec works at {codec['rate']} Hz and the data at {data.rate} Hz; set data.rate or leave "
                "modality.codec.rate open"
            )
        if codec["mean"] is None or codec["std"] is None:
            clips = data.training_reference(256, 0).waveforms
            mean, std = build(codec | {"mean": 0.0, "std": 1.0}, allow).statistics(clips)
            codec |= {"mean": round(mean, 4), "std": round(std, 4)}
        made = build(codec, allow)
        condition = modality["condition"]
        if "fields" in condition and condition["fields"] is None:
            if not data.heads:
                raise DataError(
                    "the data has no classes to be conditioned on; choose modality=audio/text or audio/unconditional"
                )
            condition["fields"] = {name: list(names) for name, names in data.heads.items()}
        sizes = {name: len(names) for name, names in condition.get("fields", {}).items()}
        for key, value in {"channels": made.channels, "bands": made.bands, "labels": sizes}.items():
            if key in backbone and backbone[key] is None:
                backbone[key] = value
        return config


def _quantiles(lengths: Tensor, count: int) -> list[float]:
    """`count` evenly spaced quantiles of lengths in seconds, to a tenth of a millisecond."""
    return [round(float(q), 4) for q in lengths.quantile(torch.linspace(0, 1, count).double())]


def _quantile(quantiles: Sequence[float], share: float) -> float:
    """The quantile of any share in [0, 1), between those that are known."""
    return float(np.interp(share * (len(quantiles) - 1), np.arange(len(quantiles)), quantiles))
