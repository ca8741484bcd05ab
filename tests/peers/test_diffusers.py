"""Our solvers take the steps of diffusers' schedulers, to 1e-9 in float64; where they do not, the test names their
error and shows which of the two converges to the exact solution.
"""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from framework.betas import LinearBetas, ScaledLinearBetas
from framework.certify.gaussian_mixture import PLANE, reference_solution
from framework.grids.levels import Crash, Linspace, TableLevels
from framework.schedules import Cosine, Schedule
from framework.solvers.adams import DEIS, LMS, LogRatio
from framework.solvers.ancestral import EulerAncestral
from framework.solvers.ddim import DDIM, DDPM
from framework.solvers.dpm_solver import DPMSolver2, DPMSolver3
from framework.solvers.dpmpp import DPMpp2M, DPMpp2S, DPMpp3M, DPMpp3MExact, DPMpp3S
from framework.solvers.dpmpp_sde import DPMppSDE
from framework.solvers.edm import Euler, Heun
from framework.solvers.exponential import NoisePrediction
from framework.solvers.ipndm import IPNDM
from framework.solvers.plan import Plan, Solver
from framework.solvers.runge_kutta import RungeKutta, Straight, Tableau
from framework.solvers.sa_solver import SASolver
from framework.solvers.sde_dpmpp import SDEDPMpp1, SDEDPMpp2M, SDEDPMpp2MHeun, SDEDPMpp3M
from framework.solvers.unipc import BH1, BH2, UniP, UniPC
from tests.peers.bed import VP, Run, assert_same, draws, karras_ratios, ours, slope, start, times_of, truth_at
from tests.peers.schedulers import of, on_the_table, theirs

# Theirs: numpy 2 and torch deprecate what their set_timesteps does.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

NOISE = NoisePrediction()
MIN = {"final_sigmas_type": "sigma_min"}


def multistep(order: int, algorithm: str = "dpmsolver++", kind: str = "midpoint", **more: Any) -> dict[str, Any]:
    return {"solver_order": order, "algorithm_type": algorithm, "solver_type": kind, **more}


def unipc(p: int, bh: str, **more: Any) -> dict[str, Any]:
    return {"solver_order": p, "solver_type": bh, **more}


NO_CORRECTOR = {"disable_corrector": list(range(100))}
EXACT_LINE = SASolver(predictor_order=2, corrector_order=0, tau=0.0)
DPMM, EDMM = "DPMSolverMultistep", "EDMDPMSolverMultistep"

# The run ends at sigma = 0, and their order falls to 1 there.
TO_ZERO: dict[str, tuple[str, dict[str, Any], Solver]] = {
    "Euler": ("EulerDiscrete", {}, Euler()),
    "Euler is DDIM": ("EulerDiscrete", {}, DDIM()),
    "Heun": ("HeunDiscrete", {}, Heun()),
    "LMS": ("LMSDiscrete", {}, LMS(order=4)),
    "KDPM2": ("KDPM2Discrete", {}, DPMSolver2()),
    "EDMEuler": ("EDMEuler", {}, Euler()),
    "DPM++ 1": (DPMM, multistep(1), DDIM()),
    "DPM++ 2M": (DPMM, multistep(2, lower_order_final=False), DPMpp2M()),
    "DPM++ 2M heun": (DPMM, multistep(2, kind="heun", lower_order_final=False), EXACT_LINE),
    "DPM++ 3M": (DPMM, multistep(3, lower_order_final=False), DPMpp3M()),
    "DPM++ 2M, low order last": (DPMM, multistep(2), DPMpp2M(lower_order_final=2)),
    "DPM++ 3M, low order last": (DPMM, multistep(3), DPMpp3M(lower_order_final=2)),
    "EDM DPM++ 1": (EDMM, multistep(1), DDIM()),
    "EDM DPM++ 2M": (EDMM, multistep(2), DPMpp2M()),
    "EDM DPM++ 3M": (EDMM, multistep(3), DPMpp3M(lower_order_final=2)),
    "UniPC 1": ("UniPCMultistep", unipc(1, "bh2"), UniPC(1)),
    "UniPC 2 bh2": ("UniPCMultistep", unipc(2, "bh2"), UniPC(2, lower_order_final=3)),
    "UniPC 3 bh2": ("UniPCMultistep", unipc(3, "bh2"), UniPC(3, lower_order_final=3)),
    "UniP 3": ("UniPCMultistep", unipc(3, "bh2", **NO_CORRECTOR), UniP(3, lower_order_final=3)),
    "FlowMatchEuler": ("FlowMatchEulerDiscrete", {}, Euler()),
}

