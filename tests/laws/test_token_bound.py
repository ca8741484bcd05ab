"""The bound on the likelihood of masked tokens: tight for the exact denoiser, above it for any other."""

from __future__ import annotations

import pytest
import torch
from tensordict import TensorDict

from framework.certify.chains import CHAIN_3, ChainDenoiser, sequences
from framework.denoiser import Prediction
from framework.errors import UserError
from framework.noise import BatchKey
from framework.processes.categorical import Mask, Uniform
from framework.schedules import Cosine, Flow
from framework.token_bound import token_bound

REPEATS = 4000


def estimates(denoiser, process, x_0, levels=4):
    """The mean of many estimates for each sequence, and its standard error."""
    rows = x_0.repeat_interleave(REPEATS, 0)
    condition = TensorDict({}, batch_size=[len(rows)])
    nats = token_bound(denoiser, process, rows, condition, BatchKey(0, 0, size=len(rows)), levels)
    each = nats.reshape(len(x_0), REPEATS)
    return each.mean(1), each.std(1) / REPEATS**0.5


@pytest.mark.parametrize("schedule", [Flow(), Cosine()])
def test_it_is_the_likelihood_itself_for_the_exact_denoiser(schedule):
    process = CHAIN_3.process(Mask(), schedule)
    x_0 = sequences(CHAIN_3.classes, CHAIN_3.positions)
    mean, error = estimates(ChainDenoiser(CHAIN_3, process), process, x_0)
    assert bool(((mean + CHAIN_3.law.log()).abs() < 4.5 * error + 1e-3).all())


def test_a_denoiser_that_knows_nothing_costs_a_class_a_token():
    process = CHAIN_3.process(Mask(), Flow())

    def ignorant(x_t, t, condition):
        return Prediction(torch.full((*x_t.shape, 3), 1 / 3, dtype=torch.float64), x_t, 0.0, 0.0, ("",))

    x_0 = sequences(CHAIN_3.classes, CHAIN_3.positions)
    mean, error = estimates(ignorant, process, x_0)
    assert bool(((mean - 2 * torch.tensor(3.0).log()).abs() < 4.5 * error + 1e-3).all())
    averaged = float((CHAIN_3.law * mean).sum())
    assert averaged > float(-(CHAIN_3.law * CHAIN_3.law.log()).sum()), "no denoiser beats the entropy"


def test_other_processes_are_refused():
    process = CHAIN_3.process(Uniform(), Flow())
    with pytest.raises(UserError, match="mask"):
        token_bound(
            ChainDenoiser(CHAIN_3, process), process, torch.zeros(1, 2).long(), TensorDict({}, [1]), BatchKey(0, 0)
        )
