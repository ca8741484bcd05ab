"""Our solvers take the steps of k-diffusion's samplers, to 1e-9 in float64; where they do not, we converge and it does
not.

k-diffusion (Crowson 2022) works on y = x / alpha at noise level u = sigma / alpha; ours run on a variance-preserving
schedule at the same ratios, so that the change of coordinates is tested with each.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from framework.solvers.adams import LMS
from framework.solvers.ancestral import DPMpp2SAncestral, EulerAncestral
from framework.solvers.ddim import DDIM
from framework.solvers.dpm_solver import DPMSolver2, DPMSolver3
from framework.solvers.dpmpp import DPMpp2M, DPMpp3M, DPMpp3MExact
from framework.solvers.dpmpp_sde import DPMppSDE
from framework.solvers.edm import Euler, Heun
from framework.solvers.plan import Solver
from framework.solvers.sde_dpmpp import SDEDPMpp2M, SDEDPMpp2MHeun, SDEDPMpp3M
from tests.peers.bed import (
    VE,
    VP,
    Run,
    assert_same,
    draws,
    in_double,
    k_diffusion_sampling,
    karras_ratios,
    ours,
    slope,
    start,
    times_of,
    truth_at,
)

NoiseSampler = Callable[[Tensor, Tensor], Tensor]


@pytest.fixture(scope="module")
def k() -> Iterator[Any]:
    sampling = k_diffusion_sampling()
    with in_double(sampling):
        yield sampling


def theirs(sampler: Callable[..., Tensor], ratios: Tensor, **options: Any) -> Run:
    run = Run()
    run.end = sampler(
        lambda x, sigma: run.ask(x, float(sigma[0])), ratios[0] * start(), ratios, disable=True, **options
    )
    return run


DETERMINISTIC: dict[str, Solver] = {
    "sample_euler": Euler(),
    "sample_heun": Heun(),
    "sample_dpm_2": DPMSolver2(),
    "sample_dpmpp_2m": DPMpp2M(),
}


@pytest.mark.parametrize("steps", [1, 2, 3, 9])
@pytest.mark.parametrize(("name", "solver"), DETERMINISTIC.items(), ids=DETERMINISTIC.keys())
def test_deterministic_samplers(k: Any, name: str, solver: Solver, steps: int) -> None:
    ratios = karras_ratios(steps)
    assert_same(ours(solver, times_of(VP, ratios), VP), theirs(getattr(k, name), ratios))


STOCHASTIC: dict[str, tuple[str, dict[str, Any], Solver]] = {
    "euler_ancestral": ("sample_euler_ancestral", {}, EulerAncestral()),
    "euler_ancestral, eta 0.4": ("sample_euler_ancestral", {"eta": 0.4}, EulerAncestral(eta=0.4)),
    "euler_ancestral is DDIM": ("sample_euler_ancestral", {"eta": 0.4}, DDIM(eta=0.4)),
    "2s_ancestral": ("sample_dpmpp_2s_ancestral", {}, DPMpp2SAncestral()),
    "2s_ancestral, eta 0.4": ("sample_dpmpp_2s_ancestral", {"eta": 0.4}, DPMpp2SAncestral(eta=0.4)),
    "2m_sde": ("sample_dpmpp_2m_sde", {}, SDEDPMpp2M()),
    "2m_sde, less noise": ("sample_dpmpp_2m_sde", {"eta": 0.6, "s_noise": 0.9}, SDEDPMpp2M(0.6, 0.9)),
    "2m_sde heun": ("sample_dpmpp_2m_sde", {"solver_type": "heun"}, SDEDPMpp2MHeun()),
    "3m_sde": ("sample_dpmpp_3m_sde", {}, SDEDPMpp3M()),
    "3m_sde, eta 0.5": ("sample_dpmpp_3m_sde", {"eta": 0.5}, SDEDPMpp3M(eta=0.5)),
    "2s_ancestral, eta 0": ("sample_dpmpp_2s_ancestral", {"eta": 0.0}, DPMpp2SAncestral(eta=0.0)),
}


@pytest.mark.parametrize("steps", [2, 3, 9])
@pytest.mark.parametrize(("name", "options", "solver"), STOCHASTIC.values(), ids=STOCHASTIC.keys())
def test_stochastic_samplers(k: Any, name: str, options: dict[str, Any], solver: Solver, steps: int) -> None:
    ratios = karras_ratios(steps)
    times = times_of(VP, ratios)
    noise = draws(solver, times, VP)
    got = theirs(getattr(k, name), ratios, noise_sampler=lambda u, w: next(noise), **options)
    assert_same(ours(solver, times, VP), got)


@pytest.mark.parametrize("eta", [1.0, 0.5])
def test_dpmpp_sde_draws_along_one_path(k: Any, eta: float) -> None:
    """k-diffusion asks a Brownian path twice in a step, from u to the middle m and from u to w. With z_um ours and z_mw
    the next of ours, the second increment is theirs, added up: B has the variance |u - w| between u and w.
    """
    ratios, solver = karras_ratios(8), DPMppSDE(eta=eta)
    times = times_of(VP, ratios)
    noise = draws(solver, times, VP)
    first: dict[float, tuple[float, Tensor]] = {}

    def path(u: Tensor, w: Tensor) -> Tensor:
        high, low = float(u), float(w)
        if high not in first:
            first[high] = (low, next(noise))
            return first[high][1]
        middle, z = first[high]
        return (math.sqrt(high - middle) * z + math.sqrt(middle - low) * next(noise)) / math.sqrt(high - low)

    got = theirs(k.sample_dpmpp_sde, ratios, noise_sampler=path, eta=eta)
    assert_same(ours(solver, times, VP), got)


@pytest.mark.parametrize(
    "churn",
    [{"churn": 6.0}, {"churn": 40.0, "churn_min": 0.05, "churn_max": 5.0, "churn_noise": 1.007}],
    ids=["everywhere", "within limits"],
)
@pytest.mark.parametrize("steps", [3, 9])
def test_heun_with_churn(k: Any, churn: dict[str, float], steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rule gamma = min(churn / n, sqrt(2) - 1) within the limits, and the noise of what it adds."""
    # k-diffusion draws in every step, also where gamma is zero: there it must not take one of ours.
    ratios, solver = karras_ratios(steps, high=15.0), Heun(**churn)
    times = times_of(VP, ratios)
    noise = draws(solver, times, VP)
    low, high = churn.get("churn_min", 0.0), churn.get("churn_max", math.inf)
    weighed = iter([low <= u <= high for u in ratios.tolist()])
    zeros = torch.zeros_like(start())
    monkeypatch.setattr(torch, "randn_like", lambda x: next(noise) if next(weighed) else zeros)
    names = {"churn": "s_churn", "churn_min": "s_tmin", "churn_max": "s_tmax", "churn_noise": "s_noise"}
    got = theirs(k.sample_heun, ratios, **{names[name]: value for name, value in churn.items()})
    assert_same(ours(solver, times, VP), got)


