"""Schedules: ends, monotony, inverse, derivatives, published values, and the path that a shift keeps."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from framework.schedules import (
    EDM,
    VE,
    Cosine,
    DDPMBetas,
    Flow,
    LinearVP,
    Schedule,
    Shifted,
    Sigmoid,
    TabulatedBetas,
    as_times,
)

SCHEDULES: dict[str, Schedule] = {
    "linear_vp": LinearVP(),
    "cosine": Cosine(),
    "sigmoid": Sigmoid(),
    "ve": VE(),
    "edm": EDM(),
    "flow": Flow(),
    "ddpm": DDPMBetas(),
    "shifted_flow": Shifted(Flow(), 3.0),
    "shifted_cosine": Shifted(Cosine(), 0.5),
    "shifted_vp": Shifted(LinearVP(), 2.0),
}
everywhere = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES.keys())
INNER = torch.linspace(0.003, 0.997, 331, dtype=torch.float64)


@everywhere
def test_time_zero_is_the_data(schedule: Schedule) -> None:
    zero = as_times(0.0)
    assert float(schedule.alpha(zero)) == pytest.approx(1.0, abs=1e-15)
    assert float(schedule.sigma(zero)) == pytest.approx(0.0, abs=1e-15)


@everywhere
def test_log_snr_falls_strictly_and_agrees_with_alpha_and_sigma(schedule: Schedule) -> None:
    log_snr = schedule.log_snr(INNER)
    assert bool((log_snr.diff() < 0).all())
    ratio = 2 * (schedule.alpha(INNER).log() - schedule.sigma(INNER).log())
    torch.testing.assert_close(log_snr, ratio, rtol=1e-9, atol=1e-9)


@everywhere
def test_both_at_once_are_alpha_and_sigma(schedule: Schedule) -> None:
    alpha, sigma = schedule.alpha_sigma(INNER)
    assert torch.equal(alpha, schedule.alpha(INNER)) and torch.equal(sigma, schedule.sigma(INNER))


@everywhere
def test_time_inverts_log_snr(schedule: Schedule) -> None:
    torch.testing.assert_close(schedule.time(schedule.log_snr(INNER)), INNER, rtol=1e-9, atol=1e-10)


@everywhere
def test_derivatives_match_central_differences(schedule: Schedule) -> None:
    h = 1e-6
    knots = len(schedule.betas) if isinstance(schedule, TabulatedBetas) else 0
    t = INNER if not knots else (torch.arange(1, knots, 7, dtype=torch.float64) + 0.5) / knots
    for value, derivative in ((schedule.alpha, schedule.d_alpha), (schedule.sigma, schedule.d_sigma)):
        numeric = (value(t + h) - value(t - h)) / (2 * h)
        torch.testing.assert_close(derivative(t), numeric, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("name", ["cosine", "sigmoid", "flow", "shifted_flow", "shifted_cosine"])
def test_alpha_is_exactly_zero_at_the_end(name: str) -> None:
    schedule = SCHEDULES[name]
    assert float(schedule.alpha(as_times(1.0))) == 0.0
    assert schedule.zero_terminal_snr
    assert float(schedule.log_snr(as_times(1.0))) == -math.inf


@pytest.mark.parametrize("name", ["linear_vp", "cosine", "sigmoid", "ddpm", "shifted_vp", "shifted_cosine"])
def test_variance_is_preserved(name: str) -> None:
    schedule = SCHEDULES[name]
    total = schedule.alpha(INNER) ** 2 + schedule.sigma(INNER) ** 2
    torch.testing.assert_close(total, torch.ones_like(INNER), rtol=0, atol=1e-12)


def test_ddpm_table_matches_the_products_of_its_paper() -> None:
    """alpha_bar_k is the product of 1 - beta up to k (Ho et al. 2020), computed here with numpy alone."""
    products = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))
    k = np.array([1, 10, 250, 999, 1000])
    alpha = DDPMBetas().alpha(torch.from_numpy(k / 1000))
    np.testing.assert_allclose(alpha.numpy() ** 2, products[k - 1], rtol=1e-10)


def test_ddpm_table_approaches_its_continuous_limit() -> None:
    fine = TabulatedBetas((1e-5 * (0.1 + 19.9 * (torch.arange(100_000) + 0.5).double() / 1e5)).tolist())
    torch.testing.assert_close(fine.log_alpha(INNER), LinearVP().log_alpha(INNER), rtol=2e-4, atol=1e-6)


def test_ve_is_the_solution_of_its_sde() -> None:
    """d sigma^2 / dt equals g(t)^2 = 2 log(smax / smin) smin^2 (smax / smin)^(2 t)."""
    ve = VE(0.02, 30.0)
    growth = 2 * ve.sigma(INNER) * ve.d_sigma(INNER)
    rate = 2 * math.log(30.0 / 0.02)
    torch.testing.assert_close(growth, rate * (0.02 * (30.0 / 0.02) ** INNER) ** 2)


def test_shift_of_flow_is_the_published_formula() -> None:
    torch.testing.assert_close(Shifted(Flow(), 3.0).sigma(INNER), 3 * INNER / (1 + 2 * INNER), rtol=1e-12, atol=0)


@pytest.mark.parametrize("bad", [[], [0.0, 0.1], [0.5, 1.1], [1.0, 0.5], [[0.1]]])
def test_tables_with_impossible_betas_are_refused(bad: list[float]) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        TabulatedBetas(bad)