# The run ends at a positive noise level, so that every step is of full order.
TO_SIGMA_MIN: dict[str, tuple[str, dict[str, Any], Solver]] = {
    "DPM 1": (DPMM, multistep(1, "dpmsolver", **MIN), DDIM()),
    "DPM 2M": (DPMM, multistep(2, "dpmsolver", lower_order_final=False, **MIN), UniP(2, prediction=NOISE)),
    "DPM 2M heun": (DPMM, multistep(2, "dpmsolver", "heun", lower_order_final=False, **MIN), DEIS(2, LogRatio())),
    "DPM++ 3M": (DPMM, multistep(3, lower_order_final=False, **MIN), DPMpp3M()),
    "DEIS 1": ("DEISMultistep", {"solver_order": 1}, DDIM()),
    "DEIS 2": ("DEISMultistep", {"solver_order": 2, "lower_order_final": False}, DEIS(2, LogRatio())),
    "DEIS 3": ("DEISMultistep", {"solver_order": 3, "lower_order_final": False}, DEIS(3, LogRatio())),
    "DEIS 3, low order last": ("DEISMultistep", {"solver_order": 3}, DEIS(3, LogRatio(), lower_order_final=2)),
    "UniPC 1 bh1": ("UniPCMultistep", unipc(1, "bh1", **MIN), UniPC(1, BH1())),
    "UniPC 2 bh2": ("UniPCMultistep", unipc(2, "bh2", lower_order_final=False, **MIN), UniPC(2)),
    "UniPC 2 bh1": ("UniPCMultistep", unipc(2, "bh1", lower_order_final=False, **MIN), UniPC(2, BH1())),
    "UniPC 3 bh1": ("UniPCMultistep", unipc(3, "bh1", lower_order_final=False, **MIN), UniPC(3, BH1())),
    "UniPC 3 bh2": ("UniPCMultistep", unipc(3, "bh2", lower_order_final=False, **MIN), UniPC(3)),
    "UniPC 2, noise": (
        "UniPCMultistep",
        unipc(2, "bh2", predict_x0=False, lower_order_final=False, **MIN),
        UniPC(2, BH2(), NOISE),
    ),
    "UniPC 3, noise": (
        "UniPCMultistep",
        unipc(3, "bh1", predict_x0=False, lower_order_final=False, **MIN),
        UniPC(3, BH1(), NOISE),
    ),
    "UniP 2 bh1": ("UniPCMultistep", unipc(2, "bh1", lower_order_final=False, **NO_CORRECTOR, **MIN), UniP(2, BH1())),
    "iPNDM": ("IPNDM", {}, IPNDM()),
    "LMS": ("LMSDiscrete", {}, LMS()),
}


@pytest.mark.parametrize("steps", [1, 2, 3, 9])
@pytest.mark.parametrize(("name", "config", "solver"), TO_ZERO.values(), ids=TO_ZERO.keys())
def test_deterministic_to_the_data(name: str, config: dict[str, Any], solver: Solver, steps: int) -> None:
    ratios = karras_ratios(steps)
    assert_same(ours(solver, times_of(VP, ratios), VP), theirs(name, ratios, **config))


