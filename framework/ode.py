r"""Embedded Runge-Kutta methods with a step size of its own for every row of a batch.

A step from t to t + h with s stages, and with an estimate of its own error, is

    k_i = f(t + c_i h, y + h sum_j a_ij k_j),   y' = y + h sum_i b_i k_i,   error = h sum_i e_i k_i.

It is accepted where the root mean square of error / (atol + rtol max(|y|, |y'|)) is below 1; the next step is h times
0.9 rms^(-1 / (q + 1)), within [0.2, 10] and not above 1 after a rejection, q the order of the estimate (Hairer, Norsett
& Wanner 1993, "Solving Ordinary Differential Equations I", Sections II.4 and II.5). The tables are those of SciPy's
`RK45` (Dormand & Prince 1980) and `DOP853`, and a row alone takes the same steps as in `scipy.integrate.solve_ivp`.

SciPy has one step size for all that it integrates, so that a row of a batch would depend on its neighbours within the
tolerance, and an error in one row would be averaged away by the others. Here each row has its own time, step and error,
as in Lienen & Guennemann 2022 ("torchode", 2210.12375), while f is still asked for all rows at once. Gradients flow
through y and f; the choice of the steps is held fixed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import scipy.integrate
import torch
from torch import Tensor

from framework.errors import UserError

Field = Callable[[Tensor, Tensor], Tensor]
"""f: times (B,) and rows (B, n) to the rows' derivatives (B, n), all float64."""

SAFETY, SHRINK, GROW = 0.9, 0.2, 10.0


@dataclass(frozen=True)
class Tableau:
    """The numbers of a method; `errors` holds e, or two of them of which the second guards the first (DOP853)."""

    order: int
    error_order: int
    a: Sequence[Sequence[float]]
    b: Sequence[float]
    c: Sequence[float]
    errors: Sequence[Sequence[float]]

    @property
    def evaluations(self) -> int:
        """Evaluations in an attempted step: the last stage is the next step's first."""
        return len(self.b)


def _tableau(method: Any, *errors: str) -> Tableau:
    """What SciPy's class of a method holds."""
    return Tableau(
        method.order,
        method.error_estimator_order,
        method.A.tolist(),
        method.B.tolist(),
        method.C.tolist(),
        [getattr(method, name).tolist() for name in errors],
    )


DORMAND_PRINCE = _tableau(scipy.integrate.RK45, "E")
DOP853_TABLEAU = _tableau(scipy.integrate.DOP853, "E5", "E3")


@dataclass(frozen=True)
class Segment:
    """An attempted step of every row: times (B,), rows (B, n) and their derivatives at its start and its end.

    A row whose step was rejected, or which had arrived, ends where it started.
    """

    start: Tensor
    stop: Tensor
    y_start: Tensor
    y_stop: Tensor
    f_start: Tensor
    f_stop: Tensor


