"""The conformance kit on the toy experiment, and what only series promise."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import torch
from diffract_timeseries.data import MadeData, TableData
from diffract_timeseries.made import CLASSES, DAY, make
from diffract_timeseries.metrics import ensemble_metrics, filled, seasonal_naive, set_metrics
from diffract_timeseries.modality import TimeSeries
from tensordict import TensorDict
from torch import Tensor, nn

from experiments.suite import ExperimentSuite
from framework.conditions import ClassCondition, Unconditional
from framework.denoiser import Angle, NetworkDenoiser
from framework.editing.known import Known
from framework.editing.requests import Continue, Inpaint
from framework.errors import DataError, UserError
from framework.noise import BatchKey
from framework.objectives.distances import MSE
from framework.objectives.objective import Objective
from framework.objectives.times import Uniform
from framework.objectives.weightings import Constant
from framework.parametrizations import V
from framework.schedules import Flow


class TestToy(ExperimentSuite):
    experiment = "timeseries/toy"
    overrides = ("data.train_length=192", "data.validation_length=256", "backbone.width=32", "backbone.layers=2")
    thorough = True


def modality(length: int = 10) -> TimeSeries:
    return TimeSeries(Unconditional(), ["a", "b"], length, 4, [1.0, -2.0], [2.0, 0.5])


def test_what_is_missing_has_no_noise_and_weighs_nothing():
    """A network that shouts where nothing was observed has the loss of one that is silent there."""

    class Shouting(nn.Module):
        def __init__(self, loud: float) -> None:
            super().__init__()
            self.loud = loud

        def forward(self, x: Tensor, level: Tensor, condition: TensorDict) -> Tensor:
            assert not x[~condition["observed"]].any()
            return torch.where(condition["observed"], 0.3 * x, self.loud)

    series = modality()
    values = torch.randn(4, 10, 2)
    values[torch.rand(4, 10, 2) < 0.3] = torch.nan
    state, condition = series.encode({"values": values})
    assert series.space.degrees_of_freedom(condition).tolist() == torch.isfinite(values).sum((1, 2)).tolist()
    objective, losses = Objective(Uniform(), Constant(), MSE()), []
    for loud in (0.0, 1e6):
        denoiser = NetworkDenoiser(Shouting(loud), Flow(), V(), series.space, Angle())
        losses.append(objective(denoiser, state, condition, BatchKey(0, 0, size=4)).loss)
    assert torch.equal(*losses)


def test_files_come_back_with_their_gaps(tmp_path):
    series = modality()
    values = torch.randn(1, 10, 2)
    values[0, 2:5, 1] = torch.nan
    *_, picture = series.render(values, [None], tmp_path, [{"prompt": "two\nlines", "seed": "3"}])
    assert picture.name == "sheet.png"
    found = series.read(tmp_path / "00000.csv")["values"]
    torch.testing.assert_close(found, values, equal_nan=True)
    assert "# prompt: two lines\n# seed: 3\n" in (tmp_path / "00000.csv").read_text()
    columns = {"when": ["x"] * 10, "b": [None if math.isnan(x) else x for x in values[0, :, 1].tolist()]}
    pa.parquet.write_table(pa.table(columns), tmp_path / "b.parquet")
    found = series.read(tmp_path / "b.parquet")["values"]
    torch.testing.assert_close(found[..., 1], values[..., 1], equal_nan=True)
    assert found[..., 0].isnan().all()  # a channel that is not in the file is missing


@pytest.mark.parametrize(
    ("text", "words"), [("x,y\n1,2\n", "none of the channels"), ("a,b\n", "no column"), ("a\n" + "1\n" * 11, "11 rows")]
)
def test_a_file_that_cannot_be_used_says_why(tmp_path, text, words):
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(DataError, match=words):
        modality().read(tmp_path / "x.csv")


def known(request: Inpaint | Continue, series: TimeSeries) -> Tensor:
    """Where a request keeps what the file says."""
    [task] = [task for task in request.tasks(series) if isinstance(task, Known)]
    assert isinstance(task.mask, Tensor)
    return task.mask[0]


def test_what_is_missing_is_never_kept(tmp_path):
    file = tmp_path / "gaps.csv"
    rows = [f"{i},{'' if 2 <= i < 5 else i}" for i in range(10)]
    file.write_text("\n".join(["a,b", *rows]))
    there = torch.ones(10, 2, dtype=torch.bool)
    there[2:5, 1] = False
    early, only_a = torch.arange(10)[:, None] < 7, torch.tensor([[True, False]])
    assert torch.equal(known(Inpaint(str(file), redo="time=0.7-1"), modality()), there & early)
    assert torch.equal(known(Inpaint(str(file), keep="time=0-0.7"), modality()), there & early)
    assert torch.equal(known(Inpaint(str(file), redo="missing"), modality()), there)
    assert torch.equal(known(Inpaint(str(file), redo="channel=b"), modality()), there & only_a)
    assert torch.equal(known(Continue(str(file)), modality(20)), there)
    with pytest.raises(UserError, match="channel=b"):
        known(Inpaint(str(file), redo="channel=c"), modality())


def test_the_score_of_normal_ensembles_is_that_of_the_normal_law():
    """CRPS(N(0, 1), y) = y (2 F(y) - 1) + 2 f(y) - 1 / sqrt(pi); its mean over y ~ N(0, 1) is 1 / sqrt(pi)."""
    rng = np.random.default_rng(0)
    truth, drawn = rng.standard_normal((2000, 8, 1)), rng.standard_normal((2000, 6, 8, 1))
    nothing = np.zeros(truth.shape, dtype=bool)
    found = ensemble_metrics("x", drawn, truth, nothing, np.zeros_like(truth), seed=0)
    assert abs(found["x/crps"].value - 1 / math.sqrt(math.pi)) < 0.015
    assert abs(found["x/baseline"].value - math.sqrt(2 / math.pi)) < 0.015
    assert abs(found["x/skill"].value - (1 - 1 / math.sqrt(2))) < 0.02
    high = np.where(truth[:8] > 0, truth[:8], np.nan)  # what is missing is not judged
    assert ensemble_metrics("x", drawn[:8], high, nothing[:8], np.ones_like(high), 0)["x/baseline"].value < 1


def test_the_naive_forecast_knows_what_comes_again():
    season = np.random.default_rng(1).standard_normal((3, 4, 2))
    series = np.concatenate([season] * 5, 1)
    history = np.where(np.arange(20)[:, None] < 14, series, np.nan)
    np.testing.assert_allclose(seasonal_naive(history, 4), series)


def test_sets_that_differ_in_time_or_in_coupling_are_told_apart():
    real, labels = make(np.arange(600), 0, "x", 0.0)
    real = (real - real.mean((0, 1))) / real.std((0, 1))
    train = real[400:], labels[400:]
    same = set_metrics(real[:200], labels[:200], real[200:400], DAY, train, 0)
    assert same["class_accuracy"].value > 0.95
    shuffled = np.random.default_rng(0).permuted(real[:200], axis=1)
    turned = real[:200] * np.array([1.0, -1.0, 1.0])
    for name, wrong in (("acf", shuffled), ("spectrum", shuffled), ("coupling", turned)):
        worse = set_metrics(wrong, labels[:200], real[200:400], DAY, train, 0)
        assert worse[name].value > 3 * same[name].high, name


def test_made_series_are_functions_of_their_numbers_and_couple_as_their_season_has_it():
    items = np.arange(300)
    values, season = make(items, 3, "x", 0.0)
    again, _ = make(items[::-1], 3, "x", 0.0)
    np.testing.assert_array_equal(again[::-1], values)
    whole = [
        np.corrcoef(values[season == k, 2:, 1].mean(1), values[season == k, :-2, 0].mean(1))[0, 1] for k in range(3)
    ]
    assert whole[0] < -0.7 and abs(whole[1]) < 0.3 and whole[2] > 0.7
    gaps, _ = make(items, 3, "x", 0.5)
    some = np.isnan(gaps).any((1, 2))
    assert 0.4 < some.mean() < 0.6 and np.array_equal(gaps[~some], values[~some])
    assert np.isfinite(filled(gaps)).all()


def test_tables_become_windows_with_classes_and_bad_files_are_named(tmp_path):
    for name, steps in (("old/a", 35), ("new/b", 24), ("new/short", 3)):
        file = tmp_path / "tables" / f"{name}.csv"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("\n".join(["time,a,b", *(f"2026-01-{i},{i},{'' if i % 5 == 0 else -i}" for i in range(steps))]))
    data = TableData(str(tmp_path / "tables"), length=8, max_bad_share=0.5, skipped_path=str(tmp_path / "skipped.csv"))
    data.held_out_share = 0.4
    data.setup()
    assert data.channels == ("a", "b") and data.class_names == ("new", "old")
    assert len(data.train_set) + len(data.validation_set) == 4 + 3
    assert [item.name for item in data.bad_items] == ["new/short.csv"] and "3 rows" in data.bad_items[0].reason
    first = data.reference(9, 0)
    assert first.values.shape[1:] == (8, 2) and set(first.labels.tolist()) <= {0, 1}
    assert first.values.isnan().any()


def test_the_model_is_asked_for_forecasts():
    """A model that knows the truth has no error, and one that knows nothing has that of the seasons' spread."""

    class Knowing:
        def sample(self, prompts, n, *, seed, tasks):
            assert n == 16 * len(prompts)
            assert all(tasks[0].mask.any((1, 2))) and not tasks[0].mask.all()
            return type("Samples", (), {"samples": self.values.repeat(16, 1, 1)})

    data, model = MadeData(train_length=100, validation_length=100), Knowing()
    data.setup()
    values = data.training_reference(100, 0).values.reshape(-1, 3).numpy()
    series = TimeSeries(
        ClassCondition(CLASSES), data.channels, 96, DAY, np.nanmean(values, 0).tolist(), np.nanstd(values, 0).tolist()
    )
    model.values = data.reference(6, 1).values
    found = series.assess(model, data, 1, {"windows": 6})
    assert found["forecast/crps"].value == 0 and found["imputation/skill"].value == 1
    assert 0.1 < found["forecast/baseline"].value < 2 and found["imputation/baseline"].n == 6
    with pytest.raises(UserError, match="windows"):
        series.assess(model, data, 1, {"window": 6})
