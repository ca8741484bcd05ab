"""Training of an autoencoder by the trainer that trains everything else: what it is made of, and what is saved of it.

The configuration's `objective` names an AutoencoderObjective and `backbone` a KLAutoencoder; there is no schedule and
no parametrisation. Steps, average, checkpoints and resume are those of `module.Training`; the discriminator, if there
is one, is part of the objective, so that its weights are trained, clipped and resumed with the rest.

Each saved model knows its latents' mean and deviation over the training data, measured with the averaged weights.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.utilities import move_data_to_device
from torch import Tensor

from framework.backbones.autoencoder import KLAutoencoder
from framework.backbones.latent_coder import LatentCoder
from framework.build import Allow, build
from framework.errors import DataError, UserError
from framework.latents import Autoencoder, as_picture
from framework.modality import Modality
from framework.noise import BatchKey
from framework.objectives.autoencoder import AutoencoderObjective
from framework.reconstruction import save_sheet
from framework.state import Condition, State, batch_size, device_of
from framework.training.module import Training
from framework.training.optimizer import AdamW
from framework.training.previews import Previews

STATISTICS_ITEMS = 4096  # training items that the latents' mean and deviation are measured on
SMALLEST_STD = 1e-4  # a latent channel that says nothing is left as it is


class AutoencoderTraining(Training):
    """Training of an autoencoder.

    Args:
        model: what is trained; its network becomes the live one, the average is kept beside it.
        objective: the loss, prepared.
        data: whose training set the latents' statistics are measured on.

    The others are those of `Training`.
    """

    network: KLAutoencoder
    objective: AutoencoderObjective

    def __init__(
        self,
        model: Autoencoder,
        objective: AutoencoderObjective,
        optimizer: AdamW,
        data: Any,
        *,
        half_life: float = 50_000,
        ramp: float = 0.05,
        seed: int = 0,
        compile: bool = False,
        patience: int = 20,
    ) -> None:
        super().__init__(
            model.modality,
            model.network,
            objective,
            optimizer,
            half_life=half_life,
            ramp=ramp,
            seed=seed,
            compile=compile,
            patience=patience,
        )
        self.model, self.data = model, data

    _sums: Tensor  # of validation: items, their losses, and the parts of these
    _names: list[str]

    def averaged(self) -> Autoencoder:
        """The autoencoder with the average's weights."""
        return Autoencoder(self.modality, self.ema.network)  # type: ignore[arg-type]

    def averaged_model(self) -> Autoencoder:
        """A copy of it that knows its latents' statistics, which is what is saved."""
        model = Autoencoder(self.modality, copy.deepcopy(self.averaged().network))
        mean, std = latent_statistics(model, self.data.train_dataloader())
        model.network.latent_mean.copy_(mean)
        model.network.latent_std.copy_(std)
        return model

    def loss(self, x_0: State, condition: Condition, key: BatchKey) -> Tensor:
        terms = self.objective(self.network, *as_picture(x_0, condition, self.modality.space), key)
        for name, part in terms.parts.items():
            self.log(f"train/{name}", part.mean())
        return terms.loss.mean()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """The average's loss on the posterior's mean, without a discriminator."""
        x_0, condition = self.encode(batch)
        terms = self.objective(self.ema.network, *as_picture(x_0, condition, self.modality.space), None)
        rows = torch.stack([terms.loss.new_tensor(batch_size(x_0)), terms.loss.sum()])
        parts = torch.stack([part.sum() for part in terms.parts.values()])
        self._names = ["loss", *terms.parts]
        self._sums = self._sums + torch.cat([rows, parts])

    def on_validation_epoch_start(self) -> None:
        self._sums = torch.zeros((), device=self.device)

    def on_validation_epoch_end(self) -> None:
        total = self.trainer.strategy.reduce(self._sums, reduce_op="sum")
        assert isinstance(total, Tensor)
        count, *sums = total.tolist()
        for name, summed in zip(self._names, sums, strict=True):
            self.log(f"val/{name}", summed / count, prog_bar=name == "loss")


