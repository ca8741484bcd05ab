"""The likelihood is the exact density where that is known, and the Jacobian's determinant where it is not."""

from __future__ import annotations

import math

import pytest
import torch
from tensordict import TensorDict
from torch import Tensor, nn

from framework.certify.bed import key_of
from framework.certify.gaussian_mixture import PLANE, SIXTEEN, Mixture, MixtureDenoiser
from framework.certify.labelled import LabelledBed
from framework.certify.sets import STDS, WEIGHTS, SetBed, SetDenoiser
from framework.denoiser import Angle, Denoiser, NetworkDenoiser, Prediction
from framework.guidance.classifier_free import ClassifierFree
from framework.ledger import Ledger
from framework.likelihood import ExactDivergence, HutchinsonDivergence, Likelihood, log_likelihood
from framework.noise import SampleKey
from framework.parametrizations import V
from framework.sampler import sample
from framework.schedules import EDM, Cosine, Flow, LinearVP, Schedule
from framework.solvers.adaptive import DOP853, RK45
from framework.spaces import Euclidean, Product, Space

SOLVER = DOP853(1e-9, 1e-9)
EXACT = ExactDivergence()


def times(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def nothing(rows: int) -> TensorDict:
    return TensorDict({}, batch_size=[rows])


def noisy(mixture: Mixture, schedule: Schedule, t: Tensor, rows: int) -> Tensor:
    """Exact draws of x_t."""
    z = Euclidean((mixture.dimensions,)).noise(key_of(range(rows)), nothing(rows))
    return schedule.alpha(t) * mixture.sample(rows, 0) + schedule.sigma(t) * z


def set_log_density(x: Tensor, bed: SetBed, condition: TensorDict, schedule: Schedule, t: Tensor) -> Tensor:
    """log p_t of the mixture over sets, on the (n - 1) f dimensions that they have."""
    weights, variance = torch.tensor(WEIGHTS), schedule.alpha(t) ** 2 * times(*STDS) ** 2 + schedule.sigma(t) ** 2
    shapes = bed._shapes(condition)
    squares = (x[:, None] - schedule.alpha(t) * shapes).square().sum((-1, -2))
    freedom = bed.space.degrees_of_freedom(condition)[:, None]
    return (weights.log() - squares / (2 * variance) - freedom / 2 * (2 * math.pi * variance).log()).logsumexp(1)


@pytest.mark.parametrize(("schedule", "low"), [(Flow(), 0.3), (Cosine(), 0.01)], ids=["flow", "cosine"])
@pytest.mark.parametrize("mixture", [PLANE, SIXTEEN], ids=["plane", "sixteen"])
def test_exact_density_of_mixtures(mixture: Mixture, schedule: Schedule, low: float) -> None:
    """With an exact denoiser and alpha(1) = 0, it is log p_t(x) at the last time."""
    rows, grid = 6, times(1.0, low)
    x = noisy(mixture, schedule, grid[1], rows)
    space, denoiser = Euclidean((mixture.dimensions,)), MixtureDenoiser(mixture, schedule)
    got = log_likelihood(denoiser, x, grid, space, nothing(rows), EXACT, solver=SOLVER)
    truth = mixture.log_density(x, schedule.alpha(grid[1:]), schedule.sigma(grid[1:]))
    torch.testing.assert_close(got.nats, truth, rtol=0, atol=1e-6)
    assert got.standard_error.tolist() == [0.0] * rows


class Outside:
    """A denoiser whose clean mean has a part, which depends on x, outside of the space of sets."""

    def __init__(self, inner: SetDenoiser) -> None:
        self.inner, self.schedule = inner, inner.schedule

    def __call__(self, x_t: Tensor, t: Tensor, condition: TensorDict) -> Prediction:
        found = self.inner(x_t, t, condition)
        return found.with_clean(found.clean + x_t.square().sum((1, 2), keepdim=True) + (~condition["mask"])[..., None])  # type: ignore[operator]


def test_exact_density_of_sets_whatever_their_padding() -> None:
    """It lives in the subspace of sets: neither padding nor what a denoiser says outside of it changes a digit."""
    rows, schedule, grid, results = (0, 1, 4), Cosine(), times(1.0, 0.1), []
    for bed in (SetBed(padded=4), SetBed(padded=7)):
        c, denoiser = bed.condition(rows), Outside(bed.denoiser(schedule))
        shapes = bed._shapes(c)
        z = bed.space.noise(key_of(rows), c)
        x = schedule.alpha(grid[1]) * shapes[:, 1] + 0.3 * z
        got = log_likelihood(denoiser, x, grid, bed.space, c, EXACT, solver=SOLVER)
        truth = set_log_density(x, bed, c, schedule, grid[1])
        torch.testing.assert_close(got.nats, truth, rtol=0, atol=1e-6)
        probes = HutchinsonDivergence(key_of(rows), 2)
        results.append((got.nats, log_likelihood(denoiser, x, grid, bed.space, c, probes).nats))
    for narrow, wide in zip(*results, strict=True):
        torch.testing.assert_close(narrow, wide, rtol=0, atol=1e-9)


def test_the_density_is_that_of_the_samples_where_the_prior_is_not_exact() -> None:
    """On EDM to sigma = 2 the prior N(0, 4) is not the noisy data's law; the ODE's image of it has this density."""
    schedule, s, rows = EDM(2.0), 0.5, 5
    grid = times(1.0, 0.05)
    x = torch.linspace(-1.5, 1.5, rows, dtype=torch.float64)[:, None]
    denoiser = MixtureDenoiser(Mixture((1.0,), ((0.0,),), ((s,),)), schedule)
    got = log_likelihood(denoiser, x, grid, Euclidean((1,)), nothing(rows), EXACT, solver=SOLVER)
    deviation = 2.0 * math.sqrt((s**2 + 0.1**2) / (s**2 + 2.0**2))
    truth = torch.distributions.Normal(0.0, deviation).log_prob(x[:, 0])
    torch.testing.assert_close(got.nats, truth, rtol=0, atol=1e-6)


def by_jacobian(
    denoiser: Denoiser, z: Tensor, grid: Tensor, space: Space, condition: TensorDict
) -> tuple[Tensor, Tensor]:
    """Samples x from noise z (1, d), and their log-density as that of z less log |det dx/dz|: another way there."""

    def ends(start: Tensor) -> Tensor:
        found = sample(denoiser, DOP853(1e-10, 1e-10), grid, space, condition, key_of((0,)), initial=start[None])
        return found[0]  # type: ignore[index,return-value]

    jacobian = torch.autograd.functional.jacobian(ends, z[0])
    prior = -0.5 * (z.square().sum() + z.numel() * math.log(2 * math.pi))
    return ends(z[0])[None], prior - torch.linalg.slogdet(jacobian).logabsdet  # type: ignore[arg-type]


@pytest.mark.parametrize("scale", [1.0, 2.5])
def test_guided_denoisers_have_a_likelihood_too(scale: float) -> None:
    """Guidance makes another ODE, whose density nobody knows in closed form; its Jacobian's determinant does."""
    bed, grid = LabelledBed(guidance=ClassifierFree(scale)), times(1.0, 0.1)
    ledger = Ledger()
    denoiser, c = bed.denoiser(Flow(), ledger), bed.condition((2,))
    z = bed.space.noise(key_of((2,)), c)
    x, truth = by_jacobian(denoiser, z, grid, bed.space, c)
    ledger.calls = ledger.forward = 0
    got = log_likelihood(denoiser, x, grid, bed.space, c, EXACT, solver=SOLVER, ledger=ledger)
    assert float(got.nats) == pytest.approx(float(truth), abs=1e-6)
    assert ledger.forward == ledger.calls * (1 if scale == 1.0 else 2) and ledger.backward == 2 * ledger.forward


def test_hutchinson_is_unbiased_and_knows_its_error() -> None:
    """Errors over their standard errors are standard, and the mean over all rows and probes is exact."""
    rows, schedule, grid = 48, Flow(), times(1.0, 0.05)
    x = noisy(SIXTEEN, schedule, grid[1], rows)
    denoiser, space = MixtureDenoiser(SIXTEEN, schedule), Euclidean((16,))
    probes = HutchinsonDivergence(SampleKey(3, tuple(range(rows))), 16)
    got = log_likelihood(denoiser, x, grid, space, nothing(rows), probes)
    error = got.nats - SIXTEEN.log_density(x, schedule.alpha(grid[1:]), schedule.sigma(grid[1:]))
    z = error / got.standard_error
    assert 0.7 < float(z.std()) < 1.5 and float(z.mean().abs()) < 4 / math.sqrt(rows)
    pooled = float(got.standard_error.square().sum().sqrt()) / rows
    assert abs(float(error.mean())) < 3.5 * pooled and pooled > 1e-3  # there is something to be wrong about


def test_probes_have_no_variance_for_isotropic_data() -> None:
    """dD/dv is then a multiple of the identity, on sets too; one probe is exact and cannot say so."""
    rows, schedule, grid = (0, 1, 2), Flow(), times(1.0, 0.2)
    space = Euclidean((7,))
    x = space.noise(key_of(rows), nothing(3))
    denoiser = MixtureDenoiser(Mixture((1.0,), ((0.0,) * 7,), ((0.4,) * 7,)), schedule)
    truth = log_likelihood(denoiser, x, grid, space, nothing(3), EXACT, solver=SOLVER)
    one = log_likelihood(denoiser, x, grid, space, nothing(3), HutchinsonDivergence(key_of(rows), 1), solver=SOLVER)
    torch.testing.assert_close(one.nats, truth.nats, rtol=0, atol=1e-7)
    assert bool(one.standard_error.isnan().all())


@pytest.mark.parametrize(
    "make", [lambda rows: EXACT, lambda rows: HutchinsonDivergence(key_of(rows), 3)], ids=["exact", "probes"]
)
def test_batch_split_invariance(make: object) -> None:
    schedule, grid, rows = LinearVP(), times(1.0, 0.05), 6
    x = noisy(PLANE, schedule, grid[1], rows)

    def run(samples: tuple[int, ...]) -> Tensor:
        c, denoiser = nothing(len(samples)), MixtureDenoiser(PLANE, schedule)
        divergence = make(samples)  # type: ignore[operator]
        return log_likelihood(denoiser, x[list(samples)], grid, Euclidean((2,)), c, divergence).nats

    whole = run(tuple(range(rows)))
    torch.testing.assert_close(torch.cat([run((0, 1)), run((2,)), run((3, 4, 5))]), whole, rtol=0, atol=1e-9)
    torch.testing.assert_close(run((5, 0, 3)), whole[[5, 0, 3]], rtol=0, atol=1e-9)


def test_named_components_add_up() -> None:
    """Two independent components: the log-density of a TensorDict is the sum of theirs."""
    rows, schedule, grid = (0, 1), Flow(), times(1.0, 0.2)
    bed = SetBed(padded=4)
    c, space = bed.condition(rows), Product({"point": Euclidean((2,)), "set": bed.space})
    parts = {"point": MixtureDenoiser(PLANE, schedule), "set": bed.denoiser(schedule)}

    class Both:
        schedule = Flow()

        def __call__(self, x_t: TensorDict, t: Tensor, condition: TensorDict) -> Prediction:
            clean = {name: part(x_t[name], t, condition).clean for name, part in parts.items()}
            return Prediction(TensorDict(clean, batch_size=x_t.batch_size), x_t, schedule.alpha(t), schedule.sigma(t))

    x = space.noise(key_of(rows), c)
    got = log_likelihood(Both(), x, grid, space, c, EXACT, solver=SOLVER)
    point = PLANE.log_density(x["point"], schedule.alpha(grid[1:]), schedule.sigma(grid[1:]))
    torch.testing.assert_close(
        got.nats, point + set_log_density(x["set"], bed, c, schedule, grid[1]), rtol=0, atol=1e-6
    )


class TinyUNet(nn.Module):
    """Down, up and a skip: what a network of images does to a gradient."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.enter, self.down = nn.Conv2d(2, 8, 3, padding=1), nn.Conv2d(8, 8, 3, stride=2, padding=1)
        self.up, self.leave = nn.ConvTranspose2d(8, 8, 2, stride=2), nn.Conv2d(8, 1, 3, padding=1)

    def forward(self, x_t: Tensor, noise_level: Tensor, condition: TensorDict) -> Tensor:
        level = (noise_level / 1000)[:, None, None, None].expand_as(x_t)
        h = nn.functional.silu(self.enter(torch.cat([x_t, level], 1)))
        return self.leave(h + nn.functional.silu(self.up(self.down(h))))


def test_a_network_of_images() -> None:
    """Float32 weights, whatever the mode around: exact and probed agree, passes are counted, weights untouched."""
    network, space, rows = TinyUNet(), Euclidean((1, 4, 4)), 2
    grid, loose, key = times(1.0, 0.05), RK45(1e-4, 1e-4), SampleKey(0, (0, 1))
    found = []
    for mode in (torch.enable_grad, torch.no_grad, torch.inference_mode):
        ledger = Ledger()
        denoiser = NetworkDenoiser(network, Flow(), V(), space, Angle(), ledger)
        with mode():
            c = nothing(rows)
            x = space.noise(key, c)
            found.append(log_likelihood(denoiser, x, grid, space, c, EXACT, solver=loose, ledger=ledger))
        assert ledger.backward == 16 * ledger.forward > 0 and ledger.samples == rows and ledger.seconds > 0
        assert not found[-1].nats.requires_grad and all(p.grad is None for p in network.parameters())
        assert torch.equal(found[-1].nats, found[0].nats)
    probed = log_likelihood(denoiser, x, grid, space, nothing(rows), HutchinsonDivergence(key, 32), solver=loose)
    assert bool(((found[0].nats - probed.nats).abs() < 4 * probed.standard_error + 1e-2).all())


def test_the_network_agrees_with_its_jacobian() -> None:
    network, space, grid = TinyUNet().double(), Euclidean((1, 2, 2)), times(1.0, 0.05)

    class Doubled(nn.Module):
        def forward(self, x_t: Tensor, noise_level: Tensor, condition: TensorDict) -> Tensor:
            return network(x_t, noise_level.double(), condition)

    denoiser = NetworkDenoiser(Doubled(), Flow(), V(), space, Angle())

    def ends(flat: Tensor) -> Tensor:
        start = flat.reshape(1, 1, 2, 2)
        return sample(denoiser, SOLVER, grid, space, nothing(1), key_of((0,)), initial=start).flatten()  # type: ignore[union-attr]

    z = space.noise(key_of((0,)), nothing(1)).flatten()
    determinant = torch.linalg.slogdet(torch.autograd.functional.jacobian(ends, z)).logabsdet  # type: ignore[arg-type]
    truth = -0.5 * (z.square().sum() + 4 * math.log(2 * math.pi)) - determinant
    x = ends(z).detach().reshape(1, 1, 2, 2)
    got = log_likelihood(denoiser, x, grid, space, nothing(1), EXACT, solver=SOLVER)
    assert float(got.nats) == pytest.approx(float(truth), abs=2e-5)  # the network's noise level is float32


def test_bits_of_uniform_images() -> None:
    """All 256 levels equally likely: 8 bits a dimension, at density 1 / 2 a dimension on [-1, 1]."""
    freedom = times(12.0)
    uniform = Likelihood(-freedom * math.log(2), torch.zeros(1), freedom)
    assert float(uniform.bits_per_dimension(2 / 256)) == pytest.approx(8.0)


def test_bad_input_is_named() -> None:
    denoiser, space = MixtureDenoiser(PLANE, Flow()), Euclidean((2,))
    with pytest.raises(ValueError, match="state with some noise"):
        log_likelihood(denoiser, torch.zeros(1, 2), times(1.0, 0.0), space, nothing(1), EXACT)
    with pytest.raises(ValueError, match="2 rows and the condition 1"):
        log_likelihood(denoiser, torch.zeros(2, 2), times(1.0, 0.1), space, nothing(1), EXACT)

    class Detached(MixtureDenoiser):
        def __call__(self, x_t: Tensor, t: Tensor, condition: TensorDict) -> Prediction:
            return super().__call__(x_t.detach(), t, condition)

    with pytest.raises(ValueError, match="no derivative of its clean mean"):
        log_likelihood(Detached(PLANE, Flow()), torch.zeros(1, 2), times(1.0, 0.1), space, nothing(1), EXACT)
    with pytest.raises(ValueError, match="at least one probe"):
        HutchinsonDivergence(key_of((0,)), 0)
