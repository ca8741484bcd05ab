r"""Folders of Hugging Face diffusers as models: a pipeline that somebody saved, sampled as one of ours.

    model_index.json with unet (UNet2DModel) and scheduler: pixels, unconditional or of classes
    ... with unet (UNet2DConditionModel), vae, text_encoder, tokenizer, scheduler: Stable Diffusion 1.x

The scheduler becomes schedule, prediction, grid, solver and clipping (framework/interchange); its latents' scale
becomes that of the autoencoder. Only safetensors are read, and no code that comes with a folder is run. The safety
checker and the feature extractor of a pipeline are not used.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from tensordict import TensorDict
from torch import Tensor, nn

from framework.backbones.diffusers_autoencoder import pretrained
from framework.backbones.text import PretrainedText, TextFeatures
from framework.conditions import ClassCondition, TextCondition, Unconditional
from framework.errors import UserError
from framework.grids.identity import weights_hash
from framework.guidance.classifier_free import ClassifierFree
from framework.interchange import from_diffusers
from framework.latents import TrainedAutoencoder
from framework.model import Model, SamplingDefaults
from framework.store import ModelFolderError
from modalities.images.modality import Images

INDEX = "model_index.json"
GUIDANCE, STEPS = 7.5, 50  # what pipelines do unless they are told


def open_pipeline(folder: Path) -> Model | None:
    """The model of a folder that a pipeline of diffusers was saved to; None where it is no such folder.

    Raises:
        ModelFolderError: it is one, but of a kind that has no counterpart here, or incomplete.
        UserError: its scheduler has an option that has none.
    """
    if not (folder / INDEX).is_file():
        return None
    parts = json.loads((folder / INDEX).read_text())
    kind = parts.get("unet", [None, None])[1]
    if kind == "UNet2DModel":
        return _pixels(folder)
    if kind == "UNet2DConditionModel" and all(parts.get(name, [None])[0] for name in ("vae", "text_encoder")):
        return _stable_diffusion(folder)
    raise ModelFolderError(
        f"{folder} is a {parts.get('_class_name')} of diffusers; what can be opened here are pipelines with a "
        "UNet2DModel, and those with a UNet2DConditionModel, a vae and a text_encoder (Stable Diffusion 1.x)"
    )


class ForeignUNet(nn.Module):
    """A UNet of diffusers as it was made, in the place of a backbone of ours.

    Args:
        network: a UNet2DModel or a UNet2DConditionModel.
        text: the encoder of the condition's tokens, of the latter.
    """

    def __init__(self, network: nn.Module, text: nn.Module | None = None) -> None:
        super().__init__()
        self.network: Any = network
        self.text = text

    def forward(
        self, x_t: Float[Tensor, "b c h w"], noise_level: Float[Tensor, " b"], condition: TensorDict
    ) -> Float[Tensor, "b c h w"]:
        """The raw output of the network."""
        x = x_t.to(self.network.dtype)
        if self.text is None:
            label = condition.get("label", None)
            return self.network(x, noise_level, class_labels=label, return_dict=False)[0].to(x_t.dtype)
        words = self.text(condition["tokens"], condition["text_mask"]).sequence.to(x.dtype)
        return self.network(x, noise_level, words, return_dict=False)[0].to(x_t.dtype)


class PaddedText(PretrainedText):
    """CLIP as Stable Diffusion hears it: padding is attended to, as if it were words, and the last layer is normed."""

    @torch.no_grad()
    def forward(self, tokens: Int[Tensor, "b l"], text_mask: Bool[Tensor, "b l"]) -> TextFeatures:
        out = self.encoder(input_ids=tokens)
        return TextFeatures(out.last_hidden_state, out.pooler_output)


class ForeignAutoencoder(TrainedAutoencoder):
    """The autoencoder of a pipeline, whose latents have the pipeline's own scale."""

    def __init__(self, folder: Path) -> None:
        self.path, self.config = str(folder), {}
        self.network = pretrained(str(folder))
        config = self.network.network.config
        self.network.latent_std.fill_(1 / config.scaling_factor)
        self.network.latent_mean.fill_(getattr(config, "shift_factor", None) or 0.0)
        self.network.eval().requires_grad_(False)
        self.identity = weights_hash(self.network)


def _pixels(folder: Path) -> Model:
    network = _unet(folder, "UNet2DModel")
    config = network.config
    classes = config.num_class_embeds
    condition = Unconditional() if classes is None else ClassCondition([str(i) for i in range(classes - 1)])
    modality = Images(condition, size=_side(config, folder), channels=config.in_channels)
    return _model(folder, modality, ForeignUNet(network), None)


def _stable_diffusion(folder: Path) -> Model:
    network = _unet(folder, "UNet2DConditionModel")
    autoencoder = ForeignAutoencoder(folder)
    if network.config.in_channels != autoencoder.network.latent_channels:
        raise ModelFolderError(
            f"{folder}: its unet reads {network.config.in_channels} channels and its latents have "
            f"{autoencoder.network.latent_channels}; inpainting models of that kind are not read"
        )
    positions = json.loads((folder / "text_encoder" / "config.json").read_text()).get("max_position_embeddings", 77)
    text = PaddedText(str(folder / "text_encoder"), "clip", positions, tokenizer=str(folder / "tokenizer"))
    size = _side(network.config, folder) * autoencoder.network.stride
    modality = Images(TextCondition(text.tokenizer), size=size, channels=3, autoencoder=autoencoder)
    return _model(folder, modality, ForeignUNet(network, text), ClassifierFree(GUIDANCE))


def _model(folder: Path, modality: Images, network: nn.Module, guidance: ClassifierFree | None) -> Model:
    how = from_diffusers(folder / "scheduler")
    network.eval().requires_grad_(False)
    return Model(
        modality,
        network,
        how.schedule,
        how.parametrization,
        how.noise_level,
        SamplingDefaults(how.solver, how.grid, STEPS, guidance),
        clipping=how.clipping,
    )


def _unet(folder: Path, kind: str) -> Any:
    try:
        import diffusers
    except ImportError as error:
        raise UserError("a folder of diffusers needs that package: pip install 'diffract[diffusers]'") from error
    try:
        return getattr(diffusers, kind).from_pretrained(folder / "unet", use_safetensors=True)
    except (OSError, ValueError) as error:
        raise ModelFolderError(f"{folder / 'unet'} holds no {kind} in safetensors: {error}") from error


def _side(config: Any, folder: Path) -> int:
    side = config.sample_size
    if isinstance(side, Sequence):
        if len(set(side)) != 1:
            raise ModelFolderError(f"{folder}: its images are {tuple(side)}; square ones are read")
        side = side[0]
    if side is None:
        raise ModelFolderError(f"{folder / 'unet' / 'config.json'} does not say its sample_size")
    return int(side)