@pytest.mark.parametrize("steps", [2, 3, 9])
@pytest.mark.parametrize(("name", "config", "solver"), TO_SIGMA_MIN.values(), ids=TO_SIGMA_MIN.keys())
def test_deterministic_to_a_noise_level(name: str, config: dict[str, Any], solver: Solver, steps: int) -> None:
    ratios = karras_ratios(steps + 1, zero=False)
    assert_same(ours(solver, times_of(VP, ratios), VP), theirs(name, ratios, **config))


STOCHASTIC: dict[str, tuple[str, dict[str, Any], Solver]] = {
    "EulerAncestral": ("EulerAncestralDiscrete", {}, EulerAncestral()),
    "EulerAncestral is DDPM": ("EulerAncestralDiscrete", {}, DDPM()),
    "SDE-DPM++ 1": (DPMM, multistep(1, "sde-dpmsolver++"), SDEDPMpp1()),
    "SDE-DPM++ 2M": (DPMM, multistep(2, "sde-dpmsolver++", lower_order_final=False), SDEDPMpp2M()),
    "SDE-DPM++ 2M heun": (DPMM, multistep(2, "sde-dpmsolver++", "heun", lower_order_final=False), SDEDPMpp2MHeun()),
    "EDM SDE-DPM++ 2M": (EDMM, multistep(2, "sde-dpmsolver++", lower_order_final=False), SDEDPMpp2M()),
}


@pytest.mark.parametrize("steps", [2, 3, 9])
@pytest.mark.parametrize(("name", "config", "solver"), STOCHASTIC.values(), ids=STOCHASTIC.keys())
def test_stochastic(name: str, config: dict[str, Any], solver: Solver, steps: int) -> None:
    ratios = karras_ratios(steps)
    times = times_of(VP, ratios)
    assert_same(ours(solver, times, VP), theirs(name, ratios, draws(solver, times, VP), **config))


def test_dpmpp_sde() -> None:
    """As k-diffusion's: the two draws of a step are increments of one path (tests/peers/test_k_diffusion.py)."""
    ratios, solver = karras_ratios(8), DPMppSDE()
    times = times_of(VP, ratios)
    noise = draws(solver, times, VP)
    first: dict[float, tuple[float, Tensor]] = {}

    def path(u: Tensor, w: Tensor) -> Tensor:
        high, low = round(float(u), 9), float(w)
        if high not in first:
            first[high] = (low, next(noise))
            return first[high][1]
        middle, z = first[high]
        return (math.sqrt(high - middle) * z + math.sqrt(middle - low) * next(noise)) / math.sqrt(high - low)

    def prepare(scheduler: Any) -> None:
        scheduler.noise_sampler = path

    assert_same(ours(solver, times, VP), theirs("DPMSolverSDE", ratios, prepare=prepare), tolerance=1e-7)


@pytest.mark.parametrize("steps", [2, 4, 9])
def test_singlestep_in_pairs(steps: int) -> None:
    """Their singlestep methods use the grid's own nodes as inner times; evenly spaced in log u these are our halves."""
    fine = torch.linspace(math.log(20.0), math.log(0.02), 2 * steps + 1, dtype=torch.float64).exp()
    for algorithm, solver in (("dpmsolver++", DPMpp2S()), ("dpmsolver", DPMSolver2())):
        got = theirs("DPMSolverSinglestep", fine, **multistep(2, algorithm, lower_order_final=False, **MIN))
        assert_same(ours(solver, times_of(VP, fine[::2]), VP), got)


def test_singlestep_of_third_order_is_another_of_that_order() -> None:
    """Theirs finds its second inner state by the midpoint rule where Lu et al. integrate a line; both have order 3."""
    fine = {n: torch.linspace(math.log(20.0), math.log(0.02), 3 * n + 1, dtype=torch.float64).exp() for n in (40, 80)}
    truth = truth_at(fine[40])
    for algorithm, solver in (("dpmsolver++", DPMpp3S()), ("dpmsolver", DPMSolver3())):
        config = multistep(3, algorithm, lower_order_final=False, **MIN)
        peer, _ = slope(lambda n: theirs("DPMSolverSinglestep", fine[n], **config).end, truth, (40, 80))  # noqa: B023
        mine, _ = slope(lambda n: ours(solver, times_of(VP, fine[n][::3]), VP).end, truth, (40, 80))  # noqa: B023
        assert peer > 2.6 and mine > 2.6, (peer, mine)


