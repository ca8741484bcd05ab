"""Energy guidance on data whose tilted law is known: where theory says it is exact, and how far off it is elsewhere."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from scipy.special import dawsn
from tensordict import TensorDict
from torch import Tensor

from framework.categories import Categories, Pairs
from framework.certify.bed import key_of
from framework.certify.gaussian import gaussian
from framework.certify.label_and_point import LabelAndPoint, LabelAndPointDenoiser
from framework.certify.labelled import NO_LABEL, TWO_LABELS, LabelledDenoiser
from framework.certify.tokens import TokenSetBed
from framework.denoiser import Denoiser, Prediction
from framework.errors import UserError
from framework.grids import UniformTime
from framework.guidance.classifier_free import ClassifierFree
from framework.guidance.composed import Composed, heeds_negative
from framework.guidance.energy import EnergyGuided
from framework.guidance.off import Off
from framework.ledger import Ledger
from framework.processes.categorical import Categorical, Uniform
from framework.sampler import sample
from framework.schedules import EDM, Cosine, Flow, LinearVP, Schedule
from framework.solvers.ddim import DDIM
from tests.toy import point_model

D = torch.float64
MEANS, STDS, SLOPE = (1.0, -0.5, 0.2), (0.4, 0.9, 1.5), (0.7, -1.1, 0.3)
X = torch.tensor([[0.3, -1.0, 2.0], [1.5, 0.2, -0.7], [-2.0, 0.1, 0.4]], dtype=D)
T = torch.tensor([0.05, 0.4, 0.9], dtype=D)


def empty(rows: int = 3) -> TensorDict:
    return TensorDict({}, batch_size=[rows])


def linear(x: Any, condition: TensorDict) -> Tensor:
    found: Tensor = x @ torch.tensor(SLOPE, dtype=x.dtype)
    return found


def clean(denoiser: Denoiser, x: Any = X, t: Tensor = T, condition: TensorDict | None = None) -> Any:
    with torch.no_grad():
        return denoiser(x, t, empty() if condition is None else condition).clean


@pytest.mark.parametrize("schedule", [Cosine(), LinearVP(), EDM(sigma_max=20.0)], ids=lambda s: type(s).__name__)
def test_a_linear_energy_on_gaussian_data_is_exact(schedule: Schedule) -> None:
    """N(m, S) exp(-w a x) is N(m - w S a, S), and the guided clean mean is that law's, at every state and time."""
    shifted = [m - 0.6 * s**2 * a for m, s, a in zip(MEANS, STDS, SLOPE, strict=True)]
    guided = EnergyGuided(linear, 0.6)(gaussian(MEANS, STDS).denoiser(schedule), empty())
    torch.testing.assert_close(clean(guided), clean(gaussian(shifted, STDS).denoiser(schedule)), rtol=0, atol=1e-12)


def test_the_cheap_way_is_exact_where_the_covariance_is_a_number_and_so_is_pure_noise() -> None:
    """At t = 1 of Flow alpha is 0, and the network's derivative with it."""
    shifted = [m - 0.6 * 0.8**2 * a for m, a in zip(MEANS, SLOPE, strict=True)]
    wanted = gaussian(shifted, (0.8,) * 3).denoiser(Flow())
    times = torch.tensor([0.05, 0.4, 1.0], dtype=D)
    for through in (False, True):
        guided = EnergyGuided(linear, 0.6, through, spread=0.8)(gaussian(MEANS, (0.8,) * 3).denoiser(Flow()), empty())
        torch.testing.assert_close(clean(guided, t=times), clean(wanted, t=times), rtol=0, atol=1e-12)


def ends(scale: float, steps: int = 400, **how: Any) -> tuple[float, float]:
    """Mean and deviation of what DDIM makes of N(0, 1) under (x - 1)^2 / 2: an affine map of the noise."""
    bed, schedule = gaussian((0.0,), (1.0,)), Cosine()
    guided = EnergyGuided(lambda x, _: (x[:, 0] - 1) ** 2 / 2, scale, **how)(bed.denoiser(schedule), empty(2))
    times, start = UniformTime()(schedule, steps), torch.tensor([[0.0], [1.0]], dtype=D)
    with torch.no_grad():
        x: Any = sample(guided, DDIM(), times, bed.space, empty(2), key_of((0, 1)), initial=start)
    return float(x[0, 0]), float(x[1, 0] - x[0, 0])


@pytest.mark.parametrize("scale", [0.25, 1.0, 2.0])
def test_a_quadratic_energy_goes_too_far_by_as_much_as_is_written(scale: float) -> None:
    mean, std = ends(scale)
    assert mean == pytest.approx(math.sqrt(2 * scale) * dawsn(math.sqrt(scale / 2)), abs=0.003)
    assert std == pytest.approx(math.exp(-scale / 2), abs=0.003)
    assert mean > scale / (1 + scale) and std < (1 + scale) ** -0.5


