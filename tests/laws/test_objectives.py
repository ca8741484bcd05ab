"""Objectives: times have their law, errors convert between parametrisations, weights are the published ones."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats
from tensordict import TensorDict
from torch import Tensor, nn

from framework.denoiser import Angle, LogSigma, NetworkDenoiser, TableIndex
from framework.noise import BatchKey
from framework.objectives.distances import MSE, PseudoHuber
from framework.objectives.objective import Objective
from framework.objectives.times import EDMLogNormal, LogitNormal, Stratified, TimeSampler, Uniform
from framework.objectives.weightings import EDM as EDMWeighting
from framework.objectives.weightings import Constant, LearnedVariance, MinSNR, SigmoidWeight
from framework.parametrizations import Data, Epsilon, Flow, Karras, Parametrization, V
from framework.schedules import EDM, Cosine, LinearVP, Schedule
from framework.schedules import Flow as FlowPath
from framework.spaces import Euclidean, Masked, Space

ROWS = 6
QUANTILES = torch.linspace(0.1, 0.9, ROWS, dtype=torch.float64)


class Fixed(nn.Module):
    """A network whose output is a number everywhere."""

    def __init__(self, value: float = 0.3) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.tensor(value))

    def forward(self, x_t: Tensor, noise_level: Tensor, condition: TensorDict) -> Tensor:
        return self.value.expand_as(x_t)


def denoiser(own: Parametrization, schedule: Schedule, space: Space | None = None) -> NetworkDenoiser:
    return NetworkDenoiser(Fixed(), schedule, own, space or Euclidean((4,)), Angle())


def empty(rows: int = ROWS) -> TensorDict:
    return TensorDict({}, batch_size=[rows])


@pytest.mark.parametrize(
    ("sampler", "law"),
    [
        (Uniform(), stats.uniform()),
        (LogitNormal(0.3, 0.8), stats.johnsonsb(-0.3 / 0.8, 1 / 0.8)),
    ],
    ids=["uniform", "logit_normal"],
)
def test_times_have_their_law(sampler: TimeSampler, law: stats.rv_continuous) -> None:
    uniforms = torch.rand(4000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert stats.kstest(sampler(uniforms, FlowPath()).numpy(), law.cdf).pvalue > 1e-3


def test_edm_times_are_log_normal_in_sigma() -> None:
    uniforms = torch.rand(4000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    schedule = EDM(80.0)
    log_sigma = schedule.sigma(EDMLogNormal()(uniforms, schedule)).log()
    assert stats.kstest(log_sigma.numpy(), stats.norm(-1.2, 1.2).cdf).pvalue > 1e-3


def test_stratified_times_are_even_and_each_is_uniform() -> None:
    generator = torch.Generator().manual_seed(0)
    draws = torch.stack(
        [Stratified(Uniform())(torch.rand(8, dtype=torch.float64, generator=generator), FlowPath()) for _ in range(500)]
    )
    torch.testing.assert_close(draws.sort(1).values.diff(dim=1), torch.full((500, 7), 0.125, dtype=torch.float64))
    assert stats.kstest(draws[:, 3].numpy(), "uniform").pvalue > 1e-3


@pytest.mark.parametrize("own", [Data(), V(), Flow(), Karras(0.5), Epsilon()], ids=lambda p: type(p).__name__)
@pytest.mark.parametrize("space", [Data(), V(), Flow(), Karras(0.5), Epsilon()], ids=lambda p: type(p).__name__)
def test_errors_convert_between_spaces(own: Parametrization, space: Parametrization) -> None:
    """The error that the objective reports in `space` is the error of the targets that the prediction implies there."""
    schedule = LinearVP()
    model = denoiser(own, schedule)
    x_0 = torch.randn(ROWS, 4, dtype=torch.float64)
    key = BatchKey(0, 0, 0, ROWS)
    terms = Objective(Uniform(), Constant(), MSE(), space=space, max_gain=1e9)(model, x_0, empty(), key, QUANTILES)
    z = model.space.noise(key.component("noise"), empty())
    alpha, sigma = schedule.alpha(QUANTILES), schedule.sigma(QUANTILES)
    x_t = alpha[:, None] * x_0 + sigma[:, None] * z
    y = torch.full_like(x_t, 0.3)
    implied = space.target(own.clean(x_t, y, alpha, sigma), own.noise(x_t, y, alpha, sigma), alpha, sigma)
    expected = (implied - space.target(x_0, z, alpha, sigma)).square().mean(1)
    torch.testing.assert_close(terms.error.double(), expected, rtol=1e-4, atol=1e-6)


def test_jit_is_data_prediction_with_the_error_of_v() -> None:
    """Li & He 2025: on a variance-preserving path the v error is the x_0 error over sigma, capped."""
    model, x_0, key = denoiser(Data(), Cosine()), torch.randn(ROWS, 4), BatchKey(0, 0, 0, ROWS)
    plain = Objective(Uniform(), Constant(), MSE())(model, x_0, empty(), key, QUANTILES).error
    in_v = Objective(Uniform(), Constant(), MSE(), space=V(), max_gain=2.0)(model, x_0, empty(), key, QUANTILES).error
    gain = (1 / Cosine().sigma(QUANTILES)).clamp(max=2.0)
    torch.testing.assert_close(in_v, plain * gain.square().float())


def weight(weighting: object, log_snr: Tensor) -> Tensor:
    return weighting(torch.ones_like(log_snr), log_snr)  # type: ignore[operator]


def test_published_weights() -> None:
    log_snr = torch.linspace(-8, 8, 17, dtype=torch.float64)
    snr = log_snr.exp()
    torch.testing.assert_close(weight(MinSNR(5.0), log_snr), snr.clamp(max=5.0))
    torch.testing.assert_close(weight(SigmoidWeight(1.0), log_snr), 1 / (1 + torch.exp(log_snr - 1.0)))
    assert MinSNR().space == Data() and SigmoidWeight().space == Epsilon()


def test_edm_weighting_is_its_table_on_the_data_error() -> None:
    """Karras et al. 2022, table 1: (sigma^2 + s^2) / (sigma s)^2 times the squared error of x_0."""
    schedule, s = EDM(80.0), 0.5
    model, key = denoiser(Karras(s), schedule), BatchKey(0, 0, 0, ROWS)
    x_0 = s * torch.randn(ROWS, 4)
    times = schedule.time(-2 * torch.linspace(-4, 3, ROWS, dtype=torch.float64))

    class At:
        def __call__(self, uniforms: Tensor, schedule: Schedule) -> Tensor:
            return times

    loss = Objective(At(), EDMWeighting(s), MSE())(model, x_0, empty(), key).loss
    data_error = Objective(At(), Constant(), MSE(), space=Data(), max_gain=1e9)(model, x_0, empty(), key).error
    sigma = schedule.sigma(times)
    torch.testing.assert_close(loss, data_error * ((sigma**2 + s**2) / (sigma * s) ** 2).float(), rtol=1e-4, atol=1e-6)


def test_learned_variance_finds_the_error_of_each_level() -> None:
    """At its optimum exp(u) is the mean error at that noise level, so the weighted error is one everywhere."""
    torch.manual_seed(0)
    learned = LearnedVariance()
    log_snr = torch.linspace(-6, 6, 64, dtype=torch.float64)
    error = (0.5 * log_snr.float()).exp()
    assert torch.equal(learned(error, log_snr), error)
    optimizer = torch.optim.Adam(learned.parameters(), lr=0.02)
    for _ in range(400):
        optimizer.zero_grad()
        learned(error, log_snr).mean().backward()
        optimizer.step()
    torch.testing.assert_close(learned.log_variance(log_snr), error.log(), rtol=0, atol=0.3)


def test_padding_never_weighs_in_the_loss() -> None:
    """A set alone and the same set padded have the same loss."""
    space = Masked(2)
    narrow = TensorDict({"mask": torch.ones(1, 3, dtype=torch.bool)}, batch_size=[1])
    wide = TensorDict({"mask": torch.arange(7)[None] < 3}, batch_size=[1])
    x_0 = torch.randn(1, 3, 2)
    padded = torch.cat([x_0, torch.zeros(1, 4, 2)], dim=1)
    half = torch.tensor([0.5], dtype=torch.float64)

    class Key:
        """Noise that is a function of the row's place alone."""

        def component(self, name: str) -> Key:
            return self

        def normal(self, shape: tuple[int, ...], like: Tensor) -> Tensor:
            return torch.linspace(-1, 1, 100)[: math.prod(shape)].reshape(1, *shape)

    losses = [
        Objective(Uniform(), Constant(), MSE())(denoiser(V(), Cosine(), space), x, c, Key(), half).loss  # type: ignore[arg-type]
        for x, c in ((x_0, narrow), (padded, wide))
    ]
    torch.testing.assert_close(*losses)


