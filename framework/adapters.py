r"""Low-rank adapters (LoRA): a few numbers that teach a trained network something new, and can be taken off again.

Of a linear layer y = W x the weights stay as they are, and a product of two thin matrices is learnt beside them,

    y = W x + (alpha / r) B A x,      A: (r, in) random,  B: (out, r) zero at first,

so that training starts at the base model and ends in a file of a few megabytes (Hu et al. 2021, arXiv:2106.09685).
Filters are adapted in the same way. The layers are those of the `peft` package, and an adapter's folder is in its
format: adapter_config.json and adapter_model.safetensors.
"""

from __future__ import annotations

import copy
import importlib.util
import json
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from framework.errors import UserError
from framework.files import write_text
from framework.model import Model

CONFIG, WEIGHTS, CARD = "adapter_config.json", "adapter_model.safetensors", "README.md"
NAME = "default"  # peft's word for the only adapter
PREFIX = "base_model.model."  # what peft's files put before the names of layers


class AdapterError(UserError):
    """An adapter cannot be put on a network; the message says why."""


@dataclass(frozen=True)
class LoRA:
    """Which layers are adapted, and how strongly.

    Args:
        rank: r, of the products that are learnt.
        alpha: their scale is alpha / rank; None is rank, a scale of one.
        filters: adapt convolutions too, and not linear layers alone (attention's are among these).
        only: a regular expression that a layer's name must match in part, as in "attention"; "" is every layer.
        dropout: of what goes into A while training.

    Raises:
        UserError: a rank below 1, a scale that is not positive, a dropout outside [0, 1), an expression that is none.
    """

    rank: int = 8
    alpha: float | None = None
    filters: bool = True
    only: str = ""
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.rank < 1 or self.scale <= 0 or not 0 <= self.dropout < 1:
            raise UserError(
                f"LoRA takes rank >= 1, alpha > 0 and 0 <= dropout < 1, not rank={self.rank}, alpha={self.alpha}, "
                f"dropout={self.dropout}"
            )
        try:
            re.compile(self.only)
        except re.error as error:
            raise UserError(f"tune.only={self.only!r} is no regular expression: {error}") from error

    @property
    def scale(self) -> float:
        """alpha / rank."""
        return 1.0 if self.alpha is None else self.alpha / self.rank

    def layers(self, network: nn.Module) -> list[str]:
        """The names of the layers that are adapted.

        Raises:
            AdapterError: there are none.
        """
        kinds: tuple[type[nn.Module], ...] = (nn.Linear,)
        if self.filters:
            kinds += (nn.Conv1d, nn.Conv2d, nn.Conv3d)
        every = [name for name, layer in network.named_modules() if isinstance(layer, kinds)]
        found = [name for name in every if re.search(self.only, name)]
        if not found:
            raise AdapterError(
                f"tune.only={self.only!r} matches none of the network's layers, which are {', '.join(every[:8])}, ..."
            )
        return found


def adapt(network: nn.Module, how: LoRA) -> nn.Module:
    """Put fresh adapters on a network's layers, in place; nothing else of it is trained any more."""
    peft = _peft()
    config = peft.LoraConfig(
        r=how.rank,
        lora_alpha=how.scale * how.rank,
        target_modules=how.layers(network),
        lora_dropout=how.dropout,
    )
    network.requires_grad_(False)
    peft.inject_adapter_in_model(config, network, NAME)
    return network


def merged(network: nn.Module) -> nn.Module:
    """A copy of an adapted network in which each product is added to its weights: a network as it was before."""
    plain = copy.deepcopy(network)
    for owner, name, layer in _adapted(plain):
        layer.merge()
        setattr(owner, name, layer.get_base_layer())
    return _plain(plain)


def without(network: nn.Module) -> nn.Module:
    """A copy of an adapted network with its adapters taken off: the base network to the last bit."""
    plain = copy.deepcopy(network)
    for owner, name, layer in _adapted(plain):
        setattr(owner, name, layer.get_base_layer())
    return _plain(plain)