def test_draws_around_the_mean_make_a_quadratic_energy_right() -> None:
    """For N(0, 1) the states around the mean have the law of x_0 given x_t, so that only their number is in the way."""
    wanted = 0.5, math.sqrt(0.5)
    away = [max(abs(a - b) for a, b in zip(ends(1.0, draws=d, steps=60), wanted, strict=True)) for d in (0, 16, 64)]
    assert away[0] > 0.2 and away[1] < 0.35 * away[0] and away[2] < 0.05
    with pytest.raises(UserError, match="even number"):
        EnergyGuided(linear, draws=3)


def test_more_scale_leads_further_and_a_small_one_is_nearly_right() -> None:
    found = [ends(scale) for scale in (0.0, 0.05, 0.5, 1.0)]
    assert found[0] == (0.0, pytest.approx(1.0, abs=0.004))
    assert [m for m, _ in found] == sorted(m for m, _ in found) and found[-1][0] < 1
    assert [s for _, s in found] == sorted((s for _, s in found), reverse=True)
    assert found[1][0] == pytest.approx(0.05 / 1.05, abs=0.002) and found[1][1] == pytest.approx(1.05**-0.5, abs=0.004)


def test_scale_zero_is_the_denoiser_itself() -> None:
    ledger = Ledger()
    base = gaussian(MEANS, STDS).denoiser(Cosine(), ledger)
    assert torch.equal(clean(EnergyGuided(linear, 0.0)(base, empty())), clean(base))
    assert ledger.backward == 0


def test_the_ledger_counts_what_goes_back_through_the_network() -> None:
    for through, backward in ((True, 6), (False, 0)):
        ledger = Ledger()
        guidance = Composed([ClassifierFree(2.0), EnergyGuided(linear, 1.0, through)])
        clean(guidance(gaussian(MEANS, STDS).denoiser(Cosine(), ledger), empty()))
        assert (ledger.forward, ledger.backward) == (6, backward)  # three rows with and three without a condition


def test_energies_and_classifier_free_guidance_compose_from_left_to_right() -> None:
    """Shifts of linear energies add up, though the second takes its gradient through the first."""
    base = gaussian(MEANS, STDS).denoiser(Cosine())
    both = Composed([EnergyGuided(linear, 0.3), EnergyGuided(linear, 0.5)])(base, empty())
    torch.testing.assert_close(clean(both), clean(EnergyGuided(linear, 0.8)(base, empty())))
    condition, null = (TensorDict({"label": torch.full((3,), i)}, batch_size=[3]) for i in (0, NO_LABEL))
    x, away, labelled = X[:, :2], ClassifierFree(2.0), LabelledDenoiser(TWO_LABELS, (0, 0, 1, 1), Cosine())
    square: Callable[..., Tensor] = lambda x, _: (x**2).sum(1)  # noqa: E731
    stacked = Composed([away, EnergyGuided(square, 0.4)])(labelled, null)
    by_hand = EnergyGuided(square, 0.4)(away(labelled, null), null)
    assert torch.equal(clean(stacked, x, condition=condition), clean(by_hand, x, condition=condition))
    assert not torch.allclose(
        clean(stacked, x, condition=condition), clean(away(labelled, null), x, condition=condition)
    )


def test_a_limit_shortens_long_moves_in_their_direction() -> None:
    base = gaussian(MEANS, (1.0,) * 3).denoiser(Cosine())
    free, held = (clean(EnergyGuided(linear, 1e6, limit=limit)(base, empty())) - clean(base) for limit in (None, 2.0))
    alpha, sigma = Cosine().alpha(T), Cosine().sigma(T)
    torch.testing.assert_close(held.abs().amax(1), 2 * (sigma**2 / (alpha**2 + sigma**2)).sqrt())
    torch.testing.assert_close(torch.cosine_similarity(free, held), torch.ones(3, dtype=D))
    loose = clean(EnergyGuided(linear, 0.01, limit=50.0)(base, empty()))
    assert torch.equal(loose, clean(EnergyGuided(linear, 0.01)(base, empty())))


# --- tokens -----------------------------------------------------------------------------------------------------------


def test_tokens_tilted_by_a_linear_energy_are_exact_and_padding_stays_empty() -> None:
    """p(k) exp(-w e_k) at each masked place, certainty where the token is known."""
    bed, schedule = TokenSetBed(6), Flow()
    condition, cost = bed.condition((0, 1, 2)), torch.tensor([0.0, 1.0, -0.5], dtype=D)
    x = torch.full((3, 6), 3)
    x[:, 0] = 1
    x = torch.where(condition["mask"], x, 0)
    guided = EnergyGuided(lambda p, _: (p @ cost).sum(1), token_scale=0.7)(bed.denoiser(schedule), condition)
    p, led = clean(bed.denoiser(schedule), x, T, condition), clean(guided, x, T, condition)
    wanted = p * (-0.7 * cost).exp()
    torch.testing.assert_close(led[condition["mask"]], (wanted / wanted.sum(-1, keepdim=True))[condition["mask"]])
    assert bool((led[:, 0, 1] == 1).all()) and not bool(led[~condition["mask"]].any())


