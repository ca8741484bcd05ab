"""Tables of betas by name, the grids on their levels, and clipping."""

from __future__ import annotations

import math

import pytest
import torch
from tensordict import TensorDict

from framework.betas import CosineBetas, LinearBetas, NamedBetas, ScaledLinearBetas, SigmoidBetas, ZeroTerminal
from framework.certify.gaussian_mixture import PLANE, MixtureDenoiser
from framework.clipping import Clip, DynamicThreshold
from framework.errors import UserError
from framework.grids.levels import (
    BetaCurve,
    Crash,
    Curve,
    ExponentialCurve,
    FlowLevels,
    KarrasCurve,
    LeadingStride,
    LeadingStrideWithoutLast,
    Linspace,
    LinspaceWithoutLast,
    Rounded,
    Spacing,
    TableLevels,
    TrailingStride,
)
from framework.schedules import Cosine, DDPMBetas, Flow, LinearVP, as_times

TABLES: dict[str, NamedBetas] = {
    "linear": LinearBetas(),
    "scaled_linear": ScaledLinearBetas(),
    "cosine": CosineBetas(),
    "sigmoid": SigmoidBetas(),
    "zero_terminal": ZeroTerminal(ScaledLinearBetas()),
    "almost_zero": ZeroTerminal(ScaledLinearBetas(), floor=2.0**-24),
}
LAST_STEP = torch.tensor([0.9991, 0.9995, 0.9999], dtype=torch.float64)


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES.keys())
def test_named_tables_are_schedules(table: NamedBetas) -> None:
    inner = torch.linspace(0.001, 0.9999, 501, dtype=torch.float64)
    log_snr = table.log_snr(inner)
    assert bool((log_snr.diff() < 0).all())
    torch.testing.assert_close(table.time(log_snr), inner, rtol=1e-12, atol=1e-12)
    h = 1e-7
    for value, slope in ((table.alpha, table.d_alpha), (table.sigma, table.d_sigma)):
        difference = (value(LAST_STEP + h) - value(LAST_STEP - h)) / (2 * h)
        torch.testing.assert_close(slope(LAST_STEP), difference, rtol=1e-4, atol=1e-7)


def test_ends_of_the_named_tables() -> None:
    assert ScaledLinearBetas().betas[0] == pytest.approx(0.00085) and ScaledLinearBetas().betas[-1] == pytest.approx(
        0.012
    )
    assert LinearBetas().betas == DDPMBetas().betas
    assert SigmoidBetas(beta_start=0.1, beta_end=0.3).betas[0] == pytest.approx(0.1 + 0.2 / (1 + math.exp(6)))
    k = torch.tensor(0.5, dtype=torch.float64)
    squared = (torch.cos((k + 0.008) / 1.008 * math.pi / 2) / math.cos(0.008 / 1.008 * math.pi / 2)) ** 2
    assert float(CosineBetas().alpha(k) ** 2) == pytest.approx(float(squared), rel=1e-9)
    assert max(CosineBetas().betas) == 0.999


def test_zero_terminal_keeps_the_first_level_and_loses_the_last() -> None:
    base, table = ScaledLinearBetas(), ZeroTerminal(ScaledLinearBetas())
    assert float(table.alpha(as_times(0.001))) == pytest.approx(float(base.alpha(as_times(0.001))), rel=1e-12)
    assert float(table.alpha(as_times(1.0))) == 0.0 and table.zero_terminal_snr
    levels = torch.arange(1, 1001, dtype=torch.float64) / 1000
    before, after = base.alpha(levels[:-1]), table.alpha(levels[:-1])
    ratio = after / (before - float(base.alpha(as_times(1.0))))
    torch.testing.assert_close(ratio, ratio[:1].expand_as(ratio), rtol=1e-9, atol=0)


SPACINGS: dict[str, tuple[Spacing, list[float]]] = {
    "linspace": (Linspace(), [10, 7.75, 5.5, 3.25, 1]),
    "without last": (LinspaceWithoutLast(), [10, 8.2, 6.4, 4.6, 2.8]),
    "leading": (LeadingStride(), [9, 7, 5, 3, 1]),
    "leading, moved": (LeadingStride(1), [10, 8, 6, 4, 2]),
    "leading without last": (LeadingStrideWithoutLast(), [6, 5, 4, 3, 2]),
    "trailing": (TrailingStride(), [10, 8, 6, 4, 2]),
    "rounded": (Rounded(Linspace()), [10, 8, 5, 3, 1]),
}


