"""Multivariate time series as a plugin of Diffract: forecasts and imputations are made by inpainting.

A state is (B, L, C), standardised by channel; condition["observed"] (B, L, C) says which entries are there. Others are
zero in the state, in its noise and in every prediction, so that what is missing weighs nothing. A prompt asks for a
whole series. Samples are float32 (B, L, C) in the data's own units, NaN where a value is missing.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from tensordict import TensorDict
from torch import Tensor

from diffract_timeseries.data import SeriesData
from diffract_timeseries.files import columns, read_table, write_csv
from diffract_timeseries.metrics import ensemble_metrics, filled, recognised, seasonal_naive, set_metrics
from diffract_timeseries.render import drawing, sheet
from framework.conditions import ClassCondition, ConditionKind
from framework.editing.known import Known, TimeTravel
from framework.errors import DataError, UserError
from framework.metrics.measurement import Measurement
from framework.metrics.score import Score, verdicts
from framework.modality import Modality
from framework.model import Model
from framework.spaces import Masked

MEMBERS, HISTORY, GAP = 16, 0.7, 0.15  # of an ensemble; the share that is known of forecasts, and imputed of a channel
OPTIONS = {"windows": 32, "resampling": 1}  # series that are forecast and imputed, and how often a step is walked
FITTED = 1500  # training series that moments and discriminants are taken of
TIME = re.compile(r"time=([0-9]*\.?[0-9]+)-([0-9]*\.?[0-9]+)")


class TimeSeries(Modality):
    """Series of one length and of the same channels.

    Args:
        condition: how classes become tensors.
        channels: their names; None, here and below, is the data's when a run begins.
        length: steps.
        season: steps a season.
        mean, std: of each channel.
    """

    name: ClassVar[str] = "timeseries"

    def __init__(
        self,
        condition: ConditionKind,
        channels: Sequence[str] | None = None,
        length: int | None = None,
        season: int | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        if channels is None or length is None or season is None or mean is None or std is None:
            raise ValueError("series need channels, length, season, mean and std; a run takes them from its data")
        self.conditions, self.channels, self.length, self.season = condition, list(channels), length, season
        self.mean, self.std = torch.tensor(list(mean)), torch.tensor(list(std))

    @property
    def space(self) -> Masked:
        return Masked((), mask="observed")

    def encode(self, batch: Mapping[str, Any]) -> tuple[Tensor, TensorDict]:
        values: Tensor = batch["values"]
        observed = torch.isfinite(values)
        state = (values - self.mean.to(values)) / self.std.to(values)
        condition = self.conditions.encode(batch).update({"observed": observed})
        return torch.where(observed, state, 0.0), condition

    def decode(self, state: Tensor, condition: TensorDict) -> Tensor:  # type: ignore[override]
        values = state.float() * self.std.to(state) + self.mean.to(state)
        return torch.where(condition["observed"], values, torch.nan).cpu()

    def join(self, parts: Sequence[Tensor]) -> Tensor:
        return torch.cat(list(parts))

    def parse(self, prompts: Sequence[Any]) -> TensorDict:
        said = self.conditions.parse(prompts)
        return said.update({"observed": torch.ones(len(said), self.length, len(self.channels), dtype=torch.bool)})

    def null(self, condition: TensorDict) -> TensorDict:
        return self.conditions.null(condition.exclude("observed")).copy().update({"observed": condition["observed"]})

    def read(self, path: Path) -> Mapping[str, Any]:
        """A CSV or Parquet file of at most `length` rows, with the model's channels as columns."""
        values = columns(read_table(path), self.channels, path)
        if len(values) > self.length:
            raise DataError(f"{path} has {len(values)} rows, more than the {self.length} of this model; give the last")
        return {"values": torch.tensor(values[None], dtype=torch.float32), "label": torch.tensor([-1])}

    def region(self, text: str, state: Tensor, condition: TensorDict) -> Tensor:  # type: ignore[override]
        """ "time=0.7-1" in shares of the file, "channel=price", "missing"; several hold together.

        No words name all that is there.
        """
        there: Tensor = condition["observed"]
        place = (torch.arange(there.shape[1]) + 0.5) / there.shape[1]
        inside = there.clone() if not text.strip() else torch.ones_like(there)
        for word in text.replace(",", " ").split():
            if found := TIME.fullmatch(word):
                inside &= ((place >= float(found[1])) & (place < float(found[2])))[:, None]
            elif word.removeprefix("channel=") in self.channels:
                inside &= torch.tensor([name == word.removeprefix("channel=") for name in self.channels])
            elif word == "missing":
                inside &= ~there
            else:
                names = ", ".join(f"channel={name}" for name in self.channels)
                raise UserError(f"unknown region {word!r}; regions are time=0.7-1 (shares), {names}, and missing")
        if not bool(inside.any()):
            raise UserError(f"nothing lies in the region {text!r}")
        return inside if "missing" in text.split() else inside & there

    def render(
        self, samples: Tensor, prompts: Sequence[Any], folder: Path, metadata: Sequence[Mapping[str, str]]
    ) -> list[Path]:
        """A CSV for each sample, with its metadata on top, and sheet.png: quantiles of the samples of each prompt."""
        files = [
            write_csv(folder / f"{i:05d}.csv", self.channels, values.double().numpy(), row)
            for i, (values, row) in enumerate(zip(samples, metadata, strict=True))
        ]
        return [*files, sheet(samples.numpy(), prompts, self.channels, folder / "sheet.png")]

    def prompts(self, data: SeriesData, n: int, seed: int) -> Sequence[Any]:  # type: ignore[override]
        return data.prompts(n, seed) if isinstance(self.conditions, ClassCondition) else [None] * n

    def examples(self, n: int) -> Sequence[Any]:
        names = self.conditions.names if isinstance(self.conditions, ClassCondition) else [None]
        return [names[i % len(names)] for i in range(n)]

    def evaluate(  # type: ignore[override]
        self, samples: Tensor, prompts: Sequence[Any], data: SeriesData, seed: int, options: Mapping[str, Any]
    ) -> dict[str, Measurement]:
        """The metrics of sets of `metrics`, beside those of held-out series."""
        self._options(options)
        real, train = data.reference(2 * len(samples), seed), data.training_reference(FITTED, seed)
        half, known = len(real.values) // 2, (self._standard(train.values), train.labels.numpy())
        first, second = self._standard(real.values[:half]), self._standard(real.values[half:])
        asked, are = self._labels(prompts), real.labels[half:].numpy()
        found = set_metrics(self._standard(samples), asked, first, self.season, known, seed)
        ceiling = set_metrics(second, are, first, self.season, known, seed)
        return found | {f"ceiling/{name}": value for name, value in ceiling.items()}

    def assess(  # type: ignore[override]
        self, model: Model, data: SeriesData, seed: int, options: Mapping[str, Any]
    ) -> dict[str, Measurement]:
        """Ensembles for the last 30 % of held-out series, and for 15 % of each of their channels."""
        chosen = self._options(options)
        series = data.reference(chosen["windows"], seed)
        count, wide = len(series.values), round(GAP * self.length)
        state, condition = self.encode({"values": series.values, "label": series.labels})
        truth, there = self._standard(series.values), condition["observed"]
        steps = torch.arange(self.length)[:, None]
        generator = torch.Generator().manual_seed(seed)
        begin = torch.randint(0, self.length - wide, (count, 1, len(self.channels)), generator=generator)
        known = {
            "forecast": there & (steps < round(HISTORY * self.length)),
            "imputation": there & ((steps < begin) | (steps >= begin + wide)),
        }
        simple = {"forecast": partial(seasonal_naive, season=self.season), "imputation": filled}
        classed = isinstance(self.conditions, ClassCondition)
        prompts = [label if classed and label >= 0 else None for label in series.labels.tolist()]  # None: not said
        found = {}
        for task, mask in known.items():
            tasks = [Known(state, mask), TimeTravel(chosen["resampling"])]
            drawn = self._standard(model.sample(prompts, count * MEMBERS, seed=seed, tasks=tasks).samples)
            ensembles = drawn.reshape(MEMBERS, count, *drawn.shape[1:]).swapaxes(0, 1)
            shown = np.where(mask.numpy(), truth, np.nan)
            found |= ensemble_metrics(task, ensembles, truth, mask.numpy(), simple[task](shown), seed)
        return found

    def scores(  # type: ignore[override]
        self, samples: Tensor, prompts: Sequence[Any], data: SeriesData, seed: int
    ) -> dict[str, Score]:
        """Whether a linear discriminant sees the class that was asked for."""
        asked = self._labels(prompts)
        if not len(samples) or (asked < 0).any():
            return {}
        train = data.training_reference(FITTED, 0)
        seen = recognised(self._standard(samples), self._standard(train.values), train.labels.numpy())
        return {"class": verdicts(seen == asked, "season seen")}

    def features(self, samples: Tensor, data: SeriesData) -> np.ndarray:  # type: ignore[override]
        """The standardised series themselves, with straight lines over gaps."""
        return filled(self._standard(samples)).reshape(len(samples), -1).astype(np.float32)

    def real(self, data: SeriesData, n: int, seed: int) -> tuple[Tensor, Sequence[Any]]:  # type: ignore[override]
        series = data.reference(n, seed)
        return series.values, [label if label >= 0 else None for label in series.labels.tolist()]

    def show(self, samples: Tensor, prompts: Sequence[Any]) -> list[str]:
        """Each series as lines (SVG)."""
        return [drawing(values.numpy(), self.channels) for values in samples]

    def _options(self, options: Mapping[str, Any]) -> dict[str, int]:
        if unknown := set(options) - set(OPTIONS):
            raise UserError(f"timeseries know no option {', '.join(sorted(unknown))}; they know {', '.join(OPTIONS)}")
        return {key: int(options.get(key, value)) for key, value in OPTIONS.items()}

    def _labels(self, prompts: Sequence[Any]) -> np.ndarray:
        """The classes that were asked for, -1 for none."""
        if not isinstance(self.conditions, ClassCondition):
            return np.full(len(prompts), -1)
        labels = self.parse(["" if prompt is None else prompt for prompt in prompts])["label"].numpy()
        return np.where(labels == self.conditions.num_classes, -1, labels)

    def _standard(self, values: Tensor) -> np.ndarray:
        return ((values - self.mean) / self.std).double().numpy()

    @classmethod
    def adapt(cls, config: dict[str, Any], data: SeriesData) -> dict[str, Any]:
        """Channels, length, season, moments and classes, where the configuration leaves them open."""
        config = copy.deepcopy(config)
        modality, backbone = config["modality"], config["backbone"]
        values = data.training_reference(FITTED, 0).values.double().numpy().reshape(-1, len(data.channels))
        mean, std = np.nanmean(values, 0).round(6).tolist(), (np.nanstd(values, 0) + 1e-6).round(6).tolist()
        known = {
            "channels": list(data.channels),
            "length": data.length,
            "season": data.season,
            "mean": mean,
            "std": std,
        }
        modality |= {key: value for key, value in known.items() if modality.get(key) is None}
        condition, classes = modality["condition"], 0
        if "names" in condition:
            if not data.class_names:
                raise DataError("these series have no classes; choose modality=timeseries/unconditional")
            condition["names"] = list(condition["names"] or data.class_names)
            classes = len(condition["names"])
        sizes = {"channels": len(modality["channels"]), "classes": classes}
        backbone |= {key: size for key, size in sizes.items() if key in backbone and backbone[key] is None}
        return config
