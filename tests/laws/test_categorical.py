"""The laws of categorical processes and of their solvers, on chains whose every probability is known."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
import yaml
from scipy import stats
from tensordict import TensorDict

from framework.build import Allow, build
from framework.categories import Array, Categories, Nodes, Pairs, draw
from framework.certify.chains import (
    CHAIN_2,
    CHAIN_3,
    Chain,
    ChainDenoiser,
    convergence,
    index_of,
    prior_law,
    propagate,
    sequences,
    terminal_error,
)
from framework.denoiser import Prediction
from framework.errors import UserError
from framework.grids import UniformTime
from framework.ledger import Ledger
from framework.noise import SampleKey
from framework.processes.categorical import Categorical, Marginal, Mask, Stationary, Uniform
from framework.processes.gaussian import Gaussian
from framework.sampler import Loop, sample
from framework.schedules import EDM, Cosine, Flow, LinearVP, Schedule
from framework.solvers.categorical.ancestral import Ancestral
from framework.solvers.categorical.confidence import ConfidenceOrder
from framework.solvers.categorical.first_hitting import FirstHitting, time_of_alpha
from framework.solvers.categorical.kernels import KernelSolver, Step
from framework.solvers.categorical.remdm import Cap, Confident, Rate, ReMDM, Rescale
from framework.solvers.categorical.tau_leaping import TauLeaping
from framework.spaces import Euclidean

STATIONARY: dict[str, Stationary] = {"mask": Mask(), "uniform": Uniform(), "marginal": Marginal((5, 3, 2))}
SOLVERS: dict[str, KernelSolver | FirstHitting] = {
    "ancestral": Ancestral(),
    "tau_leaping": TauLeaping(),
    "remdm_cap": ReMDM(Cap(0.2)),
    "remdm_rescale": ReMDM(Rescale(0.5)),
    "remdm_rate": ReMDM(Rate(2.0)),
    "remdm_confident": ReMDM(Confident()),
    "confidence": ConfidenceOrder(),
    "first_hitting": FirstHitting(),
}
ONE = Chain(CHAIN_3.first, CHAIN_3.step, 1)
TWO = Chain(CHAIN_2.first, CHAIN_2.step, 2)


def even(steps: int) -> torch.Tensor:
    return torch.arange(steps, -1, -1, dtype=torch.float64) / steps


def nothing(rows: int) -> TensorDict:
    return TensorDict({}, batch_size=[rows])


def key(rows: int, seed: int = 0) -> SampleKey:
    return SampleKey(seed, tuple(range(rows)))


def sets(*sizes: int, width: int = 5) -> TensorDict:
    mask = torch.arange(width)[None] < torch.tensor(sizes)[:, None]
    return TensorDict({"mask": mask}, batch_size=[len(sizes)])


def chain_samples(
    chain: Chain, solver: KernelSolver | FirstHitting, times: torch.Tensor, rows: int, ledger: Ledger | None = None
) -> torch.Tensor:
    process = chain.process()
    denoiser = ChainDenoiser(chain, process, ledger)
    x = sample(denoiser, solver, times, chain.space, nothing(rows), key(rows), process=process, ledger=ledger)
    assert isinstance(x, torch.Tensor)
    return x


# --- arrays of tokens ---


@pytest.mark.parametrize("layout", [Nodes(), Pairs(), Array((5, 2))], ids=["nodes", "pairs", "array"])
def test_packing_and_unpacking_are_inverse(layout) -> None:
    condition = sets(2, 5, 3)
    valid = layout.valid(condition)
    packed = torch.where(valid, torch.randint(1, 4, valid.shape), 0)
    assert torch.equal(layout.pack(layout.unpack(packed, condition)), packed)
    probabilities = torch.rand(*valid.shape, 4) * valid[..., None]
    assert torch.equal(layout.pack(layout.unpack(probabilities, condition)), probabilities)


def test_pairs_are_symmetric_without_a_diagonal_and_padding_is_zero() -> None:
    condition = sets(2, 5, 3)
    x = Categories(4, Pairs()).project(torch.randint(1, 4, (3, 5, 5)), condition)
    assert torch.equal(x, x.transpose(1, 2)) and int(x.diagonal(dim1=1, dim2=2).sum()) == 0
    both = condition["mask"][:, :, None] & condition["mask"][:, None]
    assert int(x[~both].sum()) == 0
    assert Categories(4, Pairs()).degrees_of_freedom(condition).tolist() == [1, 10, 3]


@pytest.mark.parametrize("layout", [Nodes(), Pairs()], ids=["nodes", "pairs"])
def test_padding_does_not_change_what_is_drawn(layout) -> None:
    space = Categories(3, layout)
    narrow, wide = (space.noise(SampleKey(0, (4,)), sets(3, width=w))[0] for w in (3, 9))
    assert torch.equal(narrow, wide[:3] if narrow.ndim == 1 else wide[:3, :3])


def test_draws_follow_their_law_and_never_the_impossible() -> None:
    law = torch.tensor([0.0, 0.3, 0.0, 0.7, 0.0], dtype=torch.float64)
    u = torch.linspace(0, 1, 100_001, dtype=torch.float64)[:-1]
    counts = torch.bincount(draw(law.expand(len(u), -1), u), minlength=5) / len(u)
    torch.testing.assert_close(counts.double(), law, atol=2e-5, rtol=0)
    edge = torch.tensor([0.0, 1.0], dtype=torch.float64)  # 1 is what a float32 uniform may round to
    thirds = torch.tensor([0.0, 1 / 3, 1 / 3, 1 / 3, 0.0]) * 3.1  # float32, and it sums to no power of two
    assert draw(thirds.expand(2, -1), edge).tolist() == [1, 3]


# --- the process ---


@pytest.mark.parametrize("stationary", STATIONARY.values(), ids=STATIONARY.keys())
def test_corruption_has_its_law(stationary: Stationary) -> None:
    """Tokens of one class at time t are kept with probability alpha and else follow pi; what changed is marked."""
    process, rows, t = Categorical(Flow(), Categories(3, Array((10,))), stationary), 500, 0.4
    x_0 = torch.ones(rows, 10, dtype=torch.long)
    x_t, anew = process.corrupt(x_0, torch.full((rows,), t, dtype=torch.float64), key(rows), nothing(rows))
    expected = t * stationary.probabilities(3)
    expected[1] += 1 - t
    counts = torch.bincount(x_t.flatten(), minlength=len(expected)).double()
    possible = expected > 0
    assert counts[~possible].sum() == 0
    assert stats.chisquare(counts[possible].numpy(), expected[possible].numpy() * rows * 10).pvalue > 1e-3
    assert not bool((x_t != x_0)[~anew].any())
    assert abs(float(anew.double().mean()) - t) < 4 * math.sqrt(t * (1 - t) / (rows * 10))


def test_corruption_of_pairs_is_symmetric_and_leaves_padding() -> None:
    condition = sets(2, 5, 3)
    process = Categorical(Flow(), Categories(3, Pairs()))
    x_0 = process.space.project(torch.randint(0, 3, (3, 5, 5)), condition)
    for t in (0.0, 0.5, 1.0):
        times = torch.full((3,), t, dtype=torch.float64)
        x_t, anew = process.corrupt(x_0, times, key(3), condition)
        assert torch.equal(x_t, process.space.project(x_t, condition)) and torch.equal(anew, anew.transpose(1, 2))
        assert t > 0 or torch.equal(x_t, x_0)
        assert t < 1 or torch.equal(x_t, process.prior(torch.tensor(1.0), key(3), condition))


@pytest.mark.parametrize("stationary", STATIONARY.values(), ids=STATIONARY.keys())
@pytest.mark.parametrize("schedule", [Flow(), Cosine(), LinearVP()], ids=["flow", "cosine", "vp"])
@pytest.mark.parametrize(("t", "s"), [(0.7, 0.3), (1.0, 0.5), (0.4, 0.0), (1.0, 0.0)])
def test_posterior_is_bayes_rule(stationary: Stationary, schedule: Schedule, t: float, s: float) -> None:
    """Against sums over all x_0, with matrices of the forward process, from pure noise and to data too."""
    process = Categorical(schedule, Categories(3, Array((1,))), stationary)
    pi, n = stationary.probabilities(3), process.states
    alpha_t, alpha_s = (float(schedule.alpha(torch.tensor(v, dtype=torch.float64))) for v in (t, s))

    def forward(alpha: float) -> torch.Tensor:  # Q[x, y] = q(y | x)
        return alpha * torch.eye(n, dtype=torch.float64) + (1 - alpha) * pi

    p = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
    to_s, to_t, between = forward(alpha_s)[:3], forward(alpha_t)[:3], forward(alpha_t / alpha_s)
    for x in range(n):
        known = p * (to_t[:, x] > 0)
        if not bool(known.sum() > 0):
            continue  # no data leads there
        each = to_s * between[:, x] / to_t[:, x].clamp(min=1e-300)[:, None]  # q(x_s | x_t = x, x_0), a row for each x_0
        expected = (known / known.sum()) @ each
        got = process.posterior(torch.tensor([[x]]), p[None, None], t, s)[0, 0]
        torch.testing.assert_close(got, expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("stationary", STATIONARY.values(), ids=STATIONARY.keys())
def test_rates_are_the_posterior_of_an_infinitesimal_step(stationary: Stationary) -> None:
    process = Categorical(Cosine(), Categories(3, Array((1,))), stationary)
    x = torch.arange(process.states)[:, None]
    p = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64).expand(len(x), 1, 3)
    t, h = 0.6, 1e-6
    change = process.posterior(x, p, t, t - h) / h
    off = torch.arange(process.states)[:, None] != torch.arange(process.states)
    torch.testing.assert_close(process.rates(x, p, t)[:, 0][off], change[:, 0][off], atol=1e-4, rtol=1e-4)


def test_what_cannot_be_noise_is_kept_whatever_the_network_says() -> None:
    process = Categorical(Flow(), Categories(3, Array((2,))))
    p = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64).expand(1, 2, 3)
    law = process.posterior(torch.tensor([[1, 3]]), p, 0.5, 0.25)[0]
    torch.testing.assert_close(law[0], torch.tensor([0.0, 1.0, 0.0, 0.0], dtype=torch.float64))
    torch.testing.assert_close(law[1], torch.tensor([0.0, 0.0, 0.5, 0.5], dtype=torch.float64))


# --- exact laws of solvers ---


@pytest.mark.parametrize("solver", [Ancestral(), TauLeaping()], ids=["ancestral", "tau_leaping"])
@pytest.mark.parametrize("stationary", STATIONARY.values(), ids=STATIONARY.keys())
def test_order_of_convergence(solver: KernelSolver, stationary: Stationary) -> None:
    measured = convergence(solver, CHAIN_3, CHAIN_3.process(stationary), (32, 64))
    assert solver.order - 0.1 < measured.order < solver.order + 0.2, measured


@pytest.mark.parametrize("remasking", [Cap(0.2), Rescale(0.5), Rate(1.0), Confident()], ids=str)
def test_order_of_remasking(remasking) -> None:
    """With a probability of its own in each step remasking converges with order 1/2 only; with a rate, with order 1."""
    solver = ReMDM(remasking)
    measured = convergence(solver, TWO, TWO.process(), (64, 128))
    assert measured.order > solver.order - 0.1, measured
    if solver.order > 0:
        assert measured.order < solver.order + 0.2, measured


def test_sharing_out_by_confidence_is_biased() -> None:
    """At a finite rate, where remasking itself converges, an error remains that more steps do not remove."""
    biased, fair = (
        terminal_error(ReMDM(remasking), TWO, TWO.process(), even(256))
        for remasking in (Confident(Rate(4.0)), Rate(4.0))
    )
    assert biased > 1.5 * fair


@pytest.mark.parametrize("stationary", STATIONARY.values(), ids=STATIONARY.keys())
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_ancestral_is_exact_for_one_position(stationary: Stationary, steps: int) -> None:
    assert terminal_error(Ancestral(), ONE, ONE.process(stationary), even(steps)) < 1e-14


@pytest.mark.parametrize("solver", [s for s in SOLVERS.values() if isinstance(s, ReMDM)], ids=str)
@pytest.mark.parametrize("schedule", [Flow(), Cosine()], ids=["flow", "cosine"])
def test_remasking_keeps_one_position_exact_at_every_time(solver: ReMDM, schedule: Schedule) -> None:
    process, times = ONE.process(schedule=schedule), even(7)
    for last in range(1, len(times)):
        law = propagate(
            solver, ChainDenoiser(ONE, process), process, nothing(1), prior_law(process, 1), times[: last + 1]
        )
        if isinstance(solver.remasking, Confident) and last < len(times) - 1:
            continue  # its masks make up for nothing on the way
        torch.testing.assert_close(law, ONE.law_at(process, float(times[last])), atol=1e-14, rtol=0)


def test_no_remasking_is_ancestral_sampling() -> None:
    process = CHAIN_2.process()
    for solver in (ReMDM(Cap(0.0)), ReMDM(Rescale(0.0)), ReMDM(Rate(0.0))):
        errors = [terminal_error(s, CHAIN_2, process, even(5)) for s in (solver, Ancestral())]
        assert errors[0] == pytest.approx(errors[1], abs=1e-14)


@pytest.mark.parametrize("schedule", [Flow(), Cosine()], ids=["flow", "cosine"])
def test_confidence_order_is_exact_at_one_token_a_step(schedule: Schedule) -> None:
    process = CHAIN_2.process(schedule=schedule)
    times = (
        schedule.time(Flow().log_snr(even(3)))
        if isinstance(schedule, Flow)
        else time_of_alpha(schedule, 1 - even(3), 1.0, 0.0)
    )
    assert terminal_error(ConfidenceOrder(), CHAIN_2, process, times) < 1e-14
    assert terminal_error(ConfidenceOrder(), CHAIN_2, CHAIN_2.process(), even(20)) < 1e-14
    assert terminal_error(ConfidenceOrder(), CHAIN_2, CHAIN_2.process(), even(2)) > 1e-2


def step_at(x: list[int], p: list[list[float]], t: float, s: float, memory: torch.Tensor | None = None) -> Step:
    """One row of tokens of three classes under masks on alpha = 1 - t."""
    tokens, rows = torch.tensor([x]), torch.tensor([p], dtype=torch.float64)
    process = Categorical(Flow(), Categories(3, Array((len(x),))))
    memory = torch.zeros(1, 0, dtype=torch.float64) if memory is None else memory
    return Step(process, tokens, rows, torch.ones(tokens.shape, dtype=torch.bool), t, s, memory)


def test_the_surest_are_revealed_first_and_as_many_as_the_schedule_says() -> None:
    p = [[0.4, 0.3, 0.3], [0.1, 0.8, 0.1], [0.0, 0.5, 0.5], [0.0, 0.1, 0.9]]
    for s, revealed in ((0.9, []), (0.75, [3]), (0.6, [3]), (0.5, [3, 1]), (0.25, [3, 1, 2]), (0.0, [3, 1, 2, 0])):
        law = ConfidenceOrder().transition(step_at([3, 3, 3, 3], p, 1.0, s))[0]
        for i in range(4):
            expected = [*p[i], 0.0] if i in revealed else [0.0, 0.0, 0.0, 1.0]
            assert law[i].tolist() == pytest.approx(expected), (s, i)


def test_unsure_tokens_are_masked_again_more_often() -> None:
    """By softmax(-psi) of the probabilities with which they were drawn; what is masked forgets its own."""
    remasking = Confident(Rescale(1.0))
    memory = remasking.start(torch.tensor([[3, 3, 3]]))
    first = step_at([3, 3, 3], [[0.9, 0.1, 0.0], [0.5, 0.3, 0.2], [0.2, 0.2, 0.6]], 1.0, 0.6, memory)
    memory = remasking.remember(first, torch.tensor([[0, 1, 3]]))
    torch.testing.assert_close(memory, torch.tensor([[0.9, 0.3, 1.0]], dtype=torch.float64))
    second = step_at([0, 1, 3], [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.2, 0.2, 0.6]], 0.6, 0.5, memory)
    shares = torch.tensor([-0.9, -0.3], dtype=torch.float64).softmax(0)
    law = ReMDM(remasking).transition(second)[0]
    torch.testing.assert_close(law[:2, 3], shares)  # sigma_max = min(1, 0.5 / 0.4) = 1
    torch.testing.assert_close(law[2, 3], torch.tensor(0.5 / 0.6, dtype=torch.float64))
    assert remasking.remember(second, torch.tensor([[3, 1, 3]])).tolist() == [[1.0, 0.3, 1.0]]


@pytest.mark.parametrize("name", [n for n, s in SOLVERS.items() if isinstance(s, KernelSolver)])
def test_transitions_are_laws(name: str) -> None:
    """From pure noise, in one step or many, rows sum to one and nothing is left masked or undefined."""
    solver, process = SOLVERS[name], TWO.process(schedule=Cosine())
    for steps in (1, 2, 5):
        start = prior_law(process, 2)
        law = propagate(solver, ChainDenoiser(TWO, process), process, nothing(1), start, even(steps))
        assert float(law.sum()) == pytest.approx(1.0, abs=1e-13) and float(law.min()) >= 0
        masked = (sequences(3, 2) == 2).any(1)
        assert float(law[masked].sum()) == 0


# --- samples ---


@pytest.mark.parametrize("name", ["ancestral", "remdm_cap", "confidence"])
def test_samples_follow_the_exact_law(name: str) -> None:
    """The loop's draws against the propagated law: the two share the kernel and nothing else."""
    solver, process, rows = SOLVERS[name], CHAIN_2.process(), 4000
    assert isinstance(solver, KernelSolver)
    law = propagate(solver, ChainDenoiser(CHAIN_2, process), process, nothing(1), prior_law(process, 3), even(4))
    counts = torch.bincount(index_of(chain_samples(CHAIN_2, solver, even(4), rows), 3), minlength=27).double()
    possible = law > 1e-12
    assert counts[~possible].sum() == 0
    assert stats.chisquare(counts[possible].numpy(), law[possible].numpy() * rows).pvalue > 1e-3


