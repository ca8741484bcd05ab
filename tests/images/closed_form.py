"""A model of pictures whose denoiser is exact: a mixture of Gaussians around 8 x 8 pictures of a square.

    x_0 ~ sum_i w_i N(m_i, s^2 I),    E[x_0 | x_t] = sum_i p_i (m_i + (alpha s^2 / v) (x_t - alpha m_i)),
    v = alpha^2 s^2 + sigma^2,        p_i in proportion to w_i exp(-|x_t - alpha m_i|^2 / 2 v),

with a square of four colours at four places in two sizes, and w_i given by the class: the colour.
"""

from __future__ import annotations

import math
from itertools import product

import torch
from tensordict import TensorDict
from torch import Tensor, nn

from framework.conditions import ClassCondition
from framework.model import Model
from framework.parametrizations import Data
from framework.schedules import Flow
from modalities.images.modality import Images

SIZE, SPREAD = 8, 0.05
COLOURS = {"red": (0.8, -0.7, -0.7), "green": (-0.4, 0.9, -0.2), "blue": (-0.9, -0.9, 0.3), "yellow": (0.9, 0.8, -0.5)}
NAMES = list(COLOURS)
PLACES = [(0, 0), (0, 4), (4, 0), (4, 4)]
PAPER = -0.9


def pictures() -> tuple[Tensor, Tensor]:
    """The means (32, 3, 8, 8) and their classes."""
    items, labels = [], []
    for (label, colour), (top, left), size in product(enumerate(COLOURS.values()), PLACES, (3, 4)):
        image = torch.full((3, SIZE, SIZE), PAPER)
        image[:, top : top + size, left : left + size] = torch.tensor(colour)[:, None, None]
        items.append(image)
        labels.append(label)
    return torch.stack(items), torch.tensor(labels)


class Exact(nn.Module):
    """The clean mean of the module's docstring, as a network that predicts it."""

    def __init__(self) -> None:
        super().__init__()
        items, labels = pictures()
        self.register_buffer("items", items.double())
        self.register_buffer("labels", labels)
        self.anchor = nn.Parameter(torch.zeros(()))  # a model asks where its parameters are

    def forward(self, x_t: Tensor, noise_level: Tensor, condition: TensorDict) -> Tensor:
        ratio = torch.tan(noise_level.double() / 1000 * math.pi / 2)[:, None]
        alpha, sigma = 1 / (1 + ratio), ratio / (1 + ratio)  # of Flow
        variance = alpha**2 * SPREAD**2 + sigma**2
        x, means = x_t.double().flatten(1), self.items.flatten(1)
        away = (x[:, None] - alpha[:, :, None] * means).square().sum(2)
        asked = condition["label"][:, None]
        meant = (asked == self.labels) | (asked == len(NAMES))
        p = torch.where(meant, -away / (2 * variance), -math.inf).softmax(1)
        mean = p @ means
        clean = mean + alpha * SPREAD**2 / variance * (x - alpha * mean)
        return clean.reshape(x_t.shape).to(x_t.dtype)


def model() -> Model:
    return Model(Images(ClassCondition(NAMES), SIZE, 3), Exact(), Flow(), Data())


def colour_of(image: Tensor) -> str:
    """The colour of the square in a picture (3, 8, 8), uint8."""
    pixels = image.float() / 127.5 - 1
    away = (pixels - PAPER).norm(dim=0)
    inside = pixels[:, away > 0.5 * away.max()].mean(1)
    return min(COLOURS, key=lambda name: float((inside - torch.tensor(COLOURS[name])).norm()))


def nearest(image: Tensor) -> int:
    """Which of the pictures a sample is most like."""
    return int((pictures()[0] - (image.float() / 127.5 - 1)).flatten(1).norm(dim=1).argmin())