@pytest.mark.parametrize(("spacing", "levels"), SPACINGS.values(), ids=SPACINGS.keys())
def test_spacings(spacing: Spacing, levels: list[float]) -> None:
    got = spacing(10, 1, 5)
    assert got.tolist() == pytest.approx(levels)
    table = LinearBetas(10)
    times = TableLevels(10, spacing)(table, 5)
    assert len(times) == 6 and float(times[-1]) == 0
    whole = got == got.round()
    torch.testing.assert_close(times[:-1][whole] * 10, got[whole])


@pytest.mark.parametrize("curve", [KarrasCurve(), ExponentialCurve(), BetaCurve()])
def test_curves_run_from_end_to_end(curve: Curve) -> None:
    ratios = curve(14.0, 0.03, 20)
    assert bool((ratios.diff() < 0).all())
    assert ratios[[0, -1]].tolist() == pytest.approx([14.0, 0.03])
    table = ScaledLinearBetas()
    times = TableLevels(curve=curve)(table, 20)
    assert float(times[0]) == pytest.approx(1.0) and float(times[-2]) == pytest.approx(0.001) and float(times[-1]) == 0


def test_between_levels_the_ratio_is_linear() -> None:
    table = LinearBetas(10)
    u = torch.exp(-0.5 * table.log_snr(torch.tensor([0.7, 0.8], dtype=torch.float64)))
    time = TableLevels(10)(table, 5)[1]  # level 7.75
    assert float(torch.exp(-0.5 * table.log_snr(time))) == pytest.approx(float(u[0] + 0.75 * (u[1] - u[0])))


@pytest.mark.parametrize("curve", [None, KarrasCurve()])
def test_a_run_to_the_first_level_has_as_many_steps(curve: Curve | None) -> None:
    times = TableLevels(curve=curve, end=1)(ScaledLinearBetas(), 7)
    assert len(times) == 8 and float(times[-1]) == 0.001


def test_bad_levels_are_named() -> None:
    with pytest.raises(UserError, match="ends at level 0"):
        TableLevels(end=2)
    with pytest.raises(UserError, match="no level 1001"):
        TableLevels(highest=1001)
    with pytest.raises(UserError, match="choose 1 to 10"):
        TableLevels(10)(LinearBetas(10), 11)


def test_flow_levels() -> None:
    times = FlowLevels(low=0.25, shift=3.0)(Flow(), 4)
    assert times.tolist() == pytest.approx([1.0, 0.9, 0.75, 0.5, 0.0])
    stretched = FlowLevels(low=0.25, shift=3.0, terminal=0.1)(Flow(), 4)
    assert stretched.tolist() == pytest.approx([1.0, 1 - 0.1 * 1.8, 1 - 0.25 * 1.8, 0.1, 0.0])


def test_crash_is_even_in_the_root_of_sigma() -> None:
    sigma = Cosine().sigma(Crash()(Cosine(), 8))
    torch.testing.assert_close(torch.asin(sigma.sqrt()), torch.linspace(math.pi / 2, 0, 9, dtype=torch.float64))


def test_clipping_changes_the_clean_mean_alone() -> None:
    schedule, rows = LinearVP(), TensorDict({}, batch_size=[32])
    plain = MixtureDenoiser(PLANE, schedule)
    x = torch.randn(32, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    t = torch.full((32,), 0.3, dtype=torch.float64)
    for clipping, most in ((Clip(0.5), 0.5), (DynamicThreshold(0.5), 1.0)):
        clipped, before = clipping(plain), plain(x, t, rows)
        after = clipped(x, t, rows)
        assert float(after.clean.abs().max()) <= most < float(before.clean.abs().max())
        assert clipped.schedule is schedule and after.x_t is x
        alpha, sigma = float(schedule.alpha(t[0])), float(schedule.sigma(t[0]))
        torch.testing.assert_close(alpha * after.clean + sigma * after.noise, x)
    with pytest.raises(UserError, match="positive limit"):
        Clip(0.0)


def test_dynamic_thresholding_scales_by_each_sample() -> None:
    clean = torch.tensor([[0.5, -0.2], [2.0, -4.0], [8.0, 1.0]], dtype=torch.float64)
    got = DynamicThreshold(quantile=1.0, maximum=5.0).change(clean)
    torch.testing.assert_close(got, torch.tensor([[0.5, -0.2], [0.5, -1.0], [1.0, 0.2]], dtype=torch.float64))