def test_first_hitting_is_exact_with_as_many_evaluations_as_masks() -> None:
    """Two steps and two hundred are the same, and both follow the data's law."""
    ledger, rows = Ledger(), 4000
    x = chain_samples(CHAIN_2, FirstHitting(), even(1), rows, ledger)
    counts = torch.bincount(index_of(x, 2), minlength=8).double()
    assert stats.chisquare(counts.numpy(), CHAIN_2.law.numpy() * rows).pvalue > 1e-3
    assert ledger.calls == 3
    assert torch.equal(x, chain_samples(CHAIN_2, FirstHitting(), even(200), rows))


@pytest.mark.parametrize("schedule", [Flow(), Cosine()], ids=["flow", "cosine"])
def test_masks_are_lifted_when_the_exact_process_lifts_them(schedule: Schedule) -> None:
    """1 - alpha at the k-th event of n masks is the k-th largest of n uniforms, and each position is any of them."""
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    process, rows = CHAIN_2.process(schedule=schedule), 1500
    exact = ChainDenoiser(CHAIN_2, process)

    class Watched:
        schedule = exact.schedule

        def __call__(self, x: torch.Tensor, t: torch.Tensor, condition: TensorDict) -> Prediction:
            seen.append((x, 1 - schedule.alpha(t)))
            return exact(x, t, condition)

    sample(Watched(), FirstHitting(), even(1), CHAIN_2.space, nothing(rows), key(rows), process=process)
    for k, (_, level) in enumerate(seen):
        assert stats.kstest(level.numpy(), stats.beta(3 - k, 1 + k).cdf).pvalue > 1e-3
    first = (seen[1][0] != 2).double().argmax(1)
    assert stats.chisquare(torch.bincount(first, minlength=3).numpy()).pvalue > 1e-3