def test_a_pair_is_one_variable_whichever_of_its_entries_the_energy_reads() -> None:
    space = Categories(2, Pairs())
    mask = torch.tensor([[True, True, False]])
    condition = TensorDict({"mask": mask}, batch_size=[1])

    class Even:
        process, schedule = Categorical(Flow(), space, Uniform()), Flow()

        def __call__(self, x_t: Tensor, t: Tensor, condition: TensorDict) -> Prediction:
            p = space.project(torch.full((1, 3, 3, 2), 0.5, dtype=D), condition)
            return Prediction(p, x_t, self.schedule.alpha(t), self.schedule.sigma(t))

    x, t = torch.zeros(1, 3, 3, dtype=torch.long), T[:1]
    upper: Callable[..., Tensor] = lambda p, _: p[:, 0, 1, 1]  # noqa: E731
    halves: Callable[..., Tensor] = lambda p, _: (p[:, 0, 1, 1] + p[:, 1, 0, 1]) / 2  # noqa: E731
    for energy in (upper, halves):
        p = clean(EnergyGuided(energy, token_scale=1.0)(Even(), condition), x, t, condition)
        assert float(p[0, 0, 1, 1]) == float(p[0, 1, 0, 1]) == pytest.approx(1 / (1 + math.e))
        assert not bool(p[0, 2].any())


def test_each_component_of_a_product_has_its_own_clock() -> None:
    """A point under a known label is Gaussian, so that a linear energy shifts it exactly, on the point's schedule."""
    data = LabelAndPoint()
    process = data.process(label=Flow(), point=Cosine())

    class GlobalTime(LabelAndPointDenoiser):
        """The bed's denoiser, whose own schedule is said to be another than the point's."""

        schedule = Flow()

        def __call__(self, x_t: Any, t: Tensor, condition: TensorDict) -> Prediction:
            return LabelAndPointDenoiser(data, process)(x_t, t, condition)

    x = TensorDict({"label": torch.tensor([[0], [1], [0]]), "point": X[:, :1]}, batch_size=[3])
    base = GlobalTime(data, process)
    guided = EnergyGuided(lambda s, _: s["point"][:, 0], 0.5, token_scale=0.5)(base, empty())  # type: ignore[arg-type]
    a, b = clean(base, x), clean(guided, x)
    alpha, sigma, std = Cosine().alpha(T), Cosine().sigma(T), torch.tensor([0.5, 0.35, 0.5], dtype=D)
    variance = std**2 * sigma**2 / (alpha**2 * std**2 + sigma**2)
    torch.testing.assert_close(a["point"][:, 0] - b["point"][:, 0], 0.5 * variance)
    assert torch.equal(a["label"], b["label"])


# --- on a model, and what is refused ----------------------------------------------------------------------------------


def test_a_model_is_led_in_any_batch_and_its_weights_are_left_alone() -> None:
    model = point_model()
    model.network.float()
    how: dict[str, Any] = {"guidance": EnergyGuided(lambda x, _: x[:, 0], 1.0, limit=1.0), "steps": 8}
    whole = model.sample(0, 5, **how)
    torch.testing.assert_close(model.sample(0, 5, batch_size=2, **how).samples, whole.samples, rtol=1e-4, atol=1e-5)
    plain = model.sample(0, 5, steps=8)
    assert bool((whole.samples[:, 0] < plain.samples[:, 0] - 0.1).all())
    assert whole.ledger.backward == whole.ledger.forward == 40 and plain.ledger.backward == 0
    assert all(p.grad is None for p in model.network.parameters())


class Detached:
    """A denoiser that forbids gradients."""

    schedule = Cosine()

    def __call__(self, x_t: Tensor, t: Tensor, condition: TensorDict) -> Prediction:
        return Prediction(x_t.detach() * 0.5, x_t, self.schedule.alpha(t), self.schedule.sigma(t))


def test_what_cannot_be_led_is_refused_with_its_reason() -> None:
    base = gaussian(MEANS, STDS).denoiser(Cosine())
    for guided, words in (
        (EnergyGuided(lambda x, _: x.sum())(base, empty()), "one number a sample"),
        (EnergyGuided(lambda x, _: x.detach().sum(1))(base, empty()), "no gradient"),
        (EnergyGuided(linear, token_scale=1.0)(base, empty()), "these states have none"),
        (EnergyGuided(linear)(Detached(), empty()), "through_network=false"),
    ):
        with pytest.raises(UserError, match=words):
            clean(guided)
    assert not torch.equal(clean(EnergyGuided(linear, 1.0, False)(Detached(), empty())), clean(Detached()))
    for make in (lambda: EnergyGuided("f"), lambda: EnergyGuided(linear, spread=0.0), lambda: Composed([])):  # type: ignore[arg-type]
        with pytest.raises(UserError):
            make()


def test_a_negative_prompt_needs_a_guidance_that_heeds_it() -> None:
    energy = EnergyGuided(linear)
    assert heeds_negative(ClassifierFree()) and heeds_negative(Composed([energy, ClassifierFree()]))
    assert not any(heeds_negative(each) for each in (None, Off(), energy, Composed([energy])))
    with pytest.raises(UserError, match="negative prompt"):
        point_model().sample(0, 1, negative=1, guidance=energy)
