"""A judge of properties: a small invariant network that is trained on real molecules the generator never saw.

    h_i = embedding(element) + embedding(charge)
    h_i <- h_i + MLP(1/10 sum_j  W norm(h_j) * filter(rbf(d_ij), bond_ij) * cutoff(d_ij))      four times
    y = MLP(mean_i h_i, log N) * deviation + mean

A continuous-filter convolution after SchNet (Schuett et al. 2017, arXiv:1706.08566) that also sees the bonds. It takes
distances alone, so rotations, reflections and translations change nothing, and it is symmetric in the atoms.

Errors are comparable only by the same judge: it is trained once for some molecules, and cached under a hash of them.
"""

from __future__ import annotations

import hashlib
import json
import math
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from safetensors import SafetensorError
from safetensors.torch import load as parse_safetensors
from safetensors.torch import save as format_safetensors
from torch import Tensor, nn
from torch.nn import functional as F

from framework.errors import DataError
from framework.files import write_atomically
from framework.metrics.feature_net import cache_folder
from modalities.molecules.metrics.parallel import Progress
from modalities.molecules.molecule import Molecule

# Part of the cache's key: raise it with any change of the network or its training.
VERSION = 1
STEPS, BATCH, LEARNING_RATE, WEIGHT_DECAY = 2000, 64, 2e-3, 1e-2
WIDTH, LAYERS = 72, 4
ELEMENTS, MOST_CHARGE, ORDERS = 119, 3, 4
RADIAL, REACH = 32, 8.0  # functions of the distance, and Angstrom beyond which atoms do not meet
POOL = 16  # batches that are drawn at once and sorted by size, so that little of them is padding


class Regressor(nn.Module):
    """Predicts a property of molecules; in evaluation mode outside of `train_regressor`."""

    mean: Tensor
    deviation: Tensor
    centres: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.element = nn.Embedding(ELEMENTS, WIDTH)
        self.charge = nn.Embedding(2 * MOST_CHARGE + 1, WIDTH)
        self.layers = nn.ModuleList(_Interaction() for _ in range(LAYERS))
        self.head = nn.Sequential(nn.Linear(WIDTH + 1, WIDTH), nn.SiLU(), nn.Linear(WIDTH, 1))
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("deviation", torch.ones(()))
        self.register_buffer("centres", torch.linspace(0, REACH, RADIAL), persistent=False)

    def forward(
        self,
        elements: Int64[Tensor, "b n"],
        charges: Int64[Tensor, "b n"],
        bonds: Int64[Tensor, "b n n"],
        positions: Float[Tensor, "b n 3"],
        mask: Bool[Tensor, "b n"],
    ) -> Float[Tensor, " b"]:
        """The property in units of the training data's deviation, from their mean; padding changes nothing."""
        h = self.element(elements) + self.charge(charges)
        pair = mask[:, :, None] & mask[:, None] & ~torch.eye(mask.shape[1], dtype=torch.bool, device=mask.device)
        difference = positions[:, :, None] - positions[:, None]
        distance = difference.square().sum(-1).sqrt()
        radial = torch.exp(-0.5 * ((distance[..., None] - self.centres) * (RADIAL / REACH)) ** 2)
        radial = torch.cat([radial, F.one_hot(bonds, ORDERS)], dim=-1)
        near = 0.5 * (torch.cos(distance.clamp(max=REACH) * (math.pi / REACH)) + 1) * pair
        for layer in self.layers:
            h = h + layer(h, radial, near)
        count = mask.sum(1, keepdim=True).clamp(min=1)
        pooled = (h * mask[..., None]).sum(1) / count
        out: Tensor = self.head(torch.cat([pooled, count.log()], dim=1))[:, 0]
        return out

    @torch.inference_mode()
    def predict(self, molecules: Sequence[Molecule]) -> Float[np.ndarray, " m"]:
        """The property of each molecule in its own unit; NaN where there are no atoms or no finite positions."""
        result = np.full(len(molecules), np.nan)
        fit = [i for i, molecule in enumerate(molecules) if len(molecule) and np.isfinite(molecule.positions).all()]
        fit.sort(key=lambda i: len(molecules[i]))
        for start in range(0, len(fit), BATCH):
            rows = fit[start : start + BATCH]
            values = self(*_collate([molecules[i] for i in rows], self.mean.device))
            result[rows] = (values * self.deviation + self.mean).double().cpu().numpy()
        return result


class _Interaction(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.message = nn.Linear(WIDTH, WIDTH, bias=False)
        self.filter = nn.Sequential(nn.Linear(RADIAL + ORDERS, WIDTH), nn.SiLU(), nn.Linear(WIDTH, WIDTH))
        self.update = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.SiLU(), nn.Linear(WIDTH, WIDTH))

    def forward(
        self, h: Float[Tensor, "b n d"], radial: Float[Tensor, "b n n r"], near: Float[Tensor, "b n n"]
    ) -> Float[Tensor, "b n d"]:
        weights = self.filter(radial) * near[..., None]
        # An atom meets about ten others: the sum would be of that size, whatever the molecule's.
        received = (weights * self.message(self.norm(h))[:, None]).sum(2) / 10
        out: Tensor = self.update(received)
        return out


