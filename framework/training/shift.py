"""`schedule.shift=auto`: the shift of a run's schedule as its data ask for it, measured before it begins.

It is the redundancy of the states that the network will see, pixels or latents, and is written into the run's
configuration as a number.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from framework.build import Allow, build
from framework.errors import UserError
from framework.modality import Modality
from framework.posterior import Posterior
from framework.redundancy import redundancy
from framework.spaces import Masked, Space
from framework.state import Condition

AUTO = "auto"
STATES = 4096  # training states that it is measured on
DIGITS = 3


def is_auto(config: Mapping[str, Any]) -> bool:
    """Whether a run's schedule has a shift that is to be measured."""
    return (config.get("schedule") or {}).get("shift") == AUTO


@torch.no_grad()
def measured_shift(config: Mapping[str, Any], allow: Allow, batches: Any) -> float:
    """The redundancy of up to `STATES` training states.

    Args:
        config: of the run, adapted to the data.
        allow: what its `_target_`s may name.
        batches: the loader of training batches, of data or encoded already; each item is read once.

    Raises:
        UserError: states that are not one tensor each.
        DataError: too few of them, or they do not vary.
    """
    modality: Modality = build(config["modality"], allow)
    states, conditions, left = [], [], min(STATES, len(batches.dataset))
    for batch in batches:
        posterior = batch if isinstance(batch, Posterior) else modality.posterior(batch)
        if not isinstance(posterior.mean, Tensor):
            raise UserError("schedule.shift=auto measures states that are one tensor each; give a number")
        states.append(posterior.mean[:left].cpu())
        conditions.append(posterior.condition[:left].cpu())
        left -= len(states[-1])
        if left <= 0:
            break
    return round(redundancy(real_part(states, conditions, modality.space)), DIGITS)


def real_part(states: list[Tensor], conditions: list[Condition], space: Space) -> Tensor:
    """States as one tensor without padding: of rows as many as half of the states have, of those that have them."""
    if not isinstance(space, Masked):
        return torch.cat(states)
    lengths = torch.cat([_lengths(condition[space.mask]) for condition in conditions])
    rows = max(int(lengths.median()), 1)
    return torch.cat([x[:, :rows] for x in states])[lengths >= rows]


def _lengths(mask: Tensor) -> Tensor:
    if mask.ndim != 2:
        raise UserError("schedule.shift=auto measures rows of one axis; give a number")
    return mask.sum(1)
