"""One Brownian path a sample: its increments' law, refinement, and stochastic solvers that converge along it."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy import stats
from tensordict import TensorDict

from framework.brownian import BrownianKey, haar, snap
from framework.certify.gaussian_mixture import PLANE, MixtureDenoiser
from framework.grids import UniformLogSNR
from framework.noise import NoiseKey, SampleKey
from framework.sampler import sample
from framework.schedules import EDM, Flow, LinearVP, Schedule
from framework.solvers.ancestral import DPMpp2SAncestral, EulerAncestral
from framework.solvers.dpmpp_sde import DPMppSDE
from framework.solvers.er_sde import ERSDE
from framework.solvers.plan import Solver
from framework.solvers.sa_solver import SASolver
from framework.solvers.sde_dpmpp import SDEDPMpp1, SDEDPMpp2M
from framework.spaces import Euclidean, Product

LIKE = torch.zeros((), dtype=torch.float64)
POINTS = (0.0, 1e-12, 1e-3, 0.03, 0.5, 0.7, 0.71, 2.0, 300.0, 1e9)  # signal-to-noise ratios, inside and across octaves
SPACE = Euclidean((2,))
ROWS = 32


def path_key(rows: int = ROWS, seed: int = 0) -> BrownianKey:
    return BrownianKey(SampleKey(seed, tuple(range(rows))))


def test_increments_are_independent_standard_normals() -> None:
    key = path_key(1000)
    draws = torch.stack([key.along(1, interval).normal((12,), LIKE).flatten() for interval in pairwise(POINTS)])
    covariance = draws @ draws.T / draws.shape[1]
    torch.testing.assert_close(covariance, torch.eye(len(draws), dtype=torch.float64), rtol=0, atol=0.06)
    assert all(stats.kstest(row.numpy(), "norm").pvalue > 1e-3 for row in draws)


@pytest.mark.parametrize("depth", [2, 6, 10])
def test_covariances_are_exact_on_numbers(depth: int) -> None:
    """Parseval: over the nodes, the weights of two increments have the overlap of their intervals as product."""
    points = sorted({snap(p, depth) for p in np.geomspace(1e-4, 1e4, 40).tolist()})
    generator = np.random.default_rng(0)
    for _ in range(100):
        (a, b), (c, d) = (sorted(generator.choice(points, 2, replace=False)) for _ in range(2))
        first, second = dict(haar(a, b, depth)), dict(haar(c, d, depth))
        product = sum(weight * second.get(node, 0.0) for node, weight in first.items())
        overlap = max(0.0, min(b, d) - max(a, c))
        assert product == pytest.approx(overlap, rel=1e-12, abs=1e-12 * math.sqrt((b - a) * (d - c)))


def test_few_nodes_are_drawn() -> None:
    """About two a level, however long the path: drawing is cheap."""
    for a, b in pairwise(POINTS):
        roots = math.log2(b) - max(math.log2(a), -64) if a > 0 else math.log2(b) + 64
        assert len(dict(haar(snap(a, 10), snap(b, 10), 10))) <= 2 * 10 + roots + 3


def test_refinements_share_the_path() -> None:
    """The increment over an interval is the sum of those over its parts, at any place where it is cut."""
    key = path_key()
    whole = key.along(7, (POINTS[0], POINTS[-1])).normal((5,), LIKE)
    snapped = [snap(p, key.depth) for p in POINTS]
    parts = [
        key.along(i, interval).normal((5,), LIKE) * math.sqrt(b - a)
        for i, (interval, (a, b)) in enumerate(zip(pairwise(POINTS), pairwise(snapped), strict=True))
    ]
    total = torch.stack(parts).sum(0) / math.sqrt(snapped[-1] - snapped[0])
    torch.testing.assert_close(total, whole, rtol=0, atol=1e-12)


def test_ratios_move_to_the_nearest_point_of_the_grid() -> None:
    for snr in (1e-9, 0.3, 1.0, 1.99999, 7.3, 1e8):
        assert snap(snr, 10) == pytest.approx(snr, rel=2.0**-11)
        assert snap(snap(snr, 10), 10) == snap(snr, 10)
    assert snap(0.0, 10) == 0.0 and snap(1e-30, 10) == 0.0
    assert snap(1.99999, 10) == 2.0


def test_where_there_is_no_path_the_noise_is_the_steps_own() -> None:
    key = path_key()
    for path in (None, (1.0, 1.0), (1.0, 1.0 + 1e-6), (0.0, 1e-25), (3.0, math.inf)):
        assert torch.equal(key.along(4, path).normal((3,), LIKE), key.key.at(4).normal((3,), LIKE))
    assert torch.equal(key.along(2, (0.5, 1.0)).at(4).normal((3,), LIKE), key.key.at(4).normal((3,), LIKE))
    assert torch.equal(key.along(2, (0.5, 1.0)).uniform((3,), LIKE), key.key.at(2).uniform((3,), LIKE))


def test_the_path_is_independent_of_the_prior_and_of_the_steps() -> None:
    """Nodes have keys of their own: the same number names other noise as a node than as a step."""
    key = path_key(500)
    for interval in ((0.0, 2.0**-64), (2.0**-64, 2.0**-63)):
        ((node, _),) = haar(*interval, key.depth)
        draw, other = key.along(1, interval).normal((8,), LIKE), key.key.at(node).normal((8,), LIKE)
        assert abs(np.corrcoef(draw.flatten().numpy(), other.flatten().numpy())[0, 1]) < 0.07


def test_the_path_belongs_to_seed_sample_and_component_and_not_to_the_step() -> None:
    key, path = path_key(10), (0.2, 0.9)
    draw = key.along(1, path).normal((4,), LIKE)
    assert torch.equal(key.along(9, path).normal((4,), LIKE), draw)
    other = BrownianKey(SampleKey(0, (7, 2)))
    torch.testing.assert_close(other.along(3, path).normal((4,), LIKE), draw[[7, 2]], rtol=0, atol=0)
    assert torch.equal(key.rows(2, 4).along(3, path).normal((4,), LIKE), draw[2:4])
    for different in (path_key(10, seed=1), key.component("a"), key.component("b")):
        assert float((different.along(1, path).normal((4,), LIKE) - draw).abs().min()) > 1e-6
    single = key.along(1, path).normal((4,), LIKE.float())
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), draw, rtol=0, atol=1e-6)


def test_components_have_paths_of_their_own() -> None:
    product = Product({"a": SPACE, "b": SPACE})
    condition = TensorDict({}, batch_size=[2000])
    z = product.noise(path_key(2000).along(1, (0.1, 0.4)), condition)
    correlation = np.corrcoef(z["a"].flatten().numpy(), z["b"].flatten().numpy())[0, 1]
    assert abs(correlation) < 0.06


def run(solver: Solver, steps: int, key: NoiseKey, schedule: Schedule | None = None) -> torch.Tensor:
    """From noise-to-signal ratio 20 to 0.05 in even steps of log SNR, as y = x / alpha."""
    schedule = schedule or EDM(20.0)
    condition = TensorDict({}, batch_size=[ROWS])
    times = UniformLogSNR(0.05, 20.0)(schedule, steps + 1)[:-1]
    alpha = schedule.alpha(times)
    initial = float(alpha[0]) * 20.0 * SPACE.noise(path_key(), condition).double()
    denoiser = MixtureDenoiser(PLANE, schedule)
    return sample(denoiser, solver, times, SPACE, condition, key, initial=initial) / float(alpha[-1])  # type: ignore[operator,return-value]


def median_distance(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).norm(dim=1).median())


STRONG: dict[str, Solver] = {
    "sde_dpmpp_2m": SDEDPMpp2M(),
    "sde_dpmpp_2m_less": SDEDPMpp2M(eta=0.3),
    "euler_ancestral_half": EulerAncestral(eta=0.5),
    "dpmpp_2s_ancestral": DPMpp2SAncestral(),
    "dpmpp_sde": DPMppSDE(),
    "sa_solver": SASolver(2, 2),
    "er_sde": ERSDE(),
}


@pytest.mark.parametrize("solver", STRONG.values(), ids=STRONG.keys())
def test_more_steps_follow_the_same_trajectory(solver: Solver) -> None:
    """Strong convergence, and no convergence at all where each run has noise of its own."""
    truth = run(solver, 400, path_key())
    errors = [median_distance(run(solver, n, path_key()), truth) for n in (20, 40, 80)]
    assert errors[0] > 2 * errors[2] and errors[0] > errors[1] > errors[2], errors
    apart = median_distance(run(solver, 40, path_key().key), run(solver, 80, path_key().key))
    assert apart > 5 * errors[1], (apart, errors)


def test_solvers_of_one_sde_meet_on_one_trajectory() -> None:
    """At eta = 1 the limit is the reverse SDE's solution along the path, whoever computes it and on any schedule."""
    truth = run(SDEDPMpp2M(), 400, path_key())
    for solver in (SDEDPMpp1(), SASolver(2, 2), DPMpp2SAncestral()):
        assert median_distance(run(solver, 200, path_key()), truth) < 0.02
    for schedule in (LinearVP(), Flow()):
        torch.testing.assert_close(run(SDEDPMpp2M(), 20, path_key(), schedule), run(SDEDPMpp2M(), 20, path_key()))