class _Fixed(list):  # type: ignore[type-arg]
    """Coefficients that stay what they are."""

    def __setitem__(self, index: Any, value: Any) -> None:
        pass


class ExactSASolver(of("SASolver")):  # type: ignore[misc]
    """Their SA-Solver without the terms of order h^3 that its authors' code adds to the weights of order 2."""

    def get_coefficients_fn(self, *args: Any) -> list[Tensor]:
        return _Fixed(float(c) for c in super().get_coefficients_fn(*args))


@pytest.mark.parametrize("tau", [0.0, 0.5, 1.0])
@pytest.mark.parametrize(("predictor", "corrector"), [(1, 1), (2, 2), (3, 3), (3, 4), (2, 1)])
def test_sa_solver(predictor: int, corrector: int, tau: float) -> None:
    ratios, solver = karras_ratios(10, zero=False), SASolver(predictor, corrector, tau)
    times = times_of(VP, ratios)
    got = theirs(
        "SASolver",
        ratios,
        draws(solver, times, VP),
        kind=ExactSASolver,
        predictor_order=predictor,
        corrector_order=corrector,
        lower_order_final=False,
        tau_func=lambda t: torch.tensor(tau),
    )
    assert_same(ours(solver, times, VP), got)


def test_flow_match_heun() -> None:
    """Heun's method in t of the straight path: ours is that tableau in that coordinate. They end with Euler's step."""
    ratios = karras_ratios(10, zero=False)
    solver = RungeKutta(Tableau(2, ((), (1.0,)), (0.5, 0.5)), Straight())
    mine, peer = ours(solver, times_of(VP, ratios), VP), theirs("FlowMatchHeunDiscrete", ratios)
    # Their last step is Euler's at any noise level: one question fewer.
    assert mine.levels[: len(peer.levels)] == pytest.approx(peer.levels)
    for a, b in zip(mine.asked, peer.asked, strict=False):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


# --- where they differ -----------------------------------------------------------------------------------------------

STEPS = (80, 160, 320)


def levels(steps: int) -> Tensor:
    return karras_ratios(steps + 1, zero=False)


def order_of(run: Callable[[Tensor], Run]) -> tuple[float, list[float]]:
    """Measured from noise level 20 to 0.02, with what the method starts itself with."""
    return slope(lambda n: run(levels(n)).end, truth_at(levels(2)), STEPS)


def mine(solver: Solver) -> Callable[[Tensor], Run]:
    return lambda ratios: ours(solver, times_of(VP, ratios), VP)


def peer(name: str, **config: Any) -> Callable[[Tensor], Run]:
    zeros = itertools.repeat(torch.zeros_like(start()))
    return lambda ratios: theirs(name, ratios, zeros, **config)


THIRD_ORDER: dict[str, tuple[Callable[[Tensor], Run], Solver]] = {
    "DPM-Solver++": (peer(DPMM, **multistep(3, **MIN)), DPMpp3MExact()),
    "EDM DPM-Solver++": (peer(EDMM, **multistep(3, **MIN)), DPMpp3MExact()),
    "DPM-Solver": (peer(DPMM, **multistep(3, "dpmsolver", **MIN)), DEIS(3, LogRatio())),
}


