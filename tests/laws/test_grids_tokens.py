"""GITS where tokens are sampled: its costs by their definition, and the exact laws that its grids lead to."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from tensordict import TensorDict
from torch import Tensor

from framework.certify.chains import CHAIN_2, CHAIN_3, Chain, ChainDenoiser, terminal_error
from framework.certify.label_and_point import LabelAndPoint, LabelAndPointDenoiser, law_error, terminal_law
from framework.errors import UserError
from framework.grids import Karras, UniformTime
from framework.grids.gits import GITS, cheapest_path
from framework.grids.ld3 import LD3
from framework.grids.teacher import cost_matrix, walk_path
from framework.grids.token_paths import component_costs
from framework.noise import SampleKey
from framework.processes.categorical import Categorical, Marginal, Mask, Stationary, Uniform
from framework.schedules import Flow, LinearVP, Schedule
from framework.solvers.categorical.ancestral import Ancestral
from framework.solvers.dpmpp import DPMpp2M
from framework.solvers.splitting import Splitting
from framework.spaces import Euclidean
from framework.spaces import Product as ProductSpace

LONG = replace(CHAIN_2, positions=5)
INDEPENDENT = Chain(first=(0.7, 0.3), step=((0.7, 0.3), (0.7, 0.3)), positions=4)
COUNT = 256


def costs(chain: Chain, process: Categorical, times: Tensor, count: int = COUNT, power: float = 1.0) -> np.ndarray:
    condition, key = TensorDict({}, batch_size=[count]), SampleKey(0, tuple(range(count)))
    denoiser = ChainDenoiser(chain, process)
    return component_costs(denoiser, Ancestral(), DPMpp2M(), process, times, chain.space, condition, key, power)  # type: ignore[arg-type]


def fitted(chain: Chain, process: Categorical, steps: int, grid: GITS) -> Tensor:
    condition, key = TensorDict({}, batch_size=[grid.samples]), SampleKey(0, tuple(range(grid.samples)))
    denoiser = ChainDenoiser(chain, process)
    return grid.fit(denoiser, Ancestral(), steps, chain.space, condition, key, process)  # type: ignore[arg-type]


def error(chain: Chain, process: Categorical, times: Tensor) -> float:
    return terminal_error(Ancestral(), chain, process, times)


@pytest.mark.parametrize("stationary", [Mask(), Uniform(), Marginal((0.2, 0.8))], ids=["mask", "uniform", "marginal"])
def test_one_step_costs_nothing_where_positions_are_independent(stationary: Stationary) -> None:
    """It is exact there: what a position shows of itself is no word of the others."""
    process = INDEPENDENT.process(stationary)
    found = costs(INDEPENDENT, process, UniformTime()(Flow(), 12))
    upper = found[np.triu_indices(13, 1)]
    assert float(upper.max()) < 1e-12
    assert bool(np.isinf(found[np.tril_indices(13)]).all())


def test_a_cost_is_what_the_draws_within_a_step_are_mistaken_by() -> None:
    """Two positions of one binary chain: the second is mistaken where both are revealed in the step, and as far as the
    first one's token tells of it.
    """
    chain = replace(CHAIN_2, positions=2)
    process, n = chain.process(Mask()), 4000
    times = UniformTime()(Flow(), 16)
    found = costs(chain, process, times, n)
    law = chain.law.reshape(2, 2)
    told = 0.0  # the mean total variation, over the order of the two and the token that comes first
    for joint in (law, law.T):
        marginal = joint.sum(0)
        told += float(sum(joint[a].sum() * (joint[a] / joint[a].sum() - marginal).abs().sum() / 2 for a in (0, 1))) / 2
    within = 1.0 - 1 / 16  # both are revealed in one of 16 steps at once, and then neither hears of the other
    assert found[0, 16] == pytest.approx(within * told / 2, rel=0.05)


@pytest.mark.parametrize("steps", [3, 5, 10])
@pytest.mark.parametrize("chain", [CHAIN_2, CHAIN_3, LONG], ids=["two", "three", "long"])
def test_it_finds_even_times_where_they_are_good_and_leaves_poor_ones(chain: Chain, steps: int) -> None:
    process = chain.process(Mask())
    even, poor = (error(chain, process, _begun(grid(Flow(), steps))) for grid in (UniformTime(), Karras()))
    found = error(chain, process, _begun(fitted(chain, process, steps, GITS(COUNT, fine_tokens=Karras()))))
    assert found < 1.1 * even and found < 0.7 * poor


def _begun(times: Tensor) -> Tensor:
    """From where all is masked."""
    return torch.cat([torch.ones(1, dtype=torch.float64), times[1:]])


@pytest.mark.parametrize(("stationary", "share"), [(Mask(), 0.8), (Uniform(), 0.95)], ids=["mask", "uniform"])
def test_on_a_schedule_that_wastes_even_times_it_is_better(stationary: Stationary, share: float) -> None:
    """LinearVP keeps nearly nothing in the first half of its time; times even in alpha have 0.75 of the error."""
    process = LONG.process(stationary, LinearVP())
    even = error(LONG, process, UniformTime()(LinearVP(), 6))
    assert error(LONG, process, fitted(LONG, process, 6, GITS(COUNT))) < share * even


def test_a_product_pays_for_both_kinds() -> None:
    """The point's cost is that of a path of points, relative to their size; the label's is added."""
    data, count, times = LabelAndPoint(), 64, UniformTime()(Flow(), 12)
    process = data.process()
    denoiser = LabelAndPointDenoiser(data, process)
    space = ProductSpace({name: part.space for name, part in process.processes.items()})  # type: ignore[attr-defined]
    condition, key = TensorDict({}, batch_size=[count]), SampleKey(0, tuple(range(count)))
    arguments = (space, condition, key)
    both = component_costs(denoiser, Splitting(), DPMpp2M(), process, times, *arguments, power=1.0)  # type: ignore[arg-type]

    class Point:
        """The point alone, for a label that is never known."""

        schedule = denoiser.schedule

        def __call__(self, x: Tensor, t: Tensor, condition: TensorDict) -> object:
            masked = TensorDict({"label": torch.full((len(x), 1), 2), "point": x}, batch_size=[len(x)])
            said = denoiser(masked, t, condition)
            return replace(said, clean=said.clean["point"], x_t=x)  # type: ignore[index]

    space_of_points = Euclidean((1,))
    path = walk_path(Point(), DPMpp2M(), times, space_of_points, condition, key.component("point"))  # type: ignore[arg-type]
    alone = cost_matrix(path, space_of_points, condition) / path.scale(space_of_points, condition)
    for i, j in itertools.pairwise(range(13)):
        assert both[i, j] >= 0.0 and np.isfinite(both[i, j])
    assert both[0, 1] == pytest.approx(alone[0, 1], rel=0.2)  # nothing is revealed yet, to speak of
    chosen = times[cheapest_path(both, 4)]
    solver = Splitting()
    worst = torch.tensor([1.0, 0.99, 0.98, 0.97, 0.0], dtype=torch.float64)
    errors = [law_error(data, terminal_law(solver, data, process, t)).point for t in (chosen, worst)]
    assert errors[0] < errors[1]


def test_learning_times_needs_derivatives_that_tokens_have_not() -> None:
    process: Categorical = CHAIN_2.process(Mask())
    schedule: Schedule = Flow()
    assert process.schedule == schedule
    condition, key = TensorDict({}, batch_size=[2]), SampleKey(0, (0, 1))
    with pytest.raises(UserError, match="a token that is drawn has not; choose grid=gits"):
        LD3(samples=2).fit(ChainDenoiser(CHAIN_2, process), Ancestral(), 4, CHAIN_2.space, condition, key, process)  # type: ignore[arg-type]
