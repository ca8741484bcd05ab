"""Sampling from Python: defaults, prompts, batches, and the average of the weights."""

from __future__ import annotations

import pytest
import torch
from tensordict import TensorDict

from framework.grids import Karras
from framework.guidance.classifier_free import ClassifierFree
from framework.modality import drop
from framework.samples import Trajectory
from framework.schedules import LinearVP
from framework.solvers.ddim import DDPM
from framework.solvers.edm import Heun
from framework.state import device_of
from framework.training.ema import EMA
from tests.toy import PointNet, point_model


def test_samples_do_not_depend_on_the_batch_size() -> None:
    model = point_model()
    for solver in (DDPM(), Heun()):
        whole = model.sample([0, 1], 9, solver=solver, guidance=ClassifierFree(2.0)).samples
        split = model.sample([0, 1], 9, solver=solver, guidance=ClassifierFree(2.0), batch_size=4).samples
        torch.testing.assert_close(split, whole, rtol=1e-5, atol=1e-6)


def test_sampling_goes_on_where_it_ended() -> None:
    model = point_model()
    whole = model.sample(0, 6).samples
    torch.testing.assert_close(model.sample(0, 2, first=4).samples, whole[4:], rtol=1e-5, atol=1e-6)


def test_prompts_are_repeated_in_turn_and_none_says_nothing() -> None:
    model = point_model()
    samples = model.sample([0, 1, None], 5)
    assert samples.prompts == [0, 1, None, 0, 1] and len(samples) == 5
    assert model.condition([None, None])["label"].tolist() == [2, 2]
    assert model.condition([0, None])["label"].tolist() == [0, 2]


def test_the_ledger_tells_what_it_cost() -> None:
    samples = point_model().sample(0, 3, steps=10, guidance=ClassifierFree(2.0))
    assert samples.ledger.samples == 3 and samples.ledger.evaluations_per_sample == 20
    assert samples.ledger.seconds > 0


def test_another_schedule_and_grid() -> None:
    samples = point_model().sample(0, 3, schedule=LinearVP(), grid=Karras(), steps=5)
    assert bool(torch.isfinite(samples.samples).all())


def test_trajectories_have_a_frame_a_step() -> None:
    trajectory = Trajectory()
    model = point_model()
    last = model.sample(0, 2, solver=Heun(), steps=6, hooks=[trajectory]).samples
    assert len(trajectory.states) == len(trajectory.cleans) == 6
    assert torch.equal(trajectory.states[-1], last)


def test_hooks_wait_for_the_first_prediction() -> None:
    """Churn adds noise before anything was evaluated; there is nothing to show of that stage."""
    trajectory = Trajectory()
    samples = point_model().sample(0, 2, solver=Heun(churn=10.0), grid=Karras(), steps=4, hooks=[trajectory])
    assert len(trajectory.states) == 4 and bool(torch.isfinite(samples.samples).all())


def test_dropped_conditions_stay_where_they_were() -> None:
    """A TensorDict made of parts says on which device it lies if the one that it came from did."""
    condition = TensorDict({"label": torch.zeros(2)}, batch_size=[2], device="cpu")
    dropped = drop(condition, condition.clone(), torch.tensor([True, False]))
    assert dropped.device == torch.device("cpu")
    assert device_of(TensorDict({"label": torch.zeros(2, device="meta")}, batch_size=[2])).type == "meta"


def test_nothing_to_sample_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one sample"):
        point_model().sample(0, 0)
    with pytest.raises(ValueError, match="at least one sample"):
        point_model().sample([])


def test_ema_forgets_by_half_in_its_half_life() -> None:
    """After one half-life of samples the average has moved half the way, in one update or in many."""
    for updates in (1, 10, 100):
        network = PointNet()
        ema = EMA(network, half_life=1000, ramp=1e9)
        start = network.first.weight.detach().clone()
        with torch.no_grad():
            network.first.weight += 1.0
        for i in range(updates):
            ema.update(network, 1000 // updates, (i + 1) * 1000 // updates)
        torch.testing.assert_close(ema.network.first.weight, start + 0.5)  # type: ignore[union-attr]


def test_ema_ramp_forgets_the_start() -> None:
    ema = EMA(PointNet(), half_life=1e6, ramp=0.05)
    assert ema.decay(64, 64) == pytest.approx(0.5**20)
    assert ema.decay(64, 10**9) == pytest.approx(0.5 ** (64 / 1e6))


def test_ema_is_a_network_of_its_own() -> None:
    network = PointNet()
    ema = EMA(network, half_life=100)
    assert not any(p.requires_grad for p in ema.parameters())
    ema.train()
    assert not ema.network.training and network.training
    before = ema.network.first.weight.clone()  # type: ignore[operator, union-attr]
    with torch.no_grad():
        network.first.weight.zero_()
    assert torch.equal(ema.network.first.weight, before)  # type: ignore[union-attr, arg-type]
