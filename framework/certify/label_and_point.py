r"""An analytic bed for product states: a label, and a point whose law is the label's.

Data: y with probabilities w_y, and a number x | y ~ N(mu_y, s_y^2). The label is masked, the point is noised with alpha
and sigma, each on its own schedule. With v_y = alpha^2 s_y^2 + sigma^2 the exact joint denoiser, given the noisy label
and the noisy point, is

    p(y | y_t, x_t) = delta(y, y_t) if y_t is a label,  else proportional to w_y N(x_t; alpha mu_y, v_y),
    D(y_t, x_t)     = sum_y p(y | y_t, x_t) [mu_y + alpha s_y^2 (x_t - alpha mu_y) / v_y].

The law that a splitting ends with is computed, not sampled, if the point's solver draws no noise. All random choices
are then the point's start, over which we integrate by the trapezoidal rule, and the label's jumps, which we enumerate:
each state is carried to every label that its kernel allows, with its weight. The result is a weighted set of (y, x).
The labels of the default data overlap so far that the start's integral is exact to 1e-6; the error is the solver's own.

Reported are the label's total variation to w; the mismatch, the mean of 1 - p(y | x) beyond that of exact data; and the
point's error, the largest over y and f of |E[1{y} f(x)] - exact| with f = x, x^2, cos 2x and sin 2x.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from tensordict import TensorDict
from torch import Tensor

from framework.categories import Array, Categories
from framework.denoiser import Denoiser, Prediction
from framework.ledger import Ledger
from framework.noise import SampleKey
from framework.processes.categorical import Categorical
from framework.processes.gaussian import Gaussian
from framework.processes.product import Product
from framework.schedules import Flow, Schedule
from framework.solvers.categorical.kernels import KernelExecution
from framework.solvers.splitting import PlanExecution, Splitting
from framework.spaces import Euclidean
from framework.state import Condition

TESTS: dict[str, Callable[[Tensor], Tensor]] = {
    "x": lambda x: x,
    "x^2": lambda x: x**2,
    "cos 2x": lambda x: torch.cos(2 * x),
    "sin 2x": lambda x: torch.sin(2 * x),
}


@dataclass(frozen=True)
class LabelAndPoint:
    """Weights, means and standard deviations of the labels' points, each (K,)."""

    weights: Sequence[float] = (0.6, 0.4)
    means: Sequence[float] = (-0.8, 0.8)
    stds: Sequence[float] = (0.5, 0.35)

    def tensors(self) -> tuple[Tensor, Tensor, Tensor]:
        """Weights, means and standard deviations: float64 (K,) each."""
        w, mu, s = (torch.tensor(tuple(v), dtype=torch.float64) for v in (self.weights, self.means, self.stds))
        return w, mu, s

    def process(self, label: Schedule | None = None, point: Schedule | None = None) -> Product:
        """label (B, 1) by masks, point (B, 1) by Gaussian noise; both on alpha = 1 - t if nothing else is said."""
        tokens = Categories(len(self.weights), Array((1,)))
        return Product(
            {"label": Categorical(label or Flow(), tokens), "point": Gaussian(point or Flow(), Euclidean((1,)))}
        )

    def log_joint(self, x: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """log w_y + log N(x; alpha mu_y, v_y) up to a constant, for x, alpha, sigma (B, 1): (B, K)."""
        w, mu, s = self.tensors()
        v = (alpha * s) ** 2 + sigma**2
        return w.log() - v.log() / 2 - (x - alpha * mu) ** 2 / (2 * v)

    def sample(self, n: int, seed: int) -> TensorDict:
        """n exact draws of label and point, (n, 1) each."""
        w, mu, s = self.tensors()
        generator = torch.Generator().manual_seed(seed)
        y = torch.multinomial(w, n, replacement=True, generator=generator)
        x = mu[y] + s[y] * torch.randn(n, dtype=torch.float64, generator=generator)
        return TensorDict({"label": y[:, None], "point": x[:, None]}, batch_size=[n])


@dataclass
class LabelAndPointDenoiser:
    """The exact joint denoiser; conditions are ignored. Its own schedule is the point's."""

    data: LabelAndPoint
    process: Product
    ledger: Ledger | None = None

    @property
    def schedule(self) -> Schedule:
        point = self.process.processes["point"]
        assert isinstance(point, Gaussian)
        return point.schedule

    def __call__(self, x_t: TensorDict, t: Tensor, condition: Condition) -> Prediction:  # type: ignore[override]
        if self.ledger is not None:
            self.ledger.count_forward(len(t))
        _, mu, s = self.data.tensors()
        label, x = x_t["label"], x_t["point"].double()
        alpha, sigma = self.schedule.alpha(t)[:, None], self.schedule.sigma(t)[:, None]
        known = torch.nn.functional.one_hot(label[:, 0], len(mu) + 1)[:, :-1].double()
        masked = label == len(mu)
        p = torch.where(masked, self.data.log_joint(x, alpha, sigma).softmax(1), known)
        means = mu + alpha * s**2 * (x - alpha * mu) / ((alpha * s) ** 2 + sigma**2)
        clean = {"label": p[:, None], "point": (p * means).sum(1, keepdim=True)}
        return Prediction(TensorDict(clean, batch_size=x_t.batch_size), x_t, alpha[:, 0], sigma[:, 0])


@dataclass(frozen=True)
class Law:
    """A weighted set of labels (R,) and points (R,); the weights sum to one."""

    label: Tensor
    point: Tensor
    weight: Tensor


def terminal_law(solver: Splitting, data: LabelAndPoint, process: Product, times: Tensor, nodes: int = 200) -> Law:
    """The law of (label, point) that a splitting with a deterministic solver of the point ends with.

    `nodes` is the number of starts over which is integrated; x_1 is sigma(1) z, as the process's prior has it.

    Raises:
        ValueError: the point's solver draws noise.
    """
    denoiser: Denoiser = LabelAndPointDenoiser(data, process)  # type: ignore[assignment]
    z, weight = quadrature(nodes)
    start = float(denoiser.schedule.sigma(times[0])) * z[:, None]
    x = TensorDict({"label": torch.full((nodes, 1), len(data.weights)), "point": start}, batch_size=[nodes])
    moves = solver.begin(process, times, x, _condition(nodes), SampleKey(0, tuple(range(nodes))))
    labels, points = moves["label"], moves["point"]
    assert isinstance(labels, KernelExecution) and isinstance(points, PlanExecution)
    if any(stage.draw for _, stage in points.stages):
        raise ValueError("the law is enumerated for deterministic solvers of the point only")
    for index, (t, s) in enumerate(pairwise(torch.as_tensor(times, dtype=torch.float64).tolist())):
        count = len(x)
        prediction = denoiser(x, torch.full((count,), t, dtype=torch.float64), _condition(count)).clean
        labels.valid = torch.ones(count, 1, dtype=torch.bool)
        step = labels.step(t, s, x["label"], prediction["label"])  # type: ignore[index]
        point = points.advance(index, t, s, x["point"], prediction["point"])  # type: ignore[index]
        joint = weight[:, None] * labels.solver.transition(step)[:, 0]
        rows, after = (joint > 0).nonzero(as_tuple=True)
        weight = joint[rows, after]
        x = TensorDict({"label": after[:, None], "point": point[rows]}, batch_size=[len(rows)])  # type: ignore[index]
        points.rows(rows)
    return Law(x["label"][:, 0], x["point"][:, 0], weight)


def quadrature(nodes: int, width: float = 6.5) -> tuple[Tensor, Tensor]:
    """Points and weights, float64 (nodes,), for the mean over a standard normal: the trapezoidal rule, whose error for
    smooth functions falls faster than any power of the spacing.
    """
    z = torch.linspace(-width, width, nodes, dtype=torch.float64)
    weight = (-(z**2) / 2).exp()
    return z, weight / weight.sum()


def _condition(rows: int) -> Condition:
    return TensorDict({}, batch_size=[rows])


@dataclass(frozen=True)
class LawError:
    """How far a law is from the data's; see the module's docstring."""

    label: float
    mismatch: float
    point: float


def law_error(data: LabelAndPoint, law: Law) -> LawError:
    """The errors of a computed or a sampled law; a label that is still masked counts as wrong."""
    w, mu, s = data.tensors()
    shares = torch.zeros(len(w) + 1, dtype=torch.float64).index_add_(0, law.label, law.weight)
    label = float((shares[:-1] - w).abs().sum() + shares[-1]) / 2
    z, weights = quadrature(128)
    point = 0.0
    for f in TESTS.values():
        got = torch.zeros(len(w) + 1, dtype=torch.float64).index_add_(0, law.label, law.weight * f(law.point))
        exact = w * (f(mu[:, None] + s[:, None] * z) * weights).sum(1)
        point = max(point, float((got[:-1] - exact).abs().max()))
    wrong = 1 - _posterior(data, law.point).gather(1, law.label.clamp(max=len(w) - 1)[:, None])[:, 0]
    wrong = torch.where(law.label < len(w), wrong, 1.0)
    return LawError(label, float((law.weight * wrong).sum()) - bayes_mismatch(data), point)


def bayes_mismatch(data: LabelAndPoint) -> float:
    """The mean probability of another label than its own, given an exact point of the data."""
    w, mu, s = data.tensors()
    z, weights = quadrature(400)
    x = mu[:, None] + s[:, None] * z  # (K, nodes)
    own = torch.stack([_posterior(data, row)[:, y] for y, row in enumerate(x)])
    return float((w[:, None] * weights * (1 - own)).sum())


def _posterior(data: LabelAndPoint, x: Tensor) -> Tensor:
    """p(y | x) of clean points (R,): (R, K)."""
    one, zero = torch.ones(1, 1, dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64)
    return data.log_joint(x[:, None], one, zero).softmax(1)