def save_adapter(network: nn.Module, folder: str | Path, card: str, base: str = "") -> Path:
    """Write the adapters of a network, and nothing else of it, as peft does.

    Args:
        network: with adapters of `adapt`.
        folder: made if it is not there.
        card: its README.md.
        base: the folder of the model that it goes on, for people to read.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    weights = {
        PREFIX + name.replace(f".{NAME}.", "."): tensor.detach().cpu().contiguous().clone()
        for name, tensor in network.state_dict().items()
        if f".{NAME}." in name
    }
    config = network.peft_config[NAME].to_dict()  # type: ignore[index, union-attr, operator]
    config |= {"base_model_name_or_path": base, "target_modules": sorted(config["target_modules"])}
    partial = folder / f".{WEIGHTS}.partial"
    save_file(weights, partial, {"base_layers": digest(network)})
    partial.rename(folder / WEIGHTS)
    write_text(folder / CONFIG, json.dumps(_sorted(config), indent=2) + "\n")
    write_text(folder / CARD, card)
    return folder


def adapted(model: Model, folder: str | Path, scale: float = 1.0) -> Model:
    """A model with an adapter on a copy of its network; the model that is given stays as it is.

    Args:
        model: the base.
        folder: what `save_adapter` (or peft) wrote, or a run that trained one.
        scale: 1 is as it was trained, 0 the base model; between and beyond them it is turned down or up.

    Raises:
        AdapterError: the folder holds no adapter, or one for another network.
    """
    peft = _peft()
    folder = find_adapter(Path(folder))
    try:
        settings = json.loads((folder / CONFIG).read_text())
        weights = load_file(folder / WEIGHTS)
        rank, alpha, targets = int(settings["r"]), float(settings["lora_alpha"]), list(settings["target_modules"])
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise AdapterError(f"{folder} holds no adapter that can be read: {error!r}") from error
    network = merged(model.network)  # of another adapter that it may have
    config = peft.LoraConfig(r=rank, lora_alpha=alpha * scale, target_modules=targets)
    try:
        peft.inject_adapter_in_model(config, network, NAME)
    except ValueError as error:
        raise AdapterError(f"{folder} is an adapter of another network: {error}") from error
    _fill(network, weights, folder)
    if (known := _metadata(folder).get("base_layers")) is not None and known != digest(network):
        warnings.warn(f"{folder} was trained on other weights than those it is put on now", stacklevel=2)
    network.eval().requires_grad_(False)
    return replace(model, network=network.to(model.device))


def find_adapter(path: Path) -> Path:
    """The adapter's folder that a path means: itself, or `adapter/` in a run.

    Raises:
        AdapterError: there is none.
    """
    for candidate in (path, path / "adapter"):
        if (candidate / CONFIG).is_file():
            return candidate
    raise AdapterError(f"{path} holds no adapter: there is no {CONFIG} in it or in {path}/adapter")


def digest(network: nn.Module) -> str:
    """A number of the weights under the adapters: which base they belong to, beyond its shapes."""
    total = 0.0
    for _, _, layer in _adapted(network):
        weight = layer.get_base_layer().weight.detach().double()
        total += float((weight * torch.arange(1, weight.numel() + 1).view(weight.shape).sin()).sum())
    return f"{total:.9e}"


def _fill(network: nn.Module, weights: dict[str, Tensor], folder: Path) -> None:
    names = {PREFIX + name.replace(f".{NAME}.", "."): name for name in network.state_dict() if f".{NAME}." in name}
    if names.keys() != weights.keys():
        odd = sorted(names.keys() ^ weights.keys())
        raise AdapterError(f"{folder} is an adapter of another network: {odd[0]} is on one side alone")
    try:
        network.load_state_dict({names[key]: tensor for key, tensor in weights.items()}, strict=False)
    except RuntimeError as error:
        raise AdapterError(f"{folder} is an adapter of another network: {error}") from error


def _metadata(folder: Path) -> dict[str, str]:
    from safetensors import safe_open

    with safe_open(folder / WEIGHTS, "pt") as opened:
        return dict(opened.metadata() or {})


def _adapted(network: nn.Module) -> Iterator[tuple[nn.Module, str, Any]]:
    """Each layer with adapters: the module that holds it, under which name, and itself."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    for owner in list(network.modules()):
        if not isinstance(owner, BaseTunerLayer):
            for name, layer in list(owner.named_children()):
                if isinstance(layer, BaseTunerLayer):
                    yield owner, name, layer


def _plain(network: nn.Module) -> nn.Module:
    if hasattr(network, "peft_config"):
        del network.peft_config
    return network


def _sorted(config: Any) -> Any:
    """peft's settings as plain JSON."""
    if isinstance(config, dict):
        return {str(key): _sorted(config[key]) for key in sorted(config, key=str)}
    if isinstance(config, list | tuple | set):
        return [_sorted(value) for value in config]
    return config if isinstance(config, str | int | float | bool | None) else str(config)


def _peft() -> Any:
    if importlib.util.find_spec("peft") is None:
        raise AdapterError("adapters need the package peft: pip install 'diffract[lora]'")
    import peft

    return peft