def test_pseudo_huber_is_quadratic_then_linear() -> None:
    d, n = PseudoHuber(c=0.1), torch.tensor([10.0])
    small, large = torch.tensor([1e-3], dtype=torch.float64), torch.tensor([1e6])
    torch.testing.assert_close(d(small, n), small / n / 0.2, rtol=1e-2, atol=0)
    torch.testing.assert_close(d(large, n), (large / n).sqrt() - 0.1, rtol=1e-4, atol=0)


def test_conflicting_spaces_are_refused() -> None:
    with pytest.raises(ValueError, match=r"MinSNR weighs errors in Data.* not in space=V"):
        Objective(Uniform(), MinSNR(), MSE(), space=V())


def test_noise_prediction_without_a_terminal_signal_is_refused() -> None:
    with pytest.raises(ValueError, match="Epsilon prediction does not say what the data is at t = 1 of the Flow"):
        denoiser(Epsilon(), FlowPath())


def test_noise_levels() -> None:
    t = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64)
    torch.testing.assert_close(Angle()(Cosine(), t), 1000 * t)
    torch.testing.assert_close(TableIndex(1000)(LinearVP(), t), 1000 * t - 1)
    torch.testing.assert_close(LogSigma()(EDM(80.0), t[1:]), torch.log(80 * t[1:]) / 4)