def train_regressor(
    molecules: Sequence[Molecule],
    name: str,
    *,
    seed: int = 0,
    steps: int = STEPS,
    device: str | torch.device = "cpu",
    folder: Path | None = None,
    progress: Progress | None = None,
) -> Regressor:
    """A judge of one property: from the cache if it is there, else trained and put there.

    Arguments:
        molecules: real ones with the property; none of them what the generator was trained on or what is judged.
        name: of the property.
        seed: of the initial weights and the batches; global random state is left as it is.
        steps: of AdamW, of batches of 64.
        device: where it is trained and stays.
        folder: of the cache; by default `regressors` in $DIFFRACT_CACHE or in ~/.cache/diffract.
        progress: called with (steps done, steps).

    Raises:
        DataError: molecules without the property, or none.
    """
    values = property_values(molecules, name)
    folder = cache_folder() / "regressors" if folder is None else folder
    path = folder / f"{_key(molecules, values, seed, steps)}.safetensors"
    if path.exists():
        try:
            return _read(path).to(device)
        except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
            warnings.warn(f"the cached judge '{path}' cannot be used ({error}): training it again", stacklevel=2)
    net = _train(molecules, values, seed, steps, torch.device(device), progress)
    weights = {key: value.detach().cpu().contiguous() for key, value in net.state_dict().items()}
    write_atomically(path, lambda file: file.write(format_safetensors(weights)))
    return net


def property_values(molecules: Sequence[Molecule], name: str) -> Float[np.ndarray, " m"]:
    """A property of molecules.

    Raises:
        DataError: one does not have it, or it is no finite number, or there are none.
    """
    values = np.array([molecule.properties.get(name, math.nan) for molecule in molecules], np.float64)
    if not len(values):
        raise DataError(f"no molecules with the property {name!r} are left: its judge needs some")
    if not (known := np.isfinite(values)).all():
        raise DataError(f"molecule {int(np.argmin(known))} has no {name!r}; leave out those without it")
    return values


def _train(
    molecules: Sequence[Molecule],
    values: Float[np.ndarray, " m"],
    seed: int,
    steps: int,
    device: torch.device,
    progress: Progress | None,
) -> Regressor:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = Regressor().to(device)
    net.mean.fill_(values.mean())
    net.deviation.fill_(max(values.std(), 1e-12))
    optimizer = torch.optim.AdamW(net.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps, pct_start=0.1)
    targets = torch.tensor(values, dtype=torch.float32, device=device)
    sizes = np.array([len(molecule) for molecule in molecules])
    net.train()
    for step, rows in zip(range(steps), _batches(sizes, seed), strict=False):
        predicted = net(*_collate([molecules[i] for i in rows], device))
        target = (targets[torch.from_numpy(rows)] - net.mean) / net.deviation
        optimizer.zero_grad(set_to_none=True)
        F.l1_loss(predicted, target).backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if progress is not None:
            progress(step + 1, steps)
    return net.eval()


def _batches(sizes: np.ndarray, seed: int) -> Iterator[np.ndarray]:
    """Rows of batches without end: each molecule once in an epoch, those of like size together."""
    rng = np.random.default_rng(seed)
    while True:
        order = rng.permutation(len(sizes))
        for start in range(0, len(order), POOL * BATCH):
            pool = order[start : start + POOL * BATCH]
            pool = pool[np.argsort(sizes[pool], kind="stable")]
            batches = [pool[i : i + BATCH] for i in range(0, len(pool), BATCH)]
            for i in rng.permutation(len(batches)):
                yield batches[i]


def _collate(molecules: Sequence[Molecule], device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    b, n = len(molecules), max(map(len, molecules))
    elements, charges = np.zeros((2, b, n), np.int64)
    bonds = np.zeros((b, n, n), np.int64)
    positions = np.zeros((b, n, 3), np.float32)
    mask = np.zeros((b, n), bool)
    for row, molecule in enumerate(molecules):
        k = len(molecule)
        elements[row, :k] = np.clip(molecule.elements, 0, ELEMENTS - 1)
        charges[row, :k] = np.clip(molecule.charges, -MOST_CHARGE, MOST_CHARGE)
        bonds[row, :k, :k] = molecule.bonds
        positions[row, :k] = molecule.positions
        mask[row, :k] = True
    arrays = (elements, charges + MOST_CHARGE, bonds, positions, mask)
    return tuple(torch.from_numpy(array).to(device) for array in arrays)  # type: ignore[return-value]


def _key(molecules: Sequence[Molecule], values: np.ndarray, seed: int, steps: int) -> str:
    digest = hashlib.sha256(json.dumps({"seed": seed, "steps": steps, "version": VERSION}).encode())
    digest.update(values.tobytes())
    for m in molecules:
        for array in (m.elements, m.charges, m.bonds, np.asarray(m.positions, np.float64)):
            digest.update(repr(array.shape).encode() + np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:24]


def _read(path: Path) -> Regressor:
    net = Regressor()
    net.load_state_dict(parse_safetensors(path.read_bytes()))
    return net.eval()
