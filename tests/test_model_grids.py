"""A model's fitted grids: fitted once, kept beside it, and never read for weights or settings that have changed."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from framework.build import Allow
from framework.errors import UserError
from framework.grids import Karras
from framework.grids.cache import GridCache
from framework.grids.fitted import FittedGrid
from framework.grids.gits import GITS
from framework.grids.ld3 import LD3
from framework.guidance.classifier_free import ClassifierFree
from framework.guidance.off import Off
from framework.model import Model
from framework.schedules import LinearVP
from framework.solvers.ddim import DDPM
from framework.solvers.edm import Euler
from framework.store import load, save
from tests.studies.test_plan import graphs
from tests.toy import PointNet, point_config, point_model

FEW = GITS(samples=6, fine_steps=12)


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the grids that were fitted, in order."""
    made: list[str] = []
    original = GridCache._make

    def make(self: GridCache, file: str, *rest: Any) -> FittedGrid:
        made.append(file)
        return original(self, file, *rest)

    monkeypatch.setattr(GridCache, "_make", make)
    return made


def stored(tmp_path: Path, model: Model | None = None) -> Model:
    """A model as it comes from a run's folder."""
    config = point_config(tmp_path / "run")
    save(model or point_model(), config, tmp_path / "run" / "model", "a card")
    return load(tmp_path / "run", allow=Allow(packages=("framework", "tests")))


def test_the_first_use_fits_and_the_next_reads(tmp_path: Path, fits: list[str], caplog: Any) -> None:
    model = stored(tmp_path)
    with caplog.at_level(logging.INFO, "framework.grids"):
        first = model.sample([0, 1], 4, grid=FEW, steps=4)
    again = model.sample([0, 1], 4, grid=FEW, steps=4)
    [file] = (tmp_path / "run" / "grids").iterdir()
    assert file.name.startswith("gits-dpmpp2m-4-") and [file.name] == fits
    assert "fitting gits-dpmpp2m-4" in caplog.text and str(file) in caplog.text
    other = stored(tmp_path).sample([0, 1], 4, grid=FEW, steps=4)
    assert len(fits) == 1
    assert torch.equal(first.samples, again.samples) and torch.equal(first.samples, other.samples)
    record = json.loads(file.read_text())
    assert record["seconds"] > 0 and record["samples"] == 6 and "FittedGrid" in record["error"]


def test_what_it_costs_is_not_the_samples_own_cost(tmp_path: Path) -> None:
    assert point_model().sample(0, 3, grid=FEW, steps=5).ledger.evaluations_per_sample == 5


def test_other_weights_ask_for_another_fit(tmp_path: Path, fits: list[str]) -> None:
    stored(tmp_path).fit_grid(FEW, steps=4)
    model = point_model()
    with torch.no_grad():
        model.network.first.weight[0, 0] += 1e-4  # type: ignore[operator, union-attr]
    stored(tmp_path, model).fit_grid(FEW, steps=4)
    assert len(set(fits)) == 2
    model.fit_grid(FEW, steps=4)  # in memory too, where no file tells
    with torch.no_grad():
        model.network.first.weight[0, 0] += 1e-4  # type: ignore[operator, union-attr]
    model.fit_grid(FEW, steps=4)
    assert len(fits) == 4 and len(set(fits)) == 3


def test_each_setting_has_a_fit_of_its_own(fits: list[str]) -> None:
    model = point_model()
    model.fit_grid(FEW, steps=4)
    model.fit_grid(FEW, steps=5)
    model.fit_grid(FEW, steps=4, solver=Euler())
    model.fit_grid(FEW, steps=4, guidance=ClassifierFree(3.0), prompts=[0, 1])
    model.fit_grid(FEW, steps=4, prompts=[0, 1])
    model.fit_grid(GITS(samples=6, fine_steps=13), steps=4)
    assert len(set(fits)) == len(fits) == 6
    model.fit_grid(FEW, steps=4, guidance=Off())
    model.fit_grid(FEW, steps=4, solver=Euler())
    assert len(fits) == 6


def test_a_fit_does_not_depend_on_what_is_sampled_first(tmp_path: Path) -> None:
    """Nor on the batch size: a sample stays a function of its seed, index and prompt."""
    one, other = point_model(), point_model()
    one.sample(0, 1, seed=5, grid=FEW, steps=4)
    other.sample(1, 3, seed=6, grid=FEW, steps=4, batch_size=2)
    torch.testing.assert_close(
        one.sample(1, 2, grid=FEW, steps=4).samples, other.sample(1, 2, grid=FEW, steps=4).samples
    )


def test_damaged_and_unwritable_files_do_not_stop_anybody(tmp_path: Path, fits: list[str]) -> None:
    stored(tmp_path).fit_grid(FEW, steps=3)
    [file] = (tmp_path / "run" / "grids").iterdir()
    whole = file.read_text()
    file.write_text(whole[: len(whole) // 2])
    with pytest.warns(UserWarning, match="is not a fitted grid.*fitted anew"):
        stored(tmp_path).fit_grid(FEW, steps=3)
    assert json.loads(file.read_text())["log_snr"] == json.loads(whole)["log_snr"]
    file.write_text(whole.replace("PointNet", "Elsewhere"))  # of something else, under its name
    stored(tmp_path).fit_grid(FEW, steps=3)
    assert len(fits) == 3
    model = point_model()
    model.grids = GridCache(file / "below-a-file")
    with pytest.warns(UserWarning, match="cannot be written"):
        model.fit_grid(FEW, steps=3)


def test_learned_grids_on_a_network(fits: list[str]) -> None:
    """Gradients flow through the network though sampling wants none, and leave it as it was."""
    model = point_model()
    before = [parameter.clone() for parameter in model.network.parameters()]
    learned = LD3(samples=6, iterations=3, starts=(Karras(),), fine_steps=12)
    samples = model.sample(0, 2, grid=learned, steps=4, guidance=ClassifierFree(2.0), schedule=LinearVP()).samples
    assert bool(torch.isfinite(samples).all()) and not samples.requires_grad
    assert all(torch.equal(a, b) and b.grad is None for a, b in zip(before, model.network.parameters(), strict=True))
    assert model.network.training and isinstance(model.network, PointNet)
    with pytest.raises(ValueError, match="GITS serves every solver"):
        model.sample(0, 2, grid=learned, steps=4, solver=DDPM())


def test_states_with_tokens_have_fitted_grids_too(tmp_path: Path, fits: list[str]) -> None:
    """Kept like others; guided or not."""
    model = graphs()
    model.grids = GridCache(tmp_path / "grids")
    first = model.sample(n=2, grid=FEW, steps=4)
    again = model.sample(n=2, grid=FEW, steps=4, solver=model.defaults.solver)
    model.sample(n=2, grid=FEW, steps=4, guidance=ClassifierFree(2.0))
    assert len(set(fits)) == len(fits) == 2 and torch.equal(first.samples[0]["points"], again.samples[0]["points"])
    levels = json.loads((tmp_path / "grids" / fits[0]).read_text())["log_snr"]
    assert levels[0] is None and levels[-1] is None and levels[1:-1] == sorted(levels[1:-1]) and len(levels) == 5


def test_times_that_are_learned_need_derivatives() -> None:
    with pytest.raises(UserError, match="a token that is drawn has not; choose grid=gits"):
        graphs().sample(n=2, grid=LD3(samples=2, iterations=1), steps=4)
