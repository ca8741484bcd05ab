"""Certificates as plain numbers (certify.json) and as a page of the documentation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from framework.certify.certificate import SLACK, Certificate
from framework.certify.check import Check
from framework.certify.slope import Order

HEADINGS = (
    "solver",
    "declares",
    "measured",
    "naive start",
    "evaluations a step",
    "law off by",
    "laws kept",
    "ends",
    "one step",
    "any schedule",
    "certified",
)


def plain_numbers(certificates: Mapping[str, Certificate]) -> dict[str, Any]:
    """What certify.json holds: strict JSON, in which an order without a number (an exact solver's) is null."""
    return {name: _plain(certificate) for name, certificate in sorted(certificates.items())}


def _plain(certificate: Certificate) -> dict[str, Any]:
    measured = certificate.measured
    return {
        "kind": certificate.kind,
        "stochastic": certificate.stochastic,
        "passed": certificate.passed,
        "exact": math.isinf(certificate.declared_order),
        "declared_order": _number(certificate.declared_order),
        "measured_order": _number(measured.value if measured else None),
        "order_low": _number(measured.low if measured else None),
        "order_high": _number(measured.high if measured else None),
        "measured_order_naive_start": _number(certificate.naive.value if certificate.naive else None),
        "declared_evaluations_per_step": certificate.declared_evaluations,
        "evaluations_per_step": _number(certificate.evaluations),
        "checks": {name: _plain_check(check) for name, check in certificate.checks.items()},
        "orders": [
            {"bed": m.bed, "schedule": m.schedule, "grid": m.grid, "start": m.start, **_plain_order(m.order)}
            for m in certificate.measurements
        ],
        "seconds": round(certificate.seconds, 2),
    }


def _plain_check(check: Check) -> dict[str, Any]:
    return {
        "passed": check.passed,
        "detail": check.detail,
        "value": _number(check.value),
        "limit": _number(check.limit),
        "numbers": {name: _number(value) for name, value in check.numbers.items()},
    }


def _plain_order(order: Order) -> dict[str, Any]:
    return {
        "order": _number(order.value),
        "low": _number(order.low),
        "high": _number(order.high),
        "steps": list(order.steps),
        "errors": [_number(error) for error in order.errors],
    }


def _number(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else value


def rows(certificates: Mapping[str, Certificate]) -> list[tuple[str, ...]]:
    """A line for each solver, in the order of HEADINGS."""
    return [(name, *_row(certificate)) for name, certificate in sorted(certificates.items())]


def _row(certificate: Certificate) -> tuple[str, ...]:
    checks = certificate.checks
    laws = [check for name, check in checks.items() if name != "order" and check.passed is not None]
    return (
        _order_words(certificate.declared_order),
        _interval(certificate.measured),
        _order_words(certificate.naive.value) if certificate.naive else "-",
        f"{certificate.evaluations:g}" if math.isfinite(certificate.evaluations) else "its own steps",
        _law_words(checks.get("terminal_law")),
        f"{sum(check.passed is True for check in laws)} of {len(laws)}",
        _yes_or_no(checks.get("ends")),
        _yes_or_no(checks.get("one_step") or checks.get("few_steps")),
        _yes_or_no(checks.get("change_of_schedule"), "no (declared)"),
        "yes" if certificate.passed else "NO: " + ", ".join(n for n, c in checks.items() if c.passed is False),
    )


def _order_words(order: float) -> str:
    if math.isinf(order):
        return "exact" if order > 0 else "diverges"
    return f"{order:g}" if order == round(order, 1) else f"{order:.2f}"


def _interval(order: Order | None) -> str:
    if order is None:
        return "-"
    if math.isinf(order.value):
        return _order_words(order.value)
    return f"{order.value:.2f} [{order.low:.2f}, {order.high:.2f}]"


def _law_words(check: Check | None) -> str:
    """The largest distance of the terminal law that was measured, or the p-value of its samples."""
    if check is None:
        return "-"
    if not check.numbers:
        return f"p = {check.value:.2g}" if check.value is not None else "-"
    errors = [abs(value) for name, value in check.numbers.items() if not name.endswith("standard_error")]
    return f"{max(errors):.3f}"


def _yes_or_no(check: Check | None, otherwise: str = "-") -> str:
    if check is None:
        return "-"
    return {True: "yes", False: "no", None: otherwise}[check.passed]


PAGE = """\
# Certified solvers

Every solver of the configuration tree, measured on problems whose answers are known. This page is written by

```text
diffract certify solver=all table=docs/certified.md
```

and a test fails where it lacks a solver, or where one measures less than it declares.

{table}

What the columns say:

- **declares**: the order of convergence that the solver's class declares: of the endpoint for a deterministic solver,
  of the law for one that draws noise. An exact solver has the data's law at any number of steps.
- **measured**: the slope of log error against log steps as steps are doubled, at the finest, with an interval: the 95 %
  bootstrap over starting points, widened to hold what the slope tends to. Deterministic: the median error to a
  reference solution (DOP853, tolerance 1e-13) on Gaussian data, on mixtures in 2 and 16 dimensions, on masked sets with
  their centre of mass at zero, under classifier-free guidance of scale 2, and given a linear observation; the lowest of
  these counts. Methods with a memory start exactly. Stochastic: the 2-Wasserstein distance of the terminal law to the
  exact one on the worst of five Gaussian data, from the exact recursion of mean and variance, so without Monte Carlo.
  Categorical: the total variation of the exact law on 2- and 3-state chains. Product: the computed law of a label and
  its point. Adaptive: error against evaluations as the tolerance falls.
- **naive start**: the same from the solver's own first steps, begun midway at a noise-to-signal ratio of 2, where their
  lower order is felt. From pure noise it hardly is. A one-step method has no other start.
- **evaluations a step**: counted, away from the ends.
- **law off by**: the largest error of a mean, a deviation, a weight or the mean log density of 2048 samples of the
  plane mixture after 100 steps (standard errors are about 0.013, and 0.02 nat); for tokens, the p-value of Pearson's
  chi-squared of 8192 samples; for a label and its point, the largest error of 8192 samples.
- **laws kept**: batch split, seed, threads, duplicate times refused, input kept, few steps, point mass, evaluations,
  padding, change of schedule, ends, one step, guidance, terminal law, observation; as many of them as apply.
- **ends**: finite from alpha = 0 and to sigma = 0 on every schedule, with an error that falls with the steps.
- **one step**: one step from end to end is finite.
- **any schedule**: the same noise-to-signal ratios on another schedule give the same samples. A solver that is made in
  its schedule's own time declares that they do not.
- **certified**: the measured order is at least the declared one less {slack}, the interval's lower end at least that
  less {slack} again, and no law is broken.

`certify.json` beside the table holds every number: each bed's orders with steps and errors, and each law's finding. In
Python: `from framework.certify.certificate import certify; certify(MySolver())`.
"""


def markdown(certificates: Mapping[str, Certificate]) -> str:
    """The page docs/certified.md."""
    lines = ["| " + " | ".join(HEADINGS) + " |", "|" + "---|" * len(HEADINGS)]
    lines += ["| " + " | ".join((f"`{row[0]}`", *row[1:])) + " |" for row in rows(certificates)]
    return PAGE.format(table="\n".join(lines), slack=SLACK)
