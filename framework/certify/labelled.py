r"""A labelled mixture: the exact conditional and unconditional denoisers that guidance needs.

Each component of a mixture carries a label. Given the label, the data is the mixture of its components alone; without
one (label -1) it is all of them. Both clean means are exact, so guidance of scale w is exact too,

    D_w(x) = D(x) + w (D(x | label) - D(x)),

and the ODE that it defines has a reference solution to which a guided solver must converge at its order. At w = 1 the
guided sample is the conditional one, number by number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from tensordict import TensorDict
from torch import Tensor

from framework.certify.bed import ContinuousBed
from framework.certify.gaussian_mixture import Mixture
from framework.denoiser import Denoiser, Prediction
from framework.guidance.classifier_free import Guidance
from framework.guidance.off import Off
from framework.ledger import Ledger
from framework.schedules import Schedule
from framework.spaces import Euclidean
from framework.state import Condition

NO_LABEL = -1

TWO_LABELS = Mixture(
    weights=(0.3, 0.2, 0.3, 0.2),
    means=((-1.0, 0.3), (-0.3, -0.8), (0.9, 0.5), (0.4, -0.5)),
    stds=((0.3, 0.2), (0.2, 0.3), (0.2, 0.3), (0.3, 0.2)),
)


@dataclass
class LabelledDenoiser:
    """The exact clean mean given condition["label"] (B,), or of all the data where it is NO_LABEL."""

    mixture: Mixture
    labels: Sequence[int]
    schedule: Schedule
    ledger: Ledger | None = None

    def __call__(self, x_t: Tensor, t: Tensor, condition: Condition) -> Prediction:
        if self.ledger is not None:
            self.ledger.count_forward(len(x_t))
        alpha, sigma = self.schedule.alpha_sigma(t)
        label = condition["label"][:, None]
        member = (label == NO_LABEL) | (label == torch.tensor(list(self.labels)))
        return Prediction(self.mixture.clean_mean(x_t, alpha, sigma, member), x_t, alpha, sigma)


@dataclass(frozen=True)
class LabelledBed(ContinuousBed):
    """Samples of labels in turn, under a guidance; `Off` is the conditional denoiser itself."""

    guidance: Guidance = field(default_factory=Off)
    mixture: Mixture = TWO_LABELS
    labels: tuple[int, ...] = (0, 0, 1, 1)
    name: str = "labelled mixture"

    @property
    def space(self) -> Euclidean:
        return Euclidean((self.mixture.dimensions,))

    def condition(self, samples: Sequence[int]) -> Condition:
        label = torch.tensor([self.labels[i % len(self.labels)] for i in samples])
        return TensorDict({"label": label}, batch_size=[len(samples)])

    def denoiser(self, schedule: Schedule, ledger: Ledger | None = None) -> Denoiser:
        return _Guided(LabelledDenoiser(self.mixture, self.labels, schedule, ledger), self.guidance)


@dataclass(frozen=True)
class _Guided:
    """Guidance away from no label, for whatever rows are asked for."""

    inner: LabelledDenoiser
    guidance: Guidance

    @property
    def schedule(self) -> Schedule:
        return self.inner.schedule

    def __call__(self, x_t: Tensor, t: Tensor, condition: Condition) -> Prediction:
        label = torch.full_like(condition["label"], NO_LABEL)
        away = TensorDict({"label": label}, batch_size=condition.batch_size)
        return self.guidance(self.inner, away)(x_t, t, condition)
