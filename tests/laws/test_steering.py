"""Steering on data whose tilted law is known: the error falls with the particles, and a sample is its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from tensordict import TensorDict
from torch import Tensor, nn

from framework.certify.bed import Bed, DoubleKey, key_of
from framework.certify.gaussian_mixture import PLANE, PLANE_BED
from framework.certify.product import PairBed
from framework.certify.tokens import MASKED
from framework.denoiser import Prediction
from framework.editing.known import Known
from framework.editing.particles import ParticleKey, systematic
from framework.editing.requests import Steer
from framework.editing.start import FromClean
from framework.editing.steering import Decoded, Steered, Steering
from framework.editing.task import Run
from framework.errors import UserError
from framework.grids import UniformTime
from framework.guidance.classifier_free import ClassifierFree
from framework.ledger import Ledger
from framework.model import Model
from framework.noise import BatchKey, NoiseKey, SampleKey
from framework.parametrizations import V
from framework.sampler import Loop, Progress
from framework.samples import Trajectory
from framework.schedules import Cosine, Flow, Schedule
from framework.self_conditioning import Remembering
from framework.solvers.adaptive import RK45
from framework.solvers.categorical.ancestral import Ancestral
from framework.solvers.categorical.remdm import Confident, ReMDM
from framework.solvers.ddim import DDIM, DDPM
from framework.solvers.dpmpp import DPMpp2M
from framework.solvers.edm import Heun
from framework.solvers.plan import Solver
from framework.solvers.sde_dpmpp import SDEDPMpp2M
from framework.solvers.splitting import Splitting
from tests.toy import Points, point_model

D = torch.float64
SLOPE = torch.tensor([2.0, 1.0], dtype=D)


def begin(bed: Bed, schedule: Schedule, solver: Solver | Loop, steps: int, samples: Sequence[int]) -> Run:
    samples, ledger = tuple(samples), Ledger()
    return Run(
        bed.denoiser(schedule, ledger), solver, UniformTime()(schedule, steps), bed.space, bed.process(schedule),
        bed.condition(samples), key_of(samples), samples, ledger,
    )  # fmt: skip


def plane(n: int = 6, steps: int = 12, solver: Solver | Loop | None = None) -> Run:
    return begin(PLANE_BED, Cosine(), solver or DDPM(), steps, range(n))


def slope(x: Any, condition: TensorDict) -> Tensor:
    found: Tensor = x @ SLOPE
    return found


# --- the law ----------------------------------------------------------------------------------------------------------


def many(run: Run) -> Run:
    """The run with noise of one generator, which is faster, and as good where only the law matters."""
    return replace(run, key=DoubleKey(BatchKey(0, 0, size=len(run.samples))))


def test_the_law_of_points_approaches_the_tilted_one_as_particles_grow() -> None:
    """A mixture times exp(a x) is a mixture: weights w exp(a mu + |s a|^2 / 2), means mu + s^2 a.

    The error is the total variation of the components' shares and the distance of the means, of 1,024 samples.
    """
    weights, means, stds = (torch.tensor(v, dtype=D) for v in (PLANE.weights, PLANE.means, PLANE.stds))
    shares = (weights.log() + means @ SLOPE + ((stds * SLOPE) ** 2).sum(1) / 2).softmax(0)
    centres = means + stds**2 * SLOPE
    one, zero = torch.ones(1, dtype=D), torch.zeros(1, dtype=D)
    errors = []
    for particles in (1, 4, 16, 64):
        x: Any = Steered(slope, particles, every=8)(many(plane(1024, 40))).draw()
        found = PLANE.responsibilities(x, one, zero)[0].softmax(-1).mean(0)
        errors.append(float((found - shares).abs().sum()) / 2 + float((x.mean(0) - shares @ centres).norm()))
    assert errors[0] > 1.0 and errors[1] < 0.3 * errors[0] and errors[2] < 0.4 * errors[1] and errors[3] < errors[2]


def test_a_lower_temperature_and_the_best_particle_lead_further() -> None:
    means = [
        float(slope(Steered(slope, 8, t, 3, keep)(plane(128)).draw(), TensorDict({}, [128])).mean())  # type: ignore[arg-type]
        for t, keep in ((4.0, "drawn"), (1.0, "drawn"), (0.1, "drawn"), (0.1, "best"))
    ]
    assert means == sorted(means) and means[2] > means[0] + 0.5


def test_the_law_of_a_label_and_its_point_approaches_the_tilted_one() -> None:
    """Scores of the point lead the label too, by the joint denoiser, and scores of the label alone the point."""
    bed, n = PairBed(), 2048
    w, mu, s = bed.data.tensors()
    for score, shares, centres in (
        (lambda c, _: 1.5 * c["point"][:, 0], (w.log() + 1.5 * mu + (1.5 * s) ** 2 / 2).softmax(0), mu + 1.5 * s**2),
        (lambda c, _: 2.0 * c["label"][:, 0, 0], (w.log() + torch.tensor([2.0, 0.0])).softmax(0), mu),
    ):
        errors = []
        for particles in (1, 4, 16):
            run = Steered(score, particles, every=4)(many(begin(bed, Flow(), Splitting(), 24, range(n))))
            x: Any = run.draw()
            label = float((x["label"][:, 0] == 0).double().mean() - shares[0])
            errors.append(abs(label) + abs(float(x["point"].mean() - shares @ centres)))
        assert errors[0] > 0.4 and errors[1] < 0.65 * errors[0] and errors[2] < 0.2 * errors[0]


def test_tokens_alone_are_steered() -> None:
    """More of token 1 is asked for, in a chain of them; the share of it grows."""
    shares = []
    for particles in (1, 16):
        run = begin(MASKED, Flow(), Ancestral(), 12, range(96))
        x: Any = Steered(lambda c, _: 3 * c[..., 1].mean(1), particles, temperature=0.3)(run).draw()
        assert x.dtype == torch.int64 and int(x.max()) <= 1
        shares.append(float(x.double().mean()))
    assert shares[1] > shares[0] + 0.25


# --- what a sample depends on -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("every", [None, 1, 5])
def test_a_sample_is_the_same_in_any_batch(every: int | None) -> None:
    whole = Steered(slope, 4, every=every)(plane(7)).draw()
    part = Steered(slope, 4, every=every)(begin(PLANE_BED, Cosine(), DDPM(), 12, (5, 2))).draw()
    torch.testing.assert_close(part, whole[[5, 2]], rtol=0, atol=1e-12)


def test_a_product_sample_is_the_same_in_any_batch() -> None:
    task = Steered(lambda c, _: c["point"][:, 0], 4)
    whole: Any = task(begin(PairBed(), Flow(), Splitting(), 12, range(7))).draw()
    part: Any = task(begin(PairBed(), Flow(), Splitting(), 12, (5, 2))).draw()
    assert torch.equal(part["label"], whole["label"][[5, 2]])
    torch.testing.assert_close(part["point"], whole["point"][[5, 2]], rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["points", "pair", "tokens"])
def test_one_particle_is_plain_sampling_bit_for_bit_and_so_is_a_score_that_does_not_care(name: str) -> None:
    """The loop itself with one particle, which the task passes by, and particle 0, the best as the first of equals."""
    bed, schedule, solver = {
        "points": (PLANE_BED, Cosine(), DDPM()),
        "pair": (PairBed(), Flow(), Splitting()),
        "tokens": (MASKED, Flow(), Ancestral()),
    }[name]
    run = begin(bed, schedule, solver, 10, range(5))  # type: ignore[arg-type]
    plain: Any = run.draw()
    same = lambda c, _: torch.zeros(len(c))  # noqa: E731
    assert Steered(same, 1)(run) is run
    alone = replace(run, solver=Steering(Steered(same, 1), run.solver, run.key))
    several = Steered(same, 3, keep="best")(run)
    for x in (alone.draw(), several.draw()):
        assert bool((x == plain).all())


@dataclass(frozen=True)
class Switched:
    """One key's noise up to a step, and another's after it."""

    before: NoiseKey
    after: NoiseKey
    last: int

    def at(self, step: int) -> NoiseKey:
        return (self.before if step <= self.last else self.after).at(step)

    def along(self, step: int, path: tuple[float, float] | None) -> NoiseKey:
        return (self.before if step <= self.last else self.after).along(step, path)

    def component(self, name: str) -> Switched:
        return Switched(self.before.component(name), self.after.component(name), self.last)

    def normal(self, shape: Sequence[int], like: Tensor) -> Tensor:
        return self.before.normal(shape, like)

    def uniform(self, shape: Sequence[int], like: Tensor) -> Tensor:
        return self.before.uniform(shape, like)


@pytest.mark.parametrize("name", ["points", "pair", "tokens"])
def test_a_copy_goes_on_from_the_others_past_with_noise_of_its_own(name: str) -> None:
    """Of two particles the second takes both places at step 4: the first place then has its history and memory."""
    bed, schedule, solver = {
        "points": (PLANE_BED, Cosine(), SDEDPMpp2M()),
        "pair": (PairBed(), Flow(), Splitting(SDEDPMpp2M(), ReMDM(Confident()))),
        "tokens": (MASKED, Flow(), ReMDM(Confident())),
    }[name]
    run = begin(bed, schedule, solver, 7, range(256))  # type: ignore[arg-type]
    asked: list[int] = []

    def second_then_none(clean: Any, condition: TensorDict) -> Tensor:
        asked.append(len(clean))
        return torch.arange(512) // 256 * (1e3 if len(asked) == 1 else 0.0)

    x: Any = Steered(second_then_none, 2, every=4, keep="best")(run).draw()
    own, other = ParticleKey(run.key, 2).of_particle
    wanted: Any = replace(run, key=Switched(other, own, 4)).draw()
    assert len(asked) == 2 and bool((x == wanted).all())
    assert not bool((x == run.draw()).all())


class Drift:
    """A denoiser that leans on what it said last."""

    def __init__(self, ledger: Ledger) -> None:
        self.base, self.schedule, self.ledger = PLANE_BED.denoiser(Cosine()), Cosine(), ledger
        self.wrong = 0

    def __call__(self, x_t: Tensor, t: Tensor, condition: TensorDict) -> Prediction:
        prediction = self.base(x_t, t, condition)
        said = dict(condition.items()).get("previous")
        if said is not None:  # near a particle's own last word, far from another's
            self.wrong += int(((said - prediction.clean).norm(dim=1) > 0.2).sum())
        return prediction


@pytest.mark.parametrize("guidance", [False, True])
def test_self_conditioning_follows_the_particles(guidance: bool) -> None:
    """Predictions of 200 steps with little noise change little from step to step; mixed up, they are modes apart."""
    for resampled in (True, False):
        base = Drift(Ledger())
        run = replace(plane(4, 200, DDIM(0.01)), denoiser=Remembering(base))
        run = Steered(slope, 8, 0.5, every=20)(run)
        if guidance:
            run = replace(run, denoiser=ClassifierFree(1.5)(run.denoiser, run.condition))
        if not resampled:
            run = replace(run, solver=replace(run.solver, memory=None))  # type: ignore[type-var]
        run.draw()
        assert base.wrong == 0 if resampled else base.wrong > 10


# --- on a model -------------------------------------------------------------------------------------------------------


def test_a_model_with_guidance_a_negative_prompt_and_other_tasks_is_steered_in_any_batch() -> None:
    model = point_model()
    points, first = torch.tensor([[0.5, -1.0], [1.5, 2.0]]), torch.tensor([True, False])
    tasks = [FromClean(points, 0.8), Known(points, first), Steered(lambda x, _: x[:, 1], 4, 0.1)]
    how: dict[str, Any] = {"solver": DDPM(), "steps": 8, "guidance": ClassifierFree(2.0), "negative": 1, "tasks": tasks}
    whole = model.sample(0, 5, **how)
    assert whole.samples.shape == (5, 2) and whole.condition.batch_size == torch.Size([5])
    torch.testing.assert_close(whole.samples[:, 0], points[[0, 1, 0, 1, 0], 0], rtol=0, atol=1e-5)
    for size in (1, 9):
        split = model.sample(0, 5, batch_size=size, **how).samples
        torch.testing.assert_close(split, whole.samples, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model.sample(0, 2, first=3, **how).samples, whole.samples[3:], rtol=1e-4, atol=1e-5)
    plain = model.sample(0, 5, **{**how, "tasks": tasks[:2]})
    assert whole.ledger.evaluations_per_sample == 4 * plain.ledger.evaluations_per_sample
    assert float(whole.samples[:, 1].mean()) > float(plain.samples[:, 1].mean())


class Rows(nn.Module):
    """Counts the rows that go through it at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.most = nn.Parameter(torch.tensor(0.3)), 0

    def forward(self, x_t: Tensor, noise_level: Tensor, condition: TensorDict) -> Tensor:
        self.most = max(self.most, len(x_t))
        return self.weight * x_t


