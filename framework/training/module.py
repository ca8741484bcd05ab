"""The LightningModule of diffusion models, any modality, network, schedule and objective; and what all training shares.

Everything random in a step is a function of (seed, batch number, process), and the order of the data is a function of
(seed, batch number) too (`loader`), so a resumed run repeats the uninterrupted one bit by bit on the CPU.

A loss or gradient that is not finite costs its step and no more: gradients are taken away before the optimiser looks at
them, the event is counted and reported, and a run of `patience` such steps ends the training with an error.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn

from framework.component_denoiser import ComponentDenoiser
from framework.denoiser import NetworkDenoiser
from framework.errors import UserError
from framework.hints import with_hint
from framework.modality import Modality, drop
from framework.model import Model
from framework.noise import BatchKey, stable_hash
from framework.objectives.components import ComponentObjective
from framework.objectives.objective import Objective
from framework.posterior import Posterior
from framework.state import Condition, State, batch_size, device_of
from framework.training.ema import EMA
from framework.training.loader import ResumableLoader
from framework.training.optimizer import AdamW

QUANTILES = 8  # noise levels at which validation reports its loss


class TrainingDivergedError(RuntimeError):
    """Losses or gradients have not been finite for many steps."""


class Training(L.LightningModule):
    """A network that learns from a modality's batches: steps, their randomness, the average, and what is resumed.

    A subclass says what the loss is, how it is validated, and what the averaged network makes.

    Args:
        modality: how batches become states.
        network: the live network; its average is kept beside it.
        objective: the loss; its parameters are trained too.
        optimizer: settings of AdamW and the learning rate.
        half_life: of the EMA, in samples.
        ramp: of the EMA.
        seed: of all that is random in a step.
        compile: compile the network (torch.compile).
        patience: how many steps in a row may fail to be finite.
    """

    network: nn.Module
    drawn = False  # whether training states are drawn from an encoder's posterior, and not its mean

    def __init__(
        self,
        modality: Modality,
        network: nn.Module,
        objective: nn.Module,
        optimizer: AdamW,
        *,
        half_life: float,
        ramp: float,
        seed: int,
        compile: bool,
        patience: int,
    ) -> None:
        super().__init__()
        self.modality = modality
        self.network = network
        self.ema = EMA(network, half_life, ramp)
        self.objective = objective
        self.settings = optimizer
        self.seed, self.patience = seed, patience
        self.batches_seen = 0
        self.samples_seen = 0
        self.skipped = 0
        self._skipped_in_a_row = 0
        self._samples_at_update = 0
        if compile:
            self.network.compile()

    def encode(self, batch: Any) -> tuple[State, Condition]:
        """The batch's clean states and conditions, on the module's device; a batch may be encoded already."""
        if not isinstance(batch, Posterior):
            batch = self.modality.posterior(batch)
        key = None
        if self.drawn and self.training:
            rows = batch_size(batch.mean)
            key = BatchKey(self.seed, self.batches_seen, self.global_rank, rows).component("posterior")
        x_0 = batch.draw(key)
        return x_0, batch.condition.to(device_of(x_0))

    def loss(self, x_0: State, condition: Condition, key: BatchKey) -> Tensor:
        """The batch's loss, a number; the key is that of the batch."""
        raise NotImplementedError

    def on_fit_start(self) -> None:
        if self.trainer.precision in ("16-true", "bf16-true"):
            raise UserError(
                f"trainer.precision={self.trainer.precision} keeps the average of the weights in half precision, "
                "where it rounds its small steps away and never moves; use bf16-mixed or 16-mixed"
            )

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        if isinstance(loader := self.trainer.train_dataloader, ResumableLoader):
            loader.consume()

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x_0, condition = self.encode(batch)
        rows = batch_size(x_0)
        key = BatchKey(self.seed, self.batches_seen, self.global_rank, rows)
        # Dropout layers draw from the global generators: these, too, become a function of the batch's number.
        torch.manual_seed(stable_hash(self.seed, self.batches_seen, self.global_rank, "layers"))
        loss = self.loss(x_0, condition, key)
        self.batches_seen += 1
        self.samples_seen += rows * self.trainer.world_size
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip, and take the gradients away where they are not finite."""
        if gradient_clip_algorithm == "value":
            norm = torch.nn.utils.get_total_norm([p.grad for p in self.parameters() if p.grad is not None])
            torch.nn.utils.clip_grad_value_(
                self.parameters(), math.inf if gradient_clip_val is None else gradient_clip_val
            )
        else:
            limit = math.inf if gradient_clip_val is None else gradient_clip_val
            norm = torch.nn.utils.clip_grad_norm_(self.parameters(), limit)
        self.log("train/gradient_norm", norm)
        if bool(torch.isfinite(norm)):
            self._skipped_in_a_row = 0
            return
        optimizer.zero_grad(set_to_none=True)
        self.skipped += 1
        self._skipped_in_a_row += 1
        self.log("train/skipped_steps", float(self.skipped))
        if self._skipped_in_a_row >= self.patience:
            raise TrainingDivergedError(
                f"loss or gradients have not been finite for {self.patience} steps in a row, up to step "
                f"{self.global_step}; the last good checkpoint is kept. Lower optimizer.lr, set "
                "trainer.gradient_clip_val, or train in trainer.precision=32-true (fp16 overflows first)"
            )

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        super().optimizer_step(*args, **kwargs)
        if self._skipped_in_a_row == 0:
            self.ema.update(self.network, self.samples_seen - self._samples_at_update, self.samples_seen)
        self._samples_at_update = self.samples_seen

    def configure_optimizers(self) -> Any:
        trained = [*self.network.parameters(), *self.objective.parameters()]
        optimizer = self.settings.build(trained, fused=self.trainer.precision not in ("16-mixed", "16-true"))
        total = self.trainer.max_steps
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: self.settings.factor(step, total))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["counts"] = {
            "batches_seen": self.batches_seen,
            "samples_seen": self.samples_seen,
            "samples_at_update": self._samples_at_update,
            "skipped": self.skipped,
            "skipped_in_a_row": self._skipped_in_a_row,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        counts = checkpoint["counts"]
        self.batches_seen, self.samples_seen = counts["batches_seen"], counts["samples_seen"]
        self._samples_at_update = counts["samples_at_update"]
        self.skipped, self._skipped_in_a_row = counts["skipped"], counts["skipped_in_a_row"]


class DiffusionTraining(Training):
    """Training of a diffusion model.

    Args:
        model: what is trained; its network becomes the live one, the average is kept beside it.
        objective: the loss.
        condition_dropout: the share of samples whose condition is replaced by the null condition.
        drawn: draw latents from their encoder's posterior in each step, in place of its mean.

    The others are those of `Training`; the seed is that of noise, times and dropout.
    """

    objective: Objective | ComponentObjective

    def __init__(
        self,
        model: Model,
        objective: Objective | ComponentObjective,
        optimizer: AdamW,
        *,
        half_life: float = 50_000,
        ramp: float = 0.05,
        condition_dropout: float = 0.1,
        drawn: bool = False,
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
        self.model = model
        self.condition_dropout, self.drawn = condition_dropout, drawn
        by_component = isinstance(model.denoiser(), ComponentDenoiser)
        if by_component != isinstance(objective, ComponentObjective):
            raise UserError(
                "the state's components have processes of their own: choose objective=components"
                if by_component
                else "objective=components is for states whose components have processes of their own; choose another"
            )

    def denoiser(self, averaged: bool) -> NetworkDenoiser | ComponentDenoiser:
        """The model with the live network, or with the average."""
        return self.model.denoiser(self.ema.network if averaged else self.network)

    def averaged_model(self) -> Model:
        """The model with the average's weights, which is what is saved and sampled."""
        return replace(self.model, network=self.ema.network)

    def _shown(self, x_0: State, condition: Condition, key: BatchKey) -> Condition:
        """The condition with a hint drawn from the clean states, where the network reads one."""
        hint = self.modality.hint
        if hint is None:
            return condition
        if not isinstance(x_0, Tensor):
            raise UserError("hints are of states that are one tensor, not of products")
        return with_hint(condition, hint.draw(x_0, key))

    def loss(self, x_0: State, condition: Condition, key: BatchKey) -> Tensor:
        condition = self._shown(x_0, condition, key)
        if self.condition_dropout > 0:
            draws = key.component("condition").uniform((), torch.zeros(()))
            condition = drop(condition, self.modality.null(condition), draws >= self.condition_dropout)
        return self.objective(self.denoiser(averaged=False), x_0, condition, key).loss.mean()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """The average's loss at fixed quantiles of time and with fixed noise, so that values compare between steps."""
        x_0, condition = self.encode(batch)
        rows = batch_size(x_0)
        level = torch.arange(rows) % QUANTILES
        key = BatchKey(0, batch_idx, self.global_rank, rows, "validation")
        condition = self._shown(x_0, condition, key)
        terms = self.objective(
            self.denoiser(averaged=True), x_0, condition, key, uniforms=(level.double() + 0.5) / QUANTILES
        )
        # Sums and counts a level, the loss last: added up over batches and processes, they are exact means in the end.
        one_hot = torch.nn.functional.one_hot(level, QUANTILES).to(terms.error)
        self._validation[0, :QUANTILES] += (one_hot * terms.error[:, None]).sum(0)
        self._validation[1, :QUANTILES] += one_hot.sum(0)
        self._validation[:, QUANTILES] += torch.stack([terms.loss.sum(), terms.loss.new_tensor(rows)])

    def on_validation_epoch_start(self) -> None:
        self._validation = torch.zeros(2, QUANTILES + 1, device=self.device)

    def on_validation_epoch_end(self) -> None:
        total = self.trainer.strategy.reduce(self._validation, reduce_op="sum")
        assert isinstance(total, Tensor)
        for q, (summed, count) in enumerate(total.T.tolist()):
            name = "val/loss" if q == QUANTILES else f"val/error_at_quantile/{(q + 0.5) / QUANTILES:.3f}"
            if count > 0:
                self.log(name, summed / count, prog_bar=q == QUANTILES)
