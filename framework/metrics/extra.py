"""Metrics besides those of a modality: any object that judges samples, named in a configuration.

    diffract evaluate run=RUN +metric@metrics.jumps=my_package.Jumps allow=[my_package]

Such a metric takes decoded samples, their prompts, the data module and a seed; it returns one measurement or several by
name. It cannot replace a metric of the modality.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from framework.errors import UserError
from framework.metrics.measurement import Measurement


class SampleMetric(Protocol):
    """The role; see the module's docstring."""

    def __call__(
        self, samples: Any, prompts: Sequence[Any], data: Any, seed: int
    ) -> Measurement | Mapping[str, Measurement]:
        """Measure decoded samples of these prompts."""
        ...


def measured_besides(
    metrics: Mapping[str, SampleMetric], samples: Any, prompts: Sequence[Any], data: Any, seed: int
) -> dict[str, Measurement]:
    """What each metric finds: under its own name, or, of several measurements, `NAME/KEY`.

    Raises:
        UserError: what one returns is no measurement.
    """
    found: dict[str, Measurement] = {}
    for name, metric in metrics.items():
        result = metric(samples, prompts, data, seed)
        rows = (
            {f"{name}/{key}": value for key, value in result.items()} if isinstance(result, Mapping) else {name: result}
        )
        for row, value in rows.items():
            if not isinstance(value, Measurement):
                raise UserError(f"metrics.{name}: {row} is a {type(value).__name__}, not a Measurement")
        found |= rows
    return found