def test_lms_has_no_floor(k: Any) -> None:
    """Asked for 1e-4, QUADPACK's rule of 21 points is exact on these polynomials: the runs agree to rounding at 160
    steps, where the error is 1e-6.
    """
    ratios = karras_ratios(161, zero=False)
    assert_same(ours(LMS(order=4), times_of(VP, ratios), VP), theirs(k.sample_lms, ratios), tolerance=1e-12)


@pytest.mark.parametrize(("evaluations", "orders"), [(7, (3, 3, 1)), (8, (3, 3, 2)), (9, (3, 3, 2, 1))])
def test_dpm_fast_is_a_chain_of_singlestep_methods(k: Any, evaluations: int, orders: tuple[int, ...]) -> None:
    """Steps of equal length in log u, each by DPM-Solver-3 but the last ones."""
    ratios = karras_ratios(2, zero=False)
    high, low = float(ratios[0]), float(ratios[1])
    nodes = torch.linspace(math.log(high), math.log(low), len(orders) + 1, dtype=torch.float64).exp()
    methods = {1: DDIM(), 2: DPMSolver2(), 3: DPMSolver3()}
    mine, x = Run(), high * start()
    for i, order in enumerate(orders):
        part = ours(methods[order], times_of(VE, nodes[i : i + 2]), VE, initial=x)
        x, mine.levels, mine.asked = part.end, mine.levels + part.levels, mine.asked + part.asked
    mine.end = x
    got = Run()
    got.end = k.sample_dpm_fast(
        lambda y, u: got.ask(y, float(u[0])), high * start(), low, high, evaluations, disable=True
    )
    assert_same(mine, got)


def test_the_published_third_order_is_second_and_the_exact_one_third(k: Any) -> None:
    """k-diffusion's dpmpp_3m_sde without noise is DPM-Solver++(3M) as published, in which D'' has half its weight."""

    def run(solver: Solver) -> Callable[[int], Tensor]:
        return lambda n: ours(solver, times_of(VP, karras_ratios(n + 1, zero=False)), VP).end

    def peer(n: int) -> Tensor:
        return theirs(k.sample_dpmpp_3m_sde, karras_ratios(n + 1, zero=False), eta=0.0, noise_sampler=None).end

    truth, steps = truth_at(karras_ratios(2, zero=False)), (80, 160, 320)
    (theirs_slope, theirs_errors), (published, _), (exact, errors) = (
        slope(method, truth, steps) for method in (peer, run(DPMpp3M()), run(DPMpp3MExact()))
    )
    assert 1.7 < theirs_slope < 2.2 and theirs_slope == pytest.approx(published, abs=0.02)
    assert 2.8 < exact < 3.4 and errors[-1] < theirs_errors[-1] / 5


@pytest.mark.parametrize("name", ["sample_dpmpp_2m_sde", "sample_dpmpp_3m_sde"])
def test_one_step_of_their_multistep_sdes_fails(k: Any, name: str) -> None:
    """A variable is read before it is set; ours takes the step, which is the clean mean."""
    ratios = karras_ratios(1)
    with pytest.raises(UnboundLocalError):
        theirs(getattr(k, name), ratios, noise_sampler=lambda u, w: 0.0)
    run = ours(SDEDPMpp2M(), times_of(VP, ratios), VP)
    torch.testing.assert_close(run.end, Run().ask(run.asked[0], run.levels[0]))
