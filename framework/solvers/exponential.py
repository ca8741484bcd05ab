r"""The integrals of exponential integrators, exact to rounding, in the two predictions in which papers write them.

With lambda = log(alpha / sigma), h = lambda_s - lambda_t and theta = (lambda - lambda_t) / h the probability-flow ODE
has the exact solutions (Lu et al. 2022, arXiv:2206.00927, eq. 3.4; arXiv:2211.01095, Proposition 4.1)

    noise   x_s = (alpha_s / alpha_t) x_t - alpha_s int e^{-lambda} z(lambda) d lambda,
    data    x_s = (sigma_s / sigma_t) x_t + sigma_s int e^{lambda} D(lambda) d lambda.

Where the prediction is a polynomial in theta, each power integrates to a phi function (Hochbruck & Ostermann 2010):

    int_0^1 theta^k / k! e^{(1 - theta) z} d theta = phi_{k+1}(z),     phi_{k+1}(z) = (phi_k(z) - 1 / k!) / z,

with z = h for noise, z = -h for data. The recurrence loses digits where z is small; there the power series is summed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from framework.solvers.plan import Node
from framework.solvers.walk import Form


def phi(k: int, z: float) -> float:
    """phi_k(z) for k >= 1, to a few units in the last place for k <= 5."""
    if abs(z) < 2:
        term = total = 1 / math.factorial(k)
        n = 0
        while abs(term) > 1e-18 * total:
            n += 1
            term *= z / (n + k)
            total += term
        return total
    value = math.expm1(z) / z
    for j in range(1, k):
        value = (value - 1 / math.factorial(j)) / z
    return value


def lagrange(points: Sequence[float]) -> list[list[float]]:
    """The coefficients of 1, x, x^2, ... of the polynomials L_j that are 1 at point j and 0 at the others."""
    polynomials = []
    for j, own in enumerate(points):
        coefficients = [1.0]
        for m, other in enumerate(points):
            if m != j:
                shifted = [0.0, *coefficients]
                constant = [-other * c for c in coefficients] + [0.0]
                coefficients = [(a + b) / (own - other) for a, b in zip(shifted, constant, strict=True)]
        polynomials.append(coefficients)
    return polynomials


def interpolation_weights(points: Sequence[float], moments: Sequence[float]) -> list[float]:
    """The integral of each L_j, given the integrals of 1, x, x^2, ...; as many moments as points, or more."""
    return [sum(c * m for c, m in zip(row, moments, strict=False)) for row in lagrange(points)]


class PredictionKind(Protocol):
    """Which prediction is interpolated, and what the exact solution then does with it."""

    def of(self, node: Node, x: Form, clean: Form) -> Form:
        """The prediction at a state x whose clean mean is `clean`."""
        ...

    def kept(self, t: Node, s: Node) -> float:
        """The factor with which the state is kept from t to s."""
        ...

    def exponent(self, t: Node, s: Node) -> float:
        """z, the argument of the phi functions."""
        ...

    def scale(self, t: Node, s: Node) -> float:
        """What multiplies them."""
        ...

    def whole(self, t: Node, s: Node) -> float:
        """scale * phi_1(z), the weight of a prediction that does not change; to sigma = 0 too."""
        ...


@dataclass(frozen=True)
class NoisePrediction:
    """z = (x - alpha D) / sigma, as in DPM-Solver and DEIS."""

    def of(self, node: Node, x: Form, clean: Form) -> Form:
        return (x - node.alpha * clean) / node.sigma

    def kept(self, t: Node, s: Node) -> float:
        return s.alpha / t.alpha

    def exponent(self, t: Node, s: Node) -> float:
        return s.log_ratio - t.log_ratio

    def scale(self, t: Node, s: Node) -> float:
        return -s.sigma * (s.log_ratio - t.log_ratio)

    def whole(self, t: Node, s: Node) -> float:
        return -s.alpha * t.ratio if s.sigma == 0 else -s.sigma * math.expm1(s.log_ratio - t.log_ratio)


@dataclass(frozen=True)
class DataPrediction:
    """D itself, as in DPM-Solver++ and UniPC."""

    def of(self, node: Node, x: Form, clean: Form) -> Form:
        return clean

    def kept(self, t: Node, s: Node) -> float:
        return s.sigma / t.sigma

    def exponent(self, t: Node, s: Node) -> float:
        return t.log_ratio - s.log_ratio

    def scale(self, t: Node, s: Node) -> float:
        return s.alpha * (s.log_ratio - t.log_ratio)

    def whole(self, t: Node, s: Node) -> float:
        return -s.alpha * math.expm1(t.log_ratio - s.log_ratio)


def power(kind: PredictionKind, k: int, t: Node, s: Node) -> float:
    """The contribution of a prediction that goes as theta^k."""
    return kind.scale(t, s) * math.factorial(k) * phi(k + 1, kind.exponent(t, s))


def fractions(t: Node, s: Node, nodes: Sequence[Node]) -> list[float]:
    """theta at each node: 0 at t, 1 at s, negative before t."""
    h = s.log_ratio - t.log_ratio
    return [(node.log_ratio - t.log_ratio) / h for node in nodes]


def exact_weights(kind: PredictionKind, t: Node, s: Node, nodes: Sequence[Node]) -> list[float]:
    """What the predictions at the nodes weigh in the step from t to s if their polynomial in lambda is integrated."""
    return interpolation_weights(fractions(t, s, nodes), [power(kind, k, t, s) for k in range(len(nodes))])


def smooth(t: Node, s: Node) -> bool:
    """Whether lambda is finite at both ends of the step, so that it has a length in lambda."""
    return t.alpha > 0 and s.sigma > 0