@pytest.mark.parametrize(("method", "solver"), THIRD_ORDER.values(), ids=THIRD_ORDER.keys())
def test_their_third_order_multistep_is_of_second(method: Callable[[Tensor], Run], solver: Solver) -> None:
    """Their D2 is half the second derivative that phi_3 wants. With the whole of it the order is three."""
    (theirs_slope, theirs_errors), (our_slope, our_errors) = order_of(method), order_of(mine(solver))
    assert theirs_slope < 2.2 and our_slope > 2.8, (theirs_slope, our_slope)
    assert our_errors[-1] < theirs_errors[-1] / 5


@dataclass(frozen=True)
class InMean:
    """A stochastic solver without its noise: what it makes of the mean."""

    of: Solver
    stochastic: ClassVar[bool] = False

    @property
    def order(self) -> int:
        return self.of.order

    @property
    def evaluations_per_step(self) -> int:
        return self.of.evaluations_per_step

    def plan(self, schedule: Schedule, times: Tensor) -> Plan:
        return tuple(replace(stage, noises=(), draw=False) for stage in self.of.plan(schedule, times))


def test_their_third_order_sde_is_of_first() -> None:
    """In the third-order update of sde-dpmsolver++ the sign before 1/2 is wrong: the weight of D2 tends to -1, not 0.

    In mean it is worse than their own second order by more than ten; k-diffusion's, which is ours, keeps order two.
    """
    truth = mine(InMean(SASolver(4, 4, 1.0)))(levels(1280)).end

    def measured(run: Callable[[Tensor], Run]) -> tuple[float, list[float]]:
        return slope(lambda n: run(levels(n)).end, truth, STEPS)

    second, third = (measured(peer(DPMM, **multistep(q, "sde-dpmsolver++", **MIN))) for q in (2, 3))
    published, exact = measured(mine(InMean(SDEDPMpp3M()))), measured(mine(InMean(SASolver(3, 0, 1.0))))
    assert third[0] < 1.5 and third[1][-1] > 10 * second[1][-1], (second, third)
    assert published[0] > 1.8 and exact[0] > 2.7 and exact[1][-1] < second[1][-1], (published, exact)


def test_their_sa_solver_of_second_order_errs_more() -> None:
    """The terms that its authors' code adds are of order h^3: both converge at order 2, theirs with twice the error."""
    arguments = {"predictor_order": 2, "corrector_order": 2, "lower_order_final": False}
    (here, ours_off), (there, theirs_off) = (
        order_of(mine(SASolver(2, 2, 0.0))),
        order_of(peer("SASolver", **arguments, tau_func=lambda t: torch.tensor(0.0))),
    )
    assert here > 1.8 and there > 1.8
    assert all(2 * a < b for a, b in zip(ours_off, theirs_off, strict=True))


def test_unipc_with_bh1_is_nan_at_the_data() -> None:
    """B(h) = h is infinite in the step to sigma = 0, and they multiply it with zero; ours takes the clean mean."""
    ratios = karras_ratios(5)
    assert bool(theirs("UniPCMultistep", ratios, **unipc(2, "bh1")).end.isnan().all())
    run = ours(UniPC(2, BH1()), times_of(VP, ratios), VP)
    torch.testing.assert_close(run.end, Run().ask(run.asked[-1], run.levels[-1]))


def test_ipndm_of_pure_noise_forgets_its_first_evaluation() -> None:
    """At alpha = 0 they divide x - sigma eps, which is then zero, by 1e-8: the data's mean becomes 0. Ours is the clean
    mean, which the network has said.
    """
    with torch.random.fork_rng(), warnings.catch_warnings():
        scheduler = of("IPNDM")()
        scheduler.set_timesteps(4)
        x, clean = torch.randn(3, 2), torch.full((3, 2), 5.0)
        assert float(scheduler.alphas[0]) == 0
        after = scheduler.step(-clean, scheduler.timesteps[0], x).prev_sample  # v = -D at alpha = 0
    torch.testing.assert_close(after, float(scheduler.betas[1]) * x)
    (stage,) = IPNDM().plan(Cosine(), Crash()(Cosine(), 4))[:1]
    assert stage.cleans[0] == pytest.approx(float(scheduler.alphas[1]), abs=1e-6) and stage.cleans[0] > 0.1


