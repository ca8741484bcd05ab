"""A model as a pipeline folder of Hugging Face diffusers, which opens there and gives the same images.

What can be written is what diffusers has: its own UNets (backbone=images/diffusers_*), told the time as its schedulers
tell it (+noise_level._target_=framework.denoiser.TableIndex), on a schedule that is a table of betas, with the sampling
defaults that one of its schedulers has. A UNet2DModel becomes a DDPMPipeline, or a DDIMPipeline; a UNet2DConditionModel
with CLIP and an autoencoder of diffusers a StableDiffusionPipeline, and with text of our own the folder of its parts.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from framework.backbones.diffusers_autoencoder import DiffusersAutoencoder
from framework.backbones.text import PretrainedText
from framework.errors import UserError
from framework.files import write_text
from framework.grids import Grid
from framework.grids.fitted import Fitted
from framework.guidance.off import Off
from framework.interchange import Sampling, to_diffusers
from framework.model import Model
from modalities.images.diffusers_unet import DiffusersTextUNet, DiffusersUNet
from modalities.images.foreign import ForeignUNet

INDEX = "model_index.json"


def save_pipeline(model: Model, folder: Path) -> list[Path]:
    """Write the folder; returns its files.

    Raises:
        UserError: the network, the schedule or the sampling defaults have no counterpart in diffusers.
    """
    network = model.network
    if not isinstance(network, DiffusersUNet | DiffusersTextUNet | ForeignUNet):
        raise UserError(
            f"diffusers has no {type(network).__name__}: models with a network of its own can be exported "
            "(backbone=images/diffusers_unet or images/diffusers_unet_text)"
        )
    scheduler = to_diffusers(_sampling(model))
    parts: dict[str, Any] = {"unet": network.network}
    text = getattr(network, "text", None)
    if isinstance(text, PretrainedText) and text.kind == "clip":
        parts |= {"text_encoder": text.encoder, "tokenizer": text.tokenizer.pretrained}
    autoencoder = getattr(model.modality, "autoencoder", None)
    if autoencoder is not None:
        parts["vae"] = _vae(autoencoder.network)
    size = model.modality.space.shape[-1]  # type: ignore[attr-defined]
    parts["unet"].register_to_config(sample_size=size)
    for name, part in parts.items():
        part.save_pretrained(folder / name)
    write_text(folder / "scheduler" / "scheduler_config.json", json.dumps(scheduler, indent=2) + "\n")
    write_text(folder / INDEX, json.dumps(_index(parts, str(scheduler["_class_name"])), indent=2) + "\n")
    return sorted(file for file in folder.rglob("*") if file.is_file())


def _sampling(model: Model) -> Sampling:
    how = model.defaults
    if isinstance(how.grid, Fitted):
        raise UserError("a grid that is fitted to the model is none that diffusers has; choose another to export with")
    if how.guidance is not None and not isinstance(how.guidance, Off) and model.clipping is not None:
        raise UserError("diffusers clips what is guided otherwise; export a model without clipping")
    grid: Grid = how.grid
    return Sampling(model.schedule, model.parametrization, grid, how.solver, model.noise_level, model.clipping)


def _vae(network: Any) -> Any:
    if not isinstance(network, DiffusersAutoencoder):
        raise UserError("diffusers has no autoencoder of ours: train on the latents of one of its own to export")
    means, deviations = network.latent_mean, network.latent_std
    if bool((deviations != deviations[0]).any()) or bool((means != means[0]).any()):
        raise UserError(
            "diffusers knows one scale for all channels of latents, and this autoencoder was measured to have several"
        )
    network.network.register_to_config(scaling_factor=1 / float(deviations[0]), shift_factor=float(means[0]) or None)
    return network.network


def _index(parts: dict[str, Any], scheduler: str) -> dict[str, Any]:
    names = {name: [_library(part), type(part).__name__] for name, part in parts.items()}
    kind = "DDIMPipeline" if scheduler == "DDIMScheduler" else "DDPMPipeline"
    nothing: dict[str, Any] = {}
    if type(parts["unet"]).__name__ == "UNet2DConditionModel":
        kind = "StableDiffusionPipeline"
        absent = ("vae", "text_encoder", "tokenizer", "safety_checker", "feature_extractor", "image_encoder")
        nothing = {name: [None, None] for name in absent if name not in parts} | {"requires_safety_checker": False}
    return {"_class_name": kind, **names, "scheduler": ["diffusers", scheduler], **nothing}


def _library(part: Any) -> str:
    return type(part).__module__.partition(".")[0]