def autoencoder_training(config: dict[str, Any], allow: Allow, data: Any) -> AutoencoderTraining:
    """What a run trains whose configuration names an AutoencoderObjective.

    Raises:
        UserError: the configuration has choices that an autoencoder has not, or its parts do not go together.
    """
    chosen = [key for key in ("schedule", "parametrization", "noise_level") if config.get(key)]
    if chosen or config["condition_dropout"]:
        wrong = ", ".join([*chosen, *(["condition_dropout"] if config["condition_dropout"] else [])])
        raise UserError(
            f"an autoencoder has no {wrong}; its presets (experiment=KIND/NAME_vae) leave them out: "
            "schedule=null parametrization=null condition_dropout=0"
        )
    parts = build({key: config[key] for key in ("modality", "backbone", "objective", "optimizer")}, allow)
    modality, network, objective = parts["modality"], parts["backbone"], parts["objective"]
    if not isinstance(network, KLAutoencoder):
        raise UserError(
            f"an autoencoder's objective trains a KLAutoencoder (backbone=KIND/autoencoder), "
            f"not {type(network).__name__}"
        )
    check_fit(modality, network)
    asked = objective.perceptual > 0 and objective.features is None
    objective.prepare(network.channels, modality.perceptual(data) if asked else None)
    return AutoencoderTraining(
        Autoencoder(modality, network),
        objective,
        parts["optimizer"],
        data,
        half_life=config["ema"]["half_life"],
        ramp=config["ema"]["ramp"],
        seed=config["seed"],
        compile=config["compile"],
    )


def check_fit(modality: Modality, network: LatentCoder) -> None:
    """Raise UserError unless the modality's states are pictures of as many channels as the network reads."""
    condition = modality.parse([""])
    space = modality.space
    picture, _ = as_picture(space.noise(BatchKey(0, 0, 0, 1), condition), condition, space)
    if picture.shape[1] != network.channels:
        raise UserError(
            f"backbone.channels={network.channels}, but states of {modality.name} have {picture.shape[1]} channels"
        )


@torch.no_grad()
def latent_statistics(model: Autoencoder, batches: Any, items: int = STATISTICS_ITEMS) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (c,) of each latent channel over real positions of up to `items` training items.

    An endless stream of batches is read as far as its data set has items, each of them once.

    Raises:
        DataError: there are no batches.
    """
    device = model.device
    left = min(items, len(batches.dataset))
    sums = torch.zeros(3, model.network.latent_channels, dtype=torch.float64, device=device)
    for batch in batches:
        x, condition = model.modality.encode(move_data_to_device(batch, device))
        rows = min(left, batch_size(x))
        x, condition = x[:rows], condition[:rows].to(device_of(x))
        picture, mask = as_picture(x, condition, model.modality.space)
        z = model.network.encode(picture, mask)[0].double()
        real = torch.ones_like(z[:, :1], dtype=torch.bool) if mask is None else model.network.latent_mask(mask)
        kept = z.movedim(1, -1)[real[:, 0]]
        sums += torch.stack([torch.full_like(kept[0], len(kept)), kept.sum(0), kept.square().sum(0)])
        left -= rows
        if left <= 0:
            break
    if not bool(sums[0, 0] > 0):
        raise DataError("there are no training items to measure the latents' statistics on")
    mean = sums[1] / sums[0]
    std = (sums[2] / sums[0] - mean.square()).clamp(min=0).sqrt()
    return mean.float(), torch.where(std > SMALLEST_STD, std, 1.0).float()


class ReconstructionPreviews(Previews):
    """Originals above their reconstructions by the average's network every `every_n_steps` steps."""

    def __init__(self, run: str | Path, batches: Callable[[], Any], n: int, every_n_steps: int) -> None:
        super().__init__(run, [None] * n, n, every_n_steps)
        self.batches = batches

    def draw(self, module: Any, folder: Path) -> list[Path]:
        assert isinstance(module, AutoencoderTraining)
        model = module.averaged()
        batch = move_data_to_device(next(iter(self.batches())), model.device)
        x, condition = model.modality.encode(batch)
        rows = min(self.n, batch_size(x))
        x, condition = x[:rows], condition[:rows].to(device_of(x))
        return save_sheet(model.modality, x, model.reconstruct(x, condition), condition, folder)


def autoencoder_card(config: dict[str, Any], step: int) -> str:
    """The card of an autoencoder's folder, in Markdown."""

    def name(part: str) -> str:
        return str(config[part]["_target_"]).rpartition(".")[2]

    weights = ", ".join(f"{key} {value}" for key, value in config["objective"].items() if key != "_target_")
    return f"""# {config["name"]}

An autoencoder trained with Diffract for {step} steps (averaged weights). Diffusion models are trained on its latents,
which have zero mean and unit variance over its training data.

| part | choice |
|---|---|
| modality | {name("modality")} |
| backbone | {name("backbone")} |
| loss | L1; {weights} |
| data | {name("data")} |
| seed | {config["seed"]} |

Judge it with `diffract evaluate run=<this folder's run>`. A model that works in its latents names this folder, and
carries a copy of it. The weights are safetensors, the configuration names classes of Diffract and installed plugins
only, and `manifest.json` holds the files' SHA-256.
"""