def test_a_batch_holds_all_particles_and_hooks_see_the_one_that_leads() -> None:
    network, trajectory = Rows(), Trajectory()
    model = Model(Points(), network, Flow(), V())
    steered = Steered(lambda x, _: x[:, 0], 8, keep="best")
    x = model.sample(0, 3, solver=DDPM(), steps=5, tasks=[steered], hooks=[trajectory], batch_size=24).samples
    assert network.most == 24 and [len(s) for s in trajectory.states] == [3] * 5
    assert trajectory.states[-1].shape == x.shape
    model.sample(0, 3, solver=DDPM(), steps=5, tasks=[steered], batch_size=16)
    assert network.most == 24


def test_people_score_samples_in_their_own_form() -> None:
    model, seen = point_model(), []

    def score(samples: Tensor) -> list[float]:
        seen.append(type(samples))
        return [float(v) for v in samples[:, 0]]

    tasks = Steer(score, particles=6, keep="best", every=None).tasks(model.modality)
    best = model.sample(0, 4, solver=DPMpp2M(), tasks=tasks)
    assert len(seen) == 1 and bool((best.samples[:, 0] >= model.sample(0, 4, solver=DPMpp2M()).samples[:, 0]).all())
    assert isinstance(tasks[0].score, Decoded)  # type: ignore[attr-defined]