@pytest.mark.parametrize("name", ["EulerDiscrete", "EulerAncestralDiscrete", "HeunDiscrete", "LMSDiscrete"])
def test_one_step_on_linspace_starts_at_the_data(name: str) -> None:
    """numpy's linspace of one value is its first: they start at time step 0 with noise that belongs to it."""
    scheduler = of(name)(num_train_timesteps=100)
    scheduler.set_timesteps(1)
    assert scheduler.timesteps.tolist() == [0.0]
    times = TableLevels(spacing=Linspace())(LinearBetas(), 1)
    assert times.tolist() == [1.0, 0.0]


@pytest.mark.parametrize("name", ["DPMSolverMultistep", "UniPCMultistep"])
def test_time_steps_of_straight_paths_are_cut_to_integers(name: str) -> None:
    """What the network is told is then up to one time step from the noise level of its input."""
    scheduler = of(name)(use_flow_sigmas=True, flow_shift=3.0, prediction_type="flow_prediction")
    scheduler.set_timesteps(7)
    told, level = scheduler.timesteps.double(), 1000 * scheduler.sigmas[:-1].double()
    assert not scheduler.timesteps.is_floating_point() and 0.5 < float((level - told).abs().max()) < 1


# --- integer time steps ----------------------------------------------------------------------------------------------

TABLES = {"linear": LinearBetas(), "scaled_linear": ScaledLinearBetas()}


def table_config(name: str, **more: Any) -> dict[str, Any]:
    betas = TABLES[name]
    return {
        "beta_schedule": name,
        "beta_start": betas.beta_start,
        "beta_end": betas.beta_end,
        "clip_sample": False,
        **more,
    }


@pytest.mark.parametrize("spacing", ["leading", "trailing"])
@pytest.mark.parametrize("betas", TABLES)
def test_ddpm(betas: str, spacing: str) -> None:
    solver, table = DDPM(), TABLES[betas]
    counts = torch.arange(10, dtype=torch.float64)
    indices = 900 - 100 * counts if spacing == "leading" else 999 - 100 * counts
    times = torch.cat([(indices + 1) / 1000, torch.zeros(1)])
    got, theirs_indices, _ = on_the_table(
        "DDPM", 10, draws(solver, times, table), **table_config(betas, timestep_spacing=spacing)
    )
    assert theirs_indices == indices.tolist()
    assert_same(ours(solver, times, table), got)


@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
def test_ddim(eta: float) -> None:
    solver, table = DDIM(eta), TABLES["linear"]
    times = torch.cat([torch.arange(901, 0, -100).double() / 1000, torch.zeros(1)])
    got, _, _ = on_the_table("DDIM", 10, draws(solver, times, table), {"eta": eta}, **table_config("linear"))
    assert_same(ours(solver, times, table), got)


@pytest.mark.parametrize("spacing", ["linspace", "trailing"])
def test_ddim_steps_past_its_own_grid(spacing: str) -> None:
    """DDIMScheduler goes from t to t - T // n, wherever the next time step is: on other spacings than leading the state
    is at another noise level than the network is told. Ours converges to the solution, and theirs does not.
    """
    table, n = TABLES["linear"], 600
    got, indices, _ = on_the_table("DDIM", n, iter(()), **table_config("linear", timestep_spacing=spacing))
    assert {a - b for a, b in itertools.pairwise(indices)} == {1, 2} and 1000 // n == 1
    times = torch.tensor([(i + 1) / 1000 for i in indices] + [0.0], dtype=torch.float64)
    run = ours(DDIM(), times, table)
    truth = reference_solution(PLANE, run.asked[0], run.levels[0], 1e-3)
    ours_error, theirs_error = (float((end - truth).norm(dim=1).median()) for end in (run.end, got.end))
    assert ours_error < 0.01 < 0.1 < theirs_error, (ours_error, theirs_error)
