"""Two steps of optimisation, as training takes them, and what they do to the loss."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from framework.modality import drop
from framework.noise import BatchKey
from framework.testing.subject import Failed, Subject
from framework.training.optimizer import AdamW

STEPS = 2


@dataclass(frozen=True)
class Trained:
    """A network after the steps, and the loss on the same noise before them and after each."""

    network: nn.Module
    losses: list[float]
    moved: int  # parameters that changed
    parameters: int


def trained(subject: Subject) -> Trained:
    """A copy of the network as it was given, after two steps of AdamW on the first items of the data."""
    network, objective = subject.backbone, subject.loss
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    denoiser = subject.model(network).denoiser()
    keep = torch.arange(subject.rows) % 2 == 0
    condition = drop(subject.condition, subject.modality.null(subject.condition), keep)
    optimizer = AdamW(lr=1e-3).build([*network.parameters(), *objective.parameters()])
    uniforms = (torch.arange(subject.rows, dtype=torch.float64) + 0.5) / subject.rows

    def loss() -> torch.Tensor:
        key = BatchKey(0, 0, size=subject.rows)
        return objective(denoiser, subject.state, condition, key, uniforms=uniforms).loss.mean()

    losses = []
    for step in range(STEPS + 1):
        network.eval()
        with torch.no_grad():
            losses.append(float(loss()))
        if step == STEPS:
            break
        network.train()
        optimizer.zero_grad(set_to_none=True)
        here = loss()
        if not here.requires_grad:
            raise Failed("the loss depends on no parameter: the network's output carries no gradient")
        here.backward()
        optimizer.step()
    moved = sum(not torch.equal(p.detach(), before[name]) for name, p in network.named_parameters())
    return Trained(network, losses, moved, len(before))