def test_first_hitting_stops_at_the_last_time() -> None:
    """At t = 0.5 a token is masked with probability 1/2, independently of the others."""
    rows, times = 3000, torch.tensor([1.0, 0.5], dtype=torch.float64)
    masked = (chain_samples(CHAIN_2, FirstHitting(), times, rows) == 2).sum(1)
    expected = torch.tensor([1, 3, 3, 1]) / 8 * rows
    assert stats.chisquare(torch.bincount(masked, minlength=4).numpy(), expected.numpy()).pvalue > 1e-3


class SetDenoiser:
    """Some probabilities of classes for members or pairs of sets, a function of the neighbours alone."""

    schedule = Flow()

    def __call__(self, x: torch.Tensor, t: torch.Tensor, condition: TensorDict) -> Prediction:
        mask = condition["mask"]
        valid = mask if x.ndim == 2 else mask[:, :, None] & mask[:, None]
        count = torch.where(valid, x, 0).flatten(1).sum(1).double().reshape(-1, *[1] * (x.ndim - 1))
        logits = torch.stack([0.1 * count.expand(x.shape), 0.3 * x.double(), torch.ones_like(x).double()], -1)
        return Prediction(logits.softmax(-1), x, 1.0, 0.0)


@pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS.keys())
@pytest.mark.parametrize("layout", [Nodes(), Pairs()], ids=["nodes", "pairs"])
def test_batch_split_padding_and_determinism(solver: Loop, layout) -> None:
    """A sample is the same alone, in any batch and however far it is padded; padding stays 0 and pairs symmetric."""
    space = Categories(3, layout)
    process = Categorical(Flow(), space)

    def run(condition: TensorDict, rows: tuple[int, ...]) -> torch.Tensor:
        x = sample(SetDenoiser(), solver, even(6), space, condition, SampleKey(3, rows), process=process)
        assert isinstance(x, torch.Tensor)
        return x

    sizes = (2, 5, 3, 4, 1)
    whole = run(sets(*sizes), (0, 1, 2, 3, 4))
    assert torch.equal(whole, run(sets(*sizes), (0, 1, 2, 3, 4)))
    assert torch.equal(whole[[3, 1]], run(sets(sizes[3], sizes[1]), (3, 1)))
    assert torch.equal(whole, space.project(whole, sets(*sizes)))
    assert int(whole.max()) <= 2
    wide = run(sets(*sizes, width=8), (0, 1, 2, 3, 4))
    assert torch.equal(whole, wide[:, :5] if whole.ndim == 2 else wide[:, :5, :5]) and int(wide[:, 5:].sum()) == 0


@pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS.keys())
def test_hooks_and_evaluations(solver: Loop) -> None:
    ledger, steps = Ledger(), []
    process = CHAIN_2.process()
    denoiser = ChainDenoiser(CHAIN_2, process, ledger)
    initial = torch.tensor([[2, 2, 2], [0, 2, 1]])
    before = initial.clone()
    sample(
        denoiser,
        solver,
        even(3),
        CHAIN_2.space,
        nothing(2),
        key(2),
        process=process,
        initial=initial,
        hooks=[lambda progress: steps.append((progress.index, progress.stages, progress.stage.step))],
        ledger=ledger,
    )
    assert steps == [(0, 3, 0), (1, 3, 1), (2, 3, 2)]
    assert ledger.calls == 3 * solver.evaluations_per_step
    assert torch.equal(initial, before)


def test_solvers_that_only_unmask_keep_what_is_there() -> None:
    process, initial = CHAIN_2.process(), torch.tensor([[1, 2, 0]]).expand(50, -1)
    for name in ("ancestral", "tau_leaping", "confidence", "first_hitting"):
        x = sample(
            ChainDenoiser(CHAIN_2, process),
            SOLVERS[name],
            even(4),
            CHAIN_2.space,
            nothing(50),
            key(50),
            process=process,
            initial=initial,
        )
        assert bool((x[:, 0] == 1).all()) and bool((x[:, 2] == 0).all()) and len(x[:, 1].unique()) == 2


