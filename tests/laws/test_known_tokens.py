"""Tokens that are known stay, and masked ones follow their exact law given them."""

from __future__ import annotations

import pytest
import torch
from tensordict import TensorDict

from framework.certify.chains import CHAIN_3, ChainDenoiser, sequences
from framework.editing.known import Known, TimeTravel
from framework.editing.task import Run
from framework.errors import UserError
from framework.grids import UniformTime
from framework.ledger import Ledger
from framework.noise import SampleKey
from framework.processes.categorical import Mask, Uniform
from framework.schedules import Flow
from framework.solvers.categorical.ancestral import Ancestral
from framework.solvers.categorical.first_hitting import FirstHitting
from framework.solvers.dpmpp import DPMpp2M
from framework.solvers.splitting import fitting

SAMPLES = 6000
GIVEN = 1  # the second token, of which the first depends


def run_of(solver, stationary, steps):
    process = CHAIN_3.process(stationary, Flow())
    samples = tuple(range(SAMPLES))
    condition = TensorDict({}, batch_size=[SAMPLES])
    times = UniformTime()(Flow(), steps)
    key = SampleKey(5, samples)
    return Run(
        ChainDenoiser(CHAIN_3, process), solver, times, CHAIN_3.space, process, condition, key, samples, Ledger()
    )


@pytest.mark.parametrize("solver", [FirstHitting(), Ancestral()])
def test_the_rest_follows_its_law_given_what_is_known(solver):
    """With one free token there is nothing that two jumps of one step could get wrong."""
    known = Known(torch.tensor([[0, GIVEN]]), torch.tensor([[False, True]]))
    run = TimeTravel(5)(known(run_of(solver, Mask(), 4)))
    drawn = run.draw()
    assert bool((drawn[:, 1] == GIVEN).all())
    x = sequences(3, 2)
    law = torch.where(x[:, 1] == GIVEN, CHAIN_3.law, 0.0)
    law = torch.stack([law[x[:, 0] == k].sum() for k in range(3)]) / law.sum()
    found = torch.bincount(drawn[:, 0], minlength=3) / SAMPLES
    assert bool(((found - law).abs() < 4.5 * (law * (1 - law) / SAMPLES).sqrt()).all())
    marginal = torch.stack([CHAIN_3.law[x[:, 0] == k].sum() for k in range(3)])
    assert float((law - marginal).abs().max()) > 0.1, "the law is another than if nothing were known"


def test_tokens_that_are_no_masks_are_still_refused_a_walk_back():
    known = Known(torch.tensor([[0, GIVEN]]), torch.tensor([[False, True]]))
    with pytest.raises(UserError, match="resampling"):
        TimeTravel(5)(known(run_of(Ancestral(), Uniform(), 4)))


def test_a_solver_that_adds_states_is_refused_for_tokens():
    with pytest.raises(UserError, match="tokens cannot be added"):
        fitting(DPMpp2M(), CHAIN_3.process())
