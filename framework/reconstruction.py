"""An autoencoder is judged by what it gives back of data that it was not trained on."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from tensordict import TensorDict

from framework.errors import DataError
from framework.metrics.measurement import Measurement
from framework.modality import Modality
from framework.state import Condition, State, batch_size, concatenate, device_of

if TYPE_CHECKING:
    from framework.latents import Autoencoder

SHEET = 32  # originals on the sheet


@torch.no_grad()
def evaluate_autoencoder(
    model: Autoencoder,
    data: Any,
    n: int,
    folder: Path,
    *,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> tuple[dict[str, Measurement], Path]:
    """What the modality measures of up to `n` held-out items and their reconstructions, and a sheet of both.

    Raises:
        DataError: there are no held-out items.
    """
    originals: list[State] = []
    backs: list[State] = []
    conditions: list[Condition] = []
    done = 0
    for batch in data.val_dataloader():
        x, condition = model.modality.encode(batch)
        rows = min(n - done, batch_size(x))
        x, condition = x[:rows].to(model.device), condition[:rows].to(model.device)
        originals.append(x.cpu())
        backs.append(model.reconstruct(x, condition).cpu())
        conditions.append(condition.cpu())
        done += rows
        if progress is not None:
            progress(done)
        if done >= n:
            break
    if not done:
        raise DataError("the data hold no validation items to reconstruct")
    x, back, known = concatenate(originals), concatenate(backs), concatenate(conditions)
    assert isinstance(known, TensorDict)
    metrics = model.modality.reconstruction(x, back, known, data, seed)
    few = slice(0, SHEET)
    return metrics, save_sheet(model.modality, x[few], back[few], known[few], folder)[-1]


def save_sheet(
    modality: Modality, original: State, reconstructed: State, condition: Condition, folder: Path
) -> list[Path]:
    """Originals, and below each row of them their reconstructions, as the modality renders; the picture is last."""
    condition = condition.to(device_of(original))
    pairs = [modality.decode(states, condition) for states in (original, reconstructed)]
    count = batch_size(original)
    columns = max(2 * math.floor(math.sqrt(2 * count) / 2), 1)  # a sheet is as wide as it is high
    parts, names = [], []
    for start in range(0, columns * (columns // 2) or 1, columns):
        for name, samples in zip(("original", "reconstruction"), pairs, strict=True):
            row = samples[start : start + columns]
            parts.append(row)
            names += [f"{name} {start + i}" for i in range(len(row))]
    folder.mkdir(parents=True, exist_ok=True)
    return modality.render(modality.join(parts), names, folder, [{"shows": name} for name in names])
