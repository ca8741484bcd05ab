"""Classifier-free guidance: off at scale 1, linear, one forward, inside its interval only."""

from __future__ import annotations

import pytest
import torch
from tensordict import TensorDict
from torch import Tensor

from framework.denoiser import Prediction
from framework.grids import UniformTime
from framework.guidance.classifier_free import ClassifierFree
from framework.ledger import Ledger
from framework.noise import SampleKey
from framework.sampler import sample
from framework.schedules import Flow
from framework.solvers.ddim import DDIM
from framework.spaces import Euclidean

ROWS = 3


class Labelled:
    """A point mass at the label, whatever the state."""

    def __init__(self) -> None:
        self.schedule, self.ledger, self.calls = Flow(), Ledger(), 0

    def __call__(self, x_t: Tensor, t: Tensor, condition: TensorDict) -> Prediction:
        self.calls += 1
        self.ledger.count_forward(len(x_t))
        clean = condition["label"].to(x_t)[:, None].expand_as(x_t)
        return Prediction(clean, x_t, self.schedule.alpha(t), self.schedule.sigma(t))


def labels(value: float) -> TensorDict:
    return TensorDict({"label": torch.full((ROWS,), value)}, batch_size=[ROWS])


X, HALF = torch.randn(ROWS, 2), torch.full((ROWS,), 0.5, dtype=torch.float64)


def test_scale_one_is_the_conditional_prediction_at_no_cost() -> None:
    base = Labelled()
    clean = ClassifierFree(1.0)(base, labels(0.0))(X, HALF, labels(2.0)).clean
    assert bool((clean == 2.0).all()) and base.ledger.forward == ROWS


@pytest.mark.parametrize("scale", [0.0, 0.5, 3.0])
def test_the_formula_in_one_batched_forward(scale: float) -> None:
    base = Labelled()
    clean = ClassifierFree(scale)(base, labels(0.5))(X, HALF, labels(2.0)).clean
    torch.testing.assert_close(clean, torch.full_like(clean, 0.5 + scale * 1.5))
    assert base.calls == 1 and base.ledger.forward == 2 * ROWS


def test_interval_is_in_log_snr_and_a_sample_at_a_time() -> None:
    base = Labelled()
    guided = ClassifierFree(2.0, interval=(-1.0, 1.0))(base, labels(0.0))
    times = torch.tensor([0.05, 0.5, 0.95], dtype=torch.float64)  # log-SNR 5.9, 0, -5.9
    clean = guided(X, times, labels(1.0)).clean
    assert clean[:, 0].tolist() == [1.0, 2.0, 1.0]
    assert guided(X, times[[0, 0, 0]], labels(1.0)).clean[0, 0] == 1.0 and base.ledger.forward == 3 * ROWS


def test_guidance_of_guidance_composes() -> None:
    once = ClassifierFree(2.0)(Labelled(), labels(0.0))
    twice = ClassifierFree(3.0)(once, labels(0.0))
    assert bool((twice(X, HALF, labels(1.0)).clean == 6.0).all())


def test_the_ledger_counts_what_guidance_costs() -> None:
    """Ten steps of guided DDIM are twenty evaluations a sample, and fewer with an interval."""
    for interval in (None, (-1.0, 1.0)):
        base = Labelled()
        guided = ClassifierFree(2.0, interval)(base, labels(0.0))
        times = UniformTime()(base.schedule, 10)
        key = SampleKey(0, tuple(range(ROWS)))
        sample(guided, DDIM(), times, Euclidean((2,)), labels(1.0), key, ledger=base.ledger)
        inside = int(((base.schedule.log_snr(times[:-1]) >= -1) & (base.schedule.log_snr(times[:-1]) <= 1)).sum())
        assert base.ledger.evaluations_per_sample == (20 if interval is None else 10 + inside)
        assert 0 < inside < 10


def test_an_empty_interval_is_refused() -> None:
    with pytest.raises(ValueError, match="low < high"):
        ClassifierFree(2.0, interval=(1.0, -1.0))
