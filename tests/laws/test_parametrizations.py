"""Parametrisations: every pair, every schedule, every time, the ends included."""

from __future__ import annotations

import itertools

import pytest
import torch

from framework.parametrizations import Data, Epsilon, Flow, Karras, Parametrization, Score, V
from framework.schedules import Schedule
from tests.laws.test_schedules import SCHEDULES

ALL: list[Parametrization] = [Epsilon(), Data(), V(), Flow(), Score(), Karras(0.5)]
TIMES = torch.tensor([1e-9, 1e-4, 0.01, 0.3, 0.5, 0.9, 1 - 1e-9], dtype=torch.float64)


def names(p: object) -> str:
    return type(p).__name__


def pair_of_states(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(n, 5, dtype=torch.float64, generator=generator) for _ in range(2))  # type: ignore[return-value]


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES.keys())
@pytest.mark.parametrize(("one", "other"), list(itertools.product(ALL, ALL)), ids=names)
def test_conversion_between_every_pair(one: Parametrization, other: Parametrization, schedule: Schedule) -> None:
    """A target of one kind, read as data and noise, makes the target of the other kind that the data itself makes.

    What is lost is conditioning alone: an error of 1e-16 in the target is multiplied by (|q| + |sigma|) / |d|.
    """
    clean, noise = pair_of_states(len(TIMES))
    alpha, sigma = schedule.alpha(TIMES), schedule.sigma(TIMES)
    x_t = alpha[:, None] * clean + sigma[:, None] * noise
    y = one.target(clean, noise, alpha, sigma)
    via = other.target(one.clean(x_t, y, alpha, sigma), one.noise(x_t, y, alpha, sigma), alpha, sigma)
    p, q = one.pair(alpha, sigma)
    p_other, q_other = other.pair(alpha, sigma)
    size = (abs(q) + abs(p) + alpha + sigma) * (1 + abs(y).amax(1)) / abs(one.determinant(alpha, sigma))
    bound = 1e-14 * (1 + size) * (1 + abs(p_other) + abs(q_other))
    assert bool(((via - other.target(clean, noise, alpha, sigma)).abs().amax(1) <= bound).all())


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES.keys())
@pytest.mark.parametrize("parametrization", ALL, ids=names)
@pytest.mark.parametrize("end", [0.0, 1.0])
def test_both_ends(parametrization: Parametrization, schedule: Schedule, end: float) -> None:
    """At an exact end the data comes back, unless the determinant says that it cannot."""
    t = torch.full((3,), end, dtype=torch.float64)
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    if bool((parametrization.determinant(alpha, sigma) == 0).any()) and not isinstance(parametrization, Data):
        pytest.skip("the pair (x_t, y) does not determine the data here")
    if not bool(torch.isfinite(torch.stack(parametrization.pair(alpha, sigma))).all()):
        pytest.skip("the target itself is infinite here")
    clean, noise = pair_of_states(3)
    x_t = alpha[:, None] * clean + sigma[:, None] * noise
    y = parametrization.target(clean, noise, alpha, sigma)
    torch.testing.assert_close(parametrization.clean(x_t, y, alpha, sigma), clean, rtol=1e-9, atol=1e-9)


def test_karras_is_edm_on_edms_schedule() -> None:
    """c_skip, c_out and c_in of Karras et al. 2022, table 1."""
    sigma, s = torch.tensor([0.002, 0.5, 80.0], dtype=torch.float64), 0.5
    x, f = torch.randn(3, 4, dtype=torch.float64), torch.randn(3, 4, dtype=torch.float64)
    skip, out = s**2 / (sigma**2 + s**2), sigma * s / (sigma**2 + s**2).sqrt()
    karras, ones = Karras(s), torch.ones(3, dtype=torch.float64)
    torch.testing.assert_close(karras.clean(x, f, ones, sigma), skip[:, None] * x + out[:, None] * f)
    torch.testing.assert_close(karras.input_scale(ones, sigma), 1 / (sigma**2 + s**2).sqrt())


def test_karras_target_has_unit_variance_on_every_schedule() -> None:
    for schedule in SCHEDULES.values():
        alpha, sigma = schedule.alpha(TIMES), schedule.sigma(TIMES)
        p, q = Karras(0.7).pair(alpha, sigma)
        torch.testing.assert_close((0.7 * p) ** 2 + q**2, torch.ones_like(p))
        variance = (alpha * 0.7) ** 2 + sigma**2
        torch.testing.assert_close(Karras(0.7).input_scale(alpha, sigma) ** 2 * variance, torch.ones_like(p))