# --- the parts --------------------------------------------------------------------------------------------------------


def test_systematic_resampling_keeps_counts_within_one_of_their_means() -> None:
    generator = torch.Generator().manual_seed(0)
    weights = torch.rand(200, 7, dtype=D, generator=generator) ** 3
    weights[:, 3] = 0
    weights /= weights.sum(1, keepdim=True)
    u = torch.rand(200, 1, dtype=D, generator=generator)
    counts = torch.nn.functional.one_hot(systematic(weights, u), 7).sum(1)
    assert float((counts - 7 * weights).abs().max()) < 1 and int(counts[:, 3].max()) == 0
    spread = systematic(weights[:1].expand(4096, -1), torch.arange(4096, dtype=D)[:, None] / 4096)
    means = torch.nn.functional.one_hot(spread, 7).sum(1).double().mean(0)
    torch.testing.assert_close(means, 7 * weights[0], rtol=0, atol=0.01)
    assert systematic(torch.full((1, 5), 0.2, dtype=D), torch.full((1, 1), 0.5, dtype=D)).tolist() == [[0, 1, 2, 3, 4]]


def test_particles_have_noise_of_their_own_and_the_first_the_samples() -> None:
    key = SampleKey(3, (4, 9))
    z = ParticleKey(key, 3).at(5).component("x").normal((50,), torch.zeros(())).reshape(3, 2, 50)
    assert torch.equal(z[0], key.at(5).component("x").normal((50,), torch.zeros(())))
    assert len({tuple(row.tolist()) for row in z.flatten(0, 1)}) == 6
    u = ParticleKey(key, 3).along(2, (0.1, 0.2)).uniform((4,), torch.zeros(()))
    assert u.shape == (6, 4) and torch.equal(u[:2], key.along(2, (0.1, 0.2)).uniform((4,), torch.zeros(())))


