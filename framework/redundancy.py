r"""How often the data say the same thing: the factor by which their noise must be larger to hide as much.

Let lambda_1 ... lambda_n be the variances of states along their principal axes. The redundancy is the root mean square
of the amplitudes sqrt(lambda) over their mean,

    s = sqrt(sum lambda / n) / (sum sqrt(lambda) / n)  >=  1    (Cauchy-Schwarz),

and s = sqrt(n / n'), where n' = (sum sqrt(lambda))^2 / sum lambda is the number of axes that the states fill in effect
(Renyi's of order 1/2 of their shares of the variance). White data have s = 1. Where each value is repeated k times
along each of two axes, all variance lies in n / k^2 of the directions, and s = k: averaging the copies divides the
noise by k. That is the shift by resolution, sqrt(m / n) in Esser et al. (arXiv 2403.03206) and a ratio of sides in
Hoogeboom et al. (arXiv 2301.11093), for what repetition does; of real data, which repeat themselves in part, it is
measured.

A covariance of N states of n numbers spreads its eigenvalues, which raises s by about n / (8 N) for white data. The
estimates from all states and from their halves are extrapolated in 1 / N, which leaves the square of that.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from framework.errors import DataError

LARGEST = 1024  # numbers of a state that are looked at: its leading part, halved along its longest axis until it fits
FEWEST = 16  # states


def redundancy(states: Tensor) -> float:
    """s of N states (N, *shape); see the module's docstring.

    Raises:
        DataError: fewer than 16 states, or states that do not vary.
    """
    if len(states) < FEWEST:
        raise DataError(f"the redundancy of data is measured on {FEWEST} states or more, not {len(states)}")
    x = _leading(states).flatten(1).double()
    half = len(x) // 2
    whole, parts = _ratio(x), 0.5 * (_ratio(x[:half]) + _ratio(x[half : 2 * half]))
    return max(2 * whole - parts, 1.0)


def _leading(states: Tensor) -> Tensor:
    """The first part of each state, of at most `LARGEST` numbers."""
    while states[0].numel() > LARGEST:
        axis = max(range(1, states.ndim), key=lambda i: states.shape[i])
        states = states.narrow(axis, 0, -(-states.shape[axis] // 2))
    return states


def _ratio(x: Float[Tensor, "m n"]) -> float:
    """s of the sample covariance."""
    centred = x - x.mean(0)
    small = centred.T @ centred if x.shape[1] <= x.shape[0] else centred @ centred.T  # the same eigenvalues but zeros
    variances = torch.linalg.eigvalsh(small / (len(x) - 1)).clamp(min=0)
    total = float(variances.sum())
    if not total > 0:
        raise DataError("the states do not vary: every one of them is the same")
    return math.sqrt(x.shape[1] * total) / float(variances.sqrt().sum())
