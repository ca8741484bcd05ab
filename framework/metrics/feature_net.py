"""Features of images without downloaded weights: the penultimate layer of a classifier of its labels.

    pixels in [-1, 1] -> conv 3x3 -> 2 residual blocks, halving -> pooled to 4x4 -> linear, standardised
    = features -> relu -> one linear head for each attribute (class; or colour, shape, place, ...)

Trained by the sum of the heads' cross-entropies (a label of -1 is absent and weighs nothing) on shifted and
slightly noisy images: features that react to a grain of noise would measure nothing else (a generated image
is never free of it).

Distances in these features are comparable only for the same network: it is trained once for a data set and
cached, and the key of the cache is a hash of all that it depends on. They are not FID; for that there is
`inception`, with weights that the user supplies.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64, UInt8
from safetensors import SafetensorError
from safetensors.torch import load as parse_safetensors
from safetensors.torch import save as format_safetensors
from torch import Tensor, nn
from torch.nn import functional as F

from framework.files import write_atomically, write_text

# Part of the cache's key: raise it with any change of the network or its training.
VERSION = 1
BATCH = 96
LEARNING_RATE = 3e-3
WEIGHT_DECAY = 0.02
NOISE = 0.1
Progress = Callable[[int, int], None]


class FeatureExtractor(Protocol):
    """What the metrics need of a network: uint8 images to features."""

    def features(self, images: UInt8[Tensor, "b c h w"]) -> Float[Tensor, "b d"]: ...


class Block(nn.Module):
    """x + f(x), with f two normalised 3x3 convolutions; halves the resolution with `stride` 2."""

    def __init__(self, channels_in: int, channels_out: int, stride: int):
        super().__init__()
        self.first = nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False)
        self.first_norm = nn.BatchNorm2d(channels_out)
        self.second = nn.Conv2d(channels_out, channels_out, 3, 1, 1, bias=False)
        self.second_norm = nn.BatchNorm2d(channels_out)
        self.skip = nn.Conv2d(channels_in, channels_out, 1, stride, bias=False)

    def forward(self, x: Float[Tensor, "b i h w"]) -> Float[Tensor, "b o h2 w2"]:
        h = F.relu(self.first_norm(self.first(x)))
        return F.relu(self.skip(x) + self.second_norm(self.second(h)))


class FeatureNet(nn.Module):
    """A small residual classifier whose penultimate layer is the feature space.

    Arguments:
        channels: of the images.
        classes: number of classes of each head; a single number makes one head.
        width: channels at full resolution; the features have 4 * width dimensions.
    """

    def __init__(self, channels: int, classes: int | Sequence[int], width: int = 24):
        super().__init__()
        self.channels = channels
        self.classes = (classes,) if isinstance(classes, int) else tuple(classes)
        self.width = width
        self.dimensions = 4 * width
        self.stem = nn.Conv2d(channels, width, 3, 1, 1)
        self.blocks = nn.Sequential(Block(width, 2 * width, 2), Block(2 * width, 4 * width, 2))
        self.to_features = nn.Linear(4 * width * 16, self.dimensions)
        # Unit variance on the training images: distances have a scale, and the kernel's x.y / D is near 1.
        self.scale = nn.BatchNorm1d(self.dimensions, affine=False)
        self.heads = nn.ModuleList(nn.Linear(self.dimensions, n) for n in self.classes)

    def features(self, images: UInt8[Tensor, "b c h w"]) -> Float[Tensor, "b d"]:
        """Return the features of uint8 images, in evaluation mode or in training mode as the module is."""
        return self._features(images.float() / 127.5 - 1)

    def forward(self, images: Float[Tensor, "b c h w"]) -> list[Float[Tensor, "b k"]]:
        """Return each head's logits for images in [-1, 1]."""
        hidden = F.relu(self._features(images))
        return [head(hidden) for head in self.heads]

    def predict(self, images: UInt8[Tensor, "n c h w"] | np.ndarray, batch: int = 512) -> Int64[np.ndarray, "n heads"]:
        """Return the most probable class of each head for uint8 images (N, C, H, W)."""

        def classes(part: Tensor) -> Tensor:
            return torch.stack([logits.argmax(1) for logits in self.forward(part.float() / 127.5 - 1)], dim=1)

        return _in_batches(self, classes, images, self.channels, batch)

    def correct(
        self, images: UInt8[Tensor, "n c h w"] | np.ndarray, labels: Tensor | np.ndarray
    ) -> list[Bool[np.ndarray, " m"]]:
        """Return for each head which images with a label (>= 0) of it are given that label.

        Arguments:
            images: uint8 (N, C, H, W).
            labels: int (N,) for one head or (N, heads); -1: absent.
        """
        asked = as_labels(labels, self.classes).numpy()
        agreed = self.predict(images) == asked
        return [agreed[asked[:, head] >= 0, head] for head in range(len(self.classes))]

    def accuracy(self, images: UInt8[Tensor, "n c h w"] | np.ndarray, labels: Tensor | np.ndarray) -> list[float]:
        """Return the share of right answers of each head; NaN for a head without labels."""
        return [float(right.mean()) if right.size else float("nan") for right in self.correct(images, labels)]

    def _features(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d"]:
        h = self.blocks(F.relu(self.stem(x)))
        # 4x4 and not a single pixel: where a thing is belongs to what an image shows.
        features: Tensor = self.scale(self.to_features(F.adaptive_avg_pool2d(h, 4).flatten(1)))
        return features


def extract(
    net: FeatureExtractor, images: UInt8[Tensor, "n c h w"] | np.ndarray, batch: int = 512
) -> Float[np.ndarray, "n d"]:
    """Return float32 features (N, D) of uint8 images (N, C, H, W); the batch size does not matter."""
    module = net if isinstance(net, nn.Module) else None
    channels = net.channels if isinstance(net, FeatureNet) else None
    return _in_batches(module, net.features, images, channels, batch)


def train_features(
    images: UInt8[Tensor, "n c h w"] | np.ndarray,
    labels: Tensor | np.ndarray,
    *,
    seed: int,
    steps: int = 300,
    width: int = 24,
    progress: Progress | None = None,
) -> FeatureNet:
    """Train a FeatureNet on labelled images.

    Arguments:
        images: uint8 (N, C, H, W).
        labels: int (N,) for one head or (N, heads) for several; -1: absent. A head has max + 1 classes.
        seed: of the initial weights, the batches and their augmentation; global random state is left as it
            is.
        steps: of batches of 96; the cost does not depend on N.
        width: see FeatureNet.
        progress: called with (steps done, steps).

    Returns:
        the network in evaluation mode, on the CPU.

    Raises:
        ValueError: if the images are not uint8 (N, C, H, W), or a head has no label.
    """
    pixels = as_images(images, None)
    targets = as_labels(labels, None)
    if len(targets) != len(pixels):
        raise ValueError(f"{len(pixels)} images have {len(targets)} labels: one for each image expected")
    classes = [int(column.max()) + 1 for column in targets.T]
    if min(classes) < 1:
        raise ValueError(f"head {int(np.argmin(classes))} has no label that is not -1: nothing to train on")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = FeatureNet(pixels.shape[1], classes, width)
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(net.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _learning_rate(step / steps))
    net.train()
    for step in range(steps):
        rows = torch.randint(len(pixels), (min(BATCH, len(pixels)),), generator=generator)
        batch = _augment(pixels[rows].float() / 127.5 - 1, generator)
        optimizer.zero_grad(set_to_none=True)
        _loss(net(batch), targets[rows]).backward()
        optimizer.step()
        schedule.step()
        if progress is not None:
            progress(step + 1, steps)
    return net.eval()


def load_or_train(
    identity: Mapping[str, Any],
    images: UInt8[Tensor, "n c h w"] | np.ndarray,
    labels: Tensor | np.ndarray,
    *,
    seed: int = 0,
    steps: int = 300,
    width: int = 24,
    folder: Path | None = None,
    progress: Progress | None = None,
) -> FeatureNet:
    """Return the data set's FeatureNet: from the cache if it is there, else trained and put there.

    The key hashes the identity, the very pixels and labels, the seed and the training: other data never gets
    these weights.

    Arguments:
        identity: what a person would call the data set (name, preset, size, split); plain JSON values.
        images, labels, seed, steps, width, progress: see `train_features`.
        folder: of the cache; by default `features` in $DIFFRACT_CACHE or in ~/.cache/diffract.
    """
    pixels = as_images(images, None)
    targets = as_labels(labels, None)
    record = {
        "identity": dict(identity),
        "images": list(pixels.shape),
        "content": _digest(pixels.numpy().tobytes() + targets.numpy().tobytes()),
        "seed": seed,
        "steps": steps,
        "width": width,
        "version": VERSION,
    }
    key = _digest(json.dumps(record, sort_keys=True).encode())[:24]
    folder = cache_folder() / "features" if folder is None else folder
    weights_path, record_path = folder / f"{key}.safetensors", folder / f"{key}.json"
    if record_path.exists() or weights_path.exists():
        try:
            return _read(weights_path, record_path)
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
            warnings.warn(
                f"cached features '{weights_path}' cannot be used ({error}): training them again",
                stacklevel=2,
            )
    net = train_features(pixels, targets, seed=seed, steps=steps, width=width, progress=progress)
    weights = format_safetensors({name: value.contiguous() for name, value in net.state_dict().items()})
    network = {"channels": net.channels, "classes": list(net.classes), "width": width}
    write_atomically(weights_path, lambda file: file.write(weights))
    record |= {
        "network": network,
        "weights": _digest(weights),
        "training_accuracy": net.accuracy(pixels, targets),
    }
    write_text(record_path, json.dumps(record, indent=2) + "\n")
    return net


def cache_folder() -> Path:
    """$DIFFRACT_CACHE, or ~/.cache/diffract."""
    chosen = os.environ.get("DIFFRACT_CACHE")
    return Path(chosen).expanduser() if chosen else Path.home() / ".cache" / "diffract"


def as_images(images: Tensor | np.ndarray, channels: int | None) -> UInt8[Tensor, "n c h w"]:
    """Check uint8 images (N, C, H, W), of that many channels if given, and return them as a CPU tensor."""
    pixels = torch.as_tensor(images).cpu()
    if pixels.dtype != torch.uint8 or pixels.ndim != 4:
        raise ValueError(f"images must be uint8 of shape (N, C, H, W), got {pixels.dtype} {tuple(pixels.shape)}")
    if channels is not None and pixels.shape[1] != channels:
        raise ValueError(f"the feature network expects {channels} channels, the images have {pixels.shape[1]}")
    return pixels


def as_labels(labels: Tensor | np.ndarray, classes: Sequence[int] | None) -> Int64[Tensor, "n heads"]:
    """Check labels (N,) or (N, heads), for those heads if given, and return them as (N, heads) int64."""
    targets = torch.as_tensor(labels).cpu()
    if targets.is_floating_point() or targets.ndim not in (1, 2):
        raise ValueError(f"labels must be integers (N,) or (N, heads), got {targets.dtype} {tuple(targets.shape)}")
    targets = targets.long().reshape(len(targets), -1)
    if classes is not None and targets.shape[1] != len(classes):
        raise ValueError(f"the feature network has {len(classes)} heads, the labels {targets.shape[1]}")
    return targets


def _loss(logits: list[Float[Tensor, "b k"]], targets: Int64[Tensor, "b heads"]) -> Float[Tensor, ""]:
    """Sum over heads of the mean cross-entropy of the labels present; a head without any adds zero."""
    total = logits[0].new_zeros(())
    for scores, target in zip(logits, targets.T, strict=True):
        count = (target >= 0).sum().clamp(min=1)
        total = total + F.cross_entropy(scores, target, ignore_index=-1, reduction="sum") / count
    return total


def _learning_rate(done: float) -> float:
    """Relative rate after a share `done` of the steps: up in a fifth of them, then down along a cosine."""
    return min((done + 0.01) / 0.2, 0.5 * (1 + math.cos(math.pi * max(0.0, (done - 0.2) / 0.8))))


def _augment(x: Float[Tensor, "b c h w"], generator: torch.Generator) -> Float[Tensor, "b c h w"]:
    """Shift the batch by up to one pixel in sixteen; add noise of a level drawn for each image."""
    reach = max(1, x.shape[-1] // 16)
    dy, dx = (int(shift) for shift in torch.randint(0, 2 * reach + 1, (2,), generator=generator))
    height, width = x.shape[-2:]
    x = F.pad(x, (reach, reach, reach, reach), mode="replicate")[:, :, dy : dy + height, dx : dx + width]
    level = NOISE * torch.rand(len(x), 1, 1, 1, generator=generator)
    return x + level * torch.randn(x.shape, generator=generator)


def _in_batches(
    module: nn.Module | None,
    function: Callable[[Tensor], Tensor],
    images: Tensor | np.ndarray,
    channels: int | None,
    batch: int,
) -> np.ndarray:
    pixels = as_images(images, channels)
    if len(pixels) == 0:
        raise ValueError("no images: at least one expected")
    device = torch.device("cpu")
    if module is not None:
        module.eval()
        device = next(module.parameters()).device
    with torch.inference_mode():
        parts = [function(part.to(device)).cpu() for part in pixels.split(batch)]
    return torch.cat(parts).numpy()


def _read(weights_path: Path, record_path: Path) -> FeatureNet:
    record = json.loads(record_path.read_text())
    weights = weights_path.read_bytes()
    if _digest(weights) != record["weights"]:
        raise ValueError("the weights are not those that were written")
    net = FeatureNet(**record["network"])
    net.load_state_dict(parse_safetensors(weights))
    return net.eval()


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