def test_never_is_never_kept_unless_all_are() -> None:
    """A score of -inf, or NaN, on one side of a line."""

    def right(x: Any, condition: TensorDict) -> Tensor:
        return torch.where(x[:, 0] > 0, 0.0, torch.nan)

    x: Any = Steered(right, 8)(plane(64, 24)).draw()
    plain: Any = plane(64, 24).draw()
    assert float((x[:, 0] > 0).double().mean()) > 0.95 > 0.7 > float((plain[:, 0] > 0).double().mean())
    never: Any = Steered(lambda x, _: torch.full((len(x),), -torch.inf), 4, keep="best")(plane()).draw()
    torch.testing.assert_close(never, plane().draw())


def test_what_cannot_be_steered_is_refused_with_its_reason() -> None:
    for solver, words in ((DPMpp2M(), "draws none"), (RK45(), "none of its own"), (Heun(churn=1.0), "one evaluation")):
        with pytest.raises(UserError, match=words):
            Steered(slope, 2)(plane(solver=solver))
        if not isinstance(solver, RK45):
            assert Steered(slope, 2, every=None)(plane(solver=solver)).draw().shape == (6, 2)
    for score, words in ((lambda x, _: x[0, 0], "one number a sample"), (lambda x, _: x[:, 0] / 0, r"not \+inf")):
        with pytest.raises(UserError, match=words):
            Steered(score, 2)(plane()).draw()
    for wrong in ({"particles": 0}, {"every": 0}, {"temperature": 0.0}, {"keep": "worst"}, {"score": "words"}):
        with pytest.raises(UserError):
            Steered(**{"score": slope, **wrong})  # type: ignore[arg-type]


def test_progress_names_steps_as_ever() -> None:
    seen: list[Progress] = []
    Steered(slope, 2)(plane(3, 6)).draw([seen.append])
    assert [p.index for p in seen] == list(range(6)) and seen[-1].stage.target == 0 and len(seen[0].prediction.x_t) == 3