def segments(
    field: Field,
    start: float,
    stop: float,
    y: Tensor,
    tableau: Tableau,
    rtol: float,
    atol: float,
    dimensions: Tensor | None = None,
) -> Iterator[Segment]:
    """Integrate y' = f(t, y) from `start` to `stop`; the last segment's `y_stop` is the solution.

    The first segment is the start itself, of no length.

    Args:
        field: see `Field`.
        y: the rows at `start`, float64 (B, n).
        rtol, atol: the tolerances that each row's root mean square error keeps to.
        dimensions: (B,) by how many numbers a row's mean square is divided, where some of them are padding; None is n.

    Raises:
        UserError: no step is short enough for the tolerances: they are too strict, or f is not finite.
    """
    size = torch.full_like(y[:, 0].detach(), y.shape[1]) if dimensions is None else dimensions.to(y).clamp(min=1)

    def rms(rows: Tensor) -> Tensor:
        return (rows.square().sum(1) / size).sqrt()

    direction = 1.0 if stop > start else -1.0
    t = torch.full_like(size, start)
    f = field(t, y)
    yield Segment(t, t, y, y, f, f)
    if start == stop:
        return
    with torch.no_grad():
        step = _first_step(field, t, y, f, stop, tableau.error_order, rtol, atol, rms)
    rejected = torch.zeros_like(t, dtype=torch.bool)
    while bool((t != stop).any()):
        shortest = 10 * (torch.nextafter(t, torch.full_like(t, direction * torch.inf)) - t).abs()
        stuck = (step < shortest) & rejected & (t != stop)
        if bool(stuck.any()):
            where = float(t[stuck][0])
            raise UserError(
                f"no step is short enough for rtol={rtol:g}, atol={atol:g} at {where:.6g} of [{start:.6g}, {stop:.6g}] "
                "(the right-hand side is not finite there, or not smooth to that precision); choose larger tolerances"
            )
        step = torch.maximum(step, shortest)
        ahead = t + direction * step
        ahead = torch.where(direction * (ahead - stop) > 0, stop, ahead)
        h = ahead - t
        new, slopes = attempt(field, t, h, y, f, tableau)
        with torch.no_grad():
            scale = atol + rtol * torch.maximum(y.abs(), new.abs())
            error = h.abs() * _error(slopes, scale, tableau, rms)
        accepted = error < 1
        growth = SAFETY * error ** (-1 / (tableau.error_order + 1))
        most = torch.where(rejected | ~accepted, 1.0, GROW)
        step = h.abs() * torch.minimum(growth.nan_to_num(SHRINK, GROW).clamp(min=SHRINK), most)
        chosen = accepted[:, None]
        arrived = torch.where(accepted, ahead, t)
        y_stop, f_stop = torch.where(chosen, new, y), torch.where(chosen, slopes[-1], f)
        yield Segment(t, arrived, y, y_stop, f, f_stop)
        t, y, f, rejected = arrived, y_stop, f_stop, ~accepted


def _first_step(
    field: Field,
    t: Tensor,
    y: Tensor,
    f: Tensor,
    stop: float,
    error_order: int,
    rtol: float,
    atol: float,
    rms: Callable[[Tensor], Tensor],
) -> Tensor:
    """A length (B,) for which an explicit Euler step tells that the method's error will be small (Hairer, II.4)."""
    length = (stop - t).abs()
    scale = atol + rtol * y.abs()
    size, speed = rms(y / scale), rms(f / scale)
    short = torch.where((size < 1e-5) | (speed < 1e-5), 1e-6, 0.01 * size / speed).minimum(length)
    h = torch.sign(stop - t) * short
    bend = rms((field(t + h, y + h[:, None] * f) - f) / scale) / short
    most = torch.maximum(speed, bend)
    long = torch.where(most <= 1e-15, (1e-3 * short).clamp(min=1e-6), (0.01 / most) ** (1 / (error_order + 1)))
    return torch.minimum(torch.minimum(100 * short, long), length)


def attempt(
    field: Field, t: Tensor, h: Tensor, y: Tensor, f: Tensor, tableau: Tableau
) -> tuple[Tensor, Sequence[Tensor]]:
    """The rows after a step h (B,), and the slopes k_1 ... k_{s+1}, of which the last is at the end."""
    slopes = [f]
    for c, row in zip(tableau.c[1:], tableau.a[1:], strict=True):
        slopes.append(field(t + c * h, y + h[:, None] * _weigh(row, slopes)))
    new = y + h[:, None] * _weigh(tableau.b, slopes)
    slopes.append(field(t + h, new))
    return new, slopes


def _weigh(weights: Sequence[float], slopes: Sequence[Tensor]) -> Tensor:
    """sum_i w_i k_i, a term at a time: a matrix product would round a row differently in different batches."""
    total = torch.zeros_like(slopes[0])
    for weight, slope in zip(weights, slopes, strict=False):
        if weight != 0:
            total = total + weight * slope
    return total


def _error(slopes: Sequence[Tensor], scale: Tensor, tableau: Tableau, rms: Callable[[Tensor], Tensor]) -> Tensor:
    """The scaled error per unit of h (B,); two estimates are joined as in DOP853 (Hairer, II.5, eq. 5.17)."""
    first, *second = (rms(_weigh(e, slopes) / scale) for e in tableau.errors)
    if not second:
        return first
    joined = first**2 / (first**2 + 0.01 * second[0] ** 2).sqrt()
    return torch.where((first == 0) & (second[0] == 0), 0.0, joined)