# --- what is refused ---


@pytest.mark.parametrize("name", ["remdm_cap", "confidence", "first_hitting"])
def test_unmasking_needs_a_mask(name: str) -> None:
    process = CHAIN_2.process(Uniform())
    with pytest.raises(UserError, match="has no mask"):
        sample(
            ChainDenoiser(CHAIN_2, process), SOLVERS[name], even(4), CHAIN_2.space, nothing(2), key(2), process=process
        )


@pytest.mark.parametrize("name", ["ancestral", "first_hitting"])
def test_a_gaussian_process_is_refused(name: str) -> None:
    process = Gaussian(Flow(), Euclidean((3,)))
    with pytest.raises(UserError, match="Categorical"):
        sample(
            ChainDenoiser(CHAIN_2, CHAIN_2.process()),
            SOLVERS[name],
            even(4),
            process.space,
            nothing(2),
            key(2),
            process=process,
        )


def test_a_schedule_that_keeps_the_data_is_refused() -> None:
    with pytest.raises(UserError, match="ends near 0"):
        Categorical(EDM(), CHAIN_2.space)
    with pytest.raises(UserError, match="3 shares"):
        Categorical(Flow(), CHAIN_2.space, Marginal((1, 2, 3)))
    with pytest.raises(UserError, match="probability"):
        Cap(1.5)


@pytest.mark.parametrize(
    ("name", "solver"),
    [
        ("categorical_ancestral", Ancestral()),
        ("tau_leaping", TauLeaping()),
        ("first_hitting", FirstHitting()),
        ("remdm", ReMDM()),
        ("confidence_order", ConfidenceOrder()),
    ],
)
def test_configurations_are_the_defaults(name: str, solver: Loop) -> None:
    folder = Path(__file__).parents[2] / "conf" / "solver"
    assert build(yaml.safe_load((folder / f"{name}.yaml").read_text()), Allow(("framework",))) == solver
    assert isinstance(solver, Loop)


def test_grids_serve_categorical_schedules() -> None:
    """A grid in log-SNR is one for tokens too: it looks only at the schedule."""
    times = UniformTime(shift=2.0)(Flow(), 4)
    assert terminal_error(Ancestral(), ONE, ONE.process(), times) < 1e-14
