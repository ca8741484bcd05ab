r"""Guidance by an energy: towards the law p(x_0) exp(-w E(x_0)) of data tilted by what can be differentiated.

The tilted law's score at noise gains grad log E[exp(-w E(x_0)) | x_t], and by Tweedie's formula its clean mean is

    D' = D + (sigma^2 / alpha) grad_{x_t} log E[exp(-w E(x_0)) | x_t].

That mean is not known. Diffusion posterior sampling (Chung et al. 2022, 2209.14687) and loss-guided diffusion (Song et
al. 2023) with one sample take the energy of the mean for it, log E[exp(-w E(x_0)) | x_t] = -w E(D):

    D' = D - w (sigma^2 / alpha) grad_{x_t} E(D(x_t)) = D - w Cov[x_0 | x_t] grad E(D).

That is exact for linear energies where the covariance does not depend on x_t, as for Gaussian data. Else it is not: an
energy (x - a)^2 / 2 is followed (1 + w v) times too far, v the variance of x_0 given x_t. For data N(0, 1) and a = 1
the probability-flow ODE then ends, with Dawson's function F, with

    N(sqrt(2 w) F(sqrt(w / 2)), exp(-w)),   and the tilted law is   N(w / (1 + w), 1 / (1 + w)):

N(0.23, 0.88^2) for N(0.20, 0.89^2) at w = 1/4, and N(0.72, 0.61^2) for N(0.50, 0.71^2) at w = 1; at w = 2 the mean lies
beyond the energy's own minimum. And a size, a norm or a radius is less of a mean than of what it is the mean of.

With `draws` states around the mean the energy takes their place as in Song et al., -log mean exp(-w E(D + sqrt(v) z)),
v = s^2 sigma^2 / (alpha^2 s^2 + sigma^2), as for data N(., s^2 I). For such data that is right for all energies as
draws grow (above, at w = 1: means of 0.73, 0.28, 0.44, 0.46 with 0, 8, 16 and 64 of them for 0.50), and it costs
evaluations of the energy alone. `limit` bounds each move.

The cheap way sets the covariance to v I and needs no pass back through the network. At alpha = 0, where dD/dx_t carries
nothing, both do so.

Tokens have no gradient along their state, but their probabilities have one. To first order a token that is k with
certainty changes the energy by dE/dp_k, up to a constant, so that p'_k is proportional to p_k exp(-w dE/dp_k): exact
where the energy is linear in the probabilities and tokens are independent given x_t.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from framework.categories import Layout
from framework.denoiser import Denoiser, Prediction
from framework.errors import UserError
from framework.noise import SampleKey
from framework.processes.by_component import parts_of
from framework.processes.categorical import Categorical
from framework.processes.gaussian import Gaussian
from framework.schedules import Schedule
from framework.state import Condition, State, combine, components, of_components

if TYPE_CHECKING:
    from framework.modality import Modality

DRAWS_SEED = 20230614  # of the states around a mean: not one that a person would think of
Energy = Callable[[State, Condition], Tensor]  # (clean states, condition) to (B,), differentiable


@dataclass(frozen=True)
class EnergyGuided:
    """Guidance down the gradient of an energy.

    Args:
        energy: maps clean states, of which tokens are probabilities (B, *positions, K), and their condition to (B,). If
            it has a method `for_modality(modality)`, that is asked for the energy in the modality's units.
        scale: w; 0 leaves continuous components as they are.
        through_network: whether the gradient goes through the network, which costs a backward pass an evaluation.
        spread: s, the deviation of the data in a state's units.
        token_scale: w of the tokens, whose probabilities are tilted; 0 leaves them as they are.
        draws: how many clean states around the mean the energy is averaged over, in pairs of z and -z, the same z for
            all samples; 0 is the mean alone.
        limit: the largest move of any number of a clean mean, in deviations sqrt(v); longer ones are shortened, in
            their direction. None is no limit.

    Raises:
        UserError: `spread` or `limit` is not positive, `draws` is negative or odd; the energy is not (B,), or has no
            gradient.
    """

    energy: Energy
    scale: float = 1.0
    through_network: bool = True
    spread: float = 1.0
    token_scale: float = 0.0
    draws: int = 0
    limit: float | None = None

    def __post_init__(self) -> None:
        if not callable(self.energy):
            raise UserError(f"guidance.energy is a function of clean states and their condition, not {self.energy!r}")
        if self.draws < 0 or self.draws % 2:
            raise UserError(f"an energy is averaged over an even number of draws, or none, got {self.draws}")
        if self.spread <= 0 or (self.limit is not None and self.limit <= 0):
            raise UserError(f"an energy needs spread > 0 and limit > 0, got {self.spread} and {self.limit}")

    def __call__(self, denoiser: Denoiser, negative: Condition) -> Denoiser:
        return _Led(denoiser, self)

    def cost(self, schedule: Schedule, t: Tensor, backward: float) -> Tensor:
        each = 1 + (backward if self.through_network and (self.scale or self.token_scale) else 0.0)
        return torch.full_like(t, each)

    def for_modality(self, modality: Modality) -> EnergyGuided:
        """The same with the energy in the modality's units."""
        return replace(self, energy=for_modality(self.energy, modality))


def for_modality(part: Any, modality: Modality) -> Any:
    """What `part` is for a modality, if it has such a method; else itself."""
    return part.for_modality(modality) if hasattr(part, "for_modality") else part


class _Led:
    def __init__(self, denoiser: Denoiser, how: EnergyGuided) -> None:
        self.denoiser, self.how = denoiser, how
        base = innermost(denoiser)
        self.ledger = getattr(base, "ledger", None)
        self.parts = parts_of(base.process) if hasattr(base, "process") else {}

    @property
    def schedule(self) -> Schedule:
        return self.denoiser.schedule

    def __call__(self, x_t: State, t: Tensor, condition: Condition) -> Prediction:
        how = self.how
        if how.scale == 0 and how.token_scale == 0:
            return self.denoiser(x_t, t, condition)
        given = components(x_t)
        # Where another guidance takes a gradient of what we return, our move is a constant to it.
        outer = torch.is_grad_enabled() and any(part.requires_grad for part in given.values())
        before = self.ledger.forward if self.ledger is not None else 0
        start = given
        if how.through_network:
            start = {name: _leaf(part) if part.is_floating_point() else part for name, part in given.items()}
        with torch.set_grad_enabled(how.through_network or outer):
            prediction = self.denoiser(of_components(start), t, condition)
        clean = components(prediction.clean)
        moved = self._moved({name: _leaf(part) for name, part in clean.items()}, start, t, condition, outer)
        if self.ledger is not None and how.through_network:
            self.ledger.count_backward(self.ledger.forward - before)
        kept = {name: part if outer else part.detach() for name, part in clean.items()}
        led = {name: moved[name](part) if name in moved else part for name, part in kept.items()}
        return replace(prediction, clean=of_components(led), x_t=x_t)

    def _moved(
        self, clean: dict[str, Tensor], start: dict[str, Tensor], t: Tensor, condition: Condition, outer: bool
    ) -> dict[str, Callable[[Tensor], Tensor]]:
        """What happens to each component that is led, from the energy's gradients."""
        how = self.how
        points = [name for name, part in start.items() if part.is_floating_point()] if how.scale else []
        packed: dict[str, Tensor] = {}
        with torch.enable_grad():
            seen = dict(clean)
            for name, layout in self._layouts().items():
                packed[name] = layout.pack(clean[name])
                seen[name] = layout.unpack(packed[name], condition)
            energy = self._around(seen, points, t, condition)
            along = [start[name] for name in points] if how.through_network else []
            wanted = [*(clean[name] for name in points), *packed.values(), *along]
            found = torch.autograd.grad(energy.sum(), wanted, retain_graph=outer, allow_unused=True)
        pulls, tilts, backs = found[: len(points)], found[len(points) : len(points) + len(packed)], found[-len(along) :]
        moved: dict[str, Callable[[Tensor], Tensor]] = {}
        for i, name in enumerate(points):
            back = backs[i] if how.through_network else None
            if how.through_network and back is None and pulls[i] is not None:
                raise UserError("the denoiser gives no derivative of its clean mean; set through_network=false")
            move = self._move(name, pulls[i], back, t)
            if move is not None:
                moved[name] = lambda part, move=move: part - move  # type: ignore[misc]
        for (name, layout), tilt in zip(self._layouts().items(), tilts, strict=True):
            if tilt is not None:
                tilted = layout.unpack(_tilted(packed[name].detach(), how.token_scale * tilt), condition)
                moved[name] = lambda part, tilted=tilted: tilted.to(part.dtype)  # type: ignore[misc]
        return moved

    def _around(self, clean: dict[str, Tensor], points: list[str], t: Tensor, condition: Condition) -> Tensor:
        """The energy (B,) of the mean, or what stands for it with draws around the mean."""
        how = self.how
        if how.draws == 0 or not points:
            return self._energy(clean, condition, len(t))
        found = []
        for draw in range(how.draws):
            moved = dict(clean)
            for name in points:
                key = SampleKey(DRAWS_SEED, (draw // 2,)).component(name)
                z = key.normal(clean[name].shape[1:], clean[name]).expand_as(clean[name])
                deviation = (1 - 2 * (draw % 2)) * self._variance(name, t).sqrt()
                moved[name] = self._projected(name, combine([(1.0, clean[name]), (deviation, z)]), condition)
            found.append(self._energy(moved, condition, len(t)))
        return (math.log(how.draws) - torch.logsumexp(-how.scale * torch.stack(found), 0)) / how.scale

    def _projected(self, name: str, x: State, condition: Condition) -> Tensor:
        """On the component's space, where that is known."""
        space = getattr(self.parts.get(name), "space", None)
        found = x if space is None else space.project(x, condition)
        assert isinstance(found, Tensor)
        return found

    def _variance(self, name: str, t: Tensor) -> Tensor:
        """v (B,) of a component."""
        alpha, sigma = self._schedule(name).alpha(t), self._schedule(name).sigma(t)
        found: Tensor = self.how.spread**2 * sigma**2 / (alpha**2 * self.how.spread**2 + sigma**2)
        return found

    def _energy(self, clean: dict[str, Tensor], condition: Condition, rows: int) -> Tensor:
        energy = self.how.energy(of_components(clean), condition)
        if not isinstance(energy, Tensor) or tuple(energy.shape) != (rows,):
            shape = tuple(energy.shape) if isinstance(energy, Tensor) else type(energy).__name__
            raise UserError(f"an energy is one number a sample, here a tensor ({rows},), and this one gave {shape}")
        if not energy.requires_grad:
            raise UserError("the energy has no gradient: it detaches its input, or does not use it; steer by a score")
        return energy

    def _move(self, name: str, pull: Tensor | None, back: Tensor | None, t: Tensor) -> Tensor | None:
        """What is taken off the clean mean of a continuous component; None where the energy says nothing of it."""
        how, schedule = self.how, self._schedule(name)
        if pull is None and back is None:
            return None
        alpha, sigma = schedule.alpha_sigma(t)
        variance = self._variance(name, t)
        terms: list[tuple[Tensor | float, State]] = []
        if back is not None:
            known = alpha > 0
            terms.append((how.scale * torch.where(known, sigma**2 / torch.where(known, alpha, 1.0), 0.0), back))
            variance_of_pull = torch.where(known, 0.0, variance)
        else:
            variance_of_pull = variance
        if pull is not None:
            terms.append((how.scale * variance_of_pull, pull))
        move = combine(terms)
        assert isinstance(move, Tensor)
        if how.limit is None:
            return move
        longest = move.abs().flatten(1).amax(1).double()
        most = how.limit * variance.to(longest.device).sqrt()
        return combine([(torch.where(longest > most, most / longest.clamp(min=1e-300), 1.0), move)])  # type: ignore[return-value]

    def _schedule(self, name: str) -> Schedule:
        """The clock of a component: its own in a product, else the denoiser's."""
        part = self.parts.get(name) if name else None
        return part.schedule if isinstance(part, Gaussian) else self.denoiser.schedule

    def _layouts(self) -> dict[str, Layout]:
        """Of the components whose probabilities are tilted."""
        if self.how.token_scale == 0:
            return {}
        found = {name: part.space.layout for name, part in self.parts.items() if isinstance(part, Categorical)}
        if not found:
            raise UserError("token_scale tilts the probabilities of tokens, and these states have none; leave it out")
        return found


def _leaf(part: Tensor) -> Tensor:
    """The tensor itself, if it has a gradient already, else a copy that takes one."""
    return part if part.requires_grad else part.detach().requires_grad_()


def _tilted(p: Tensor, by: Tensor) -> Tensor:
    """Probabilities (..., K) in proportion to p exp(-by); padding, all zero, stays so."""
    return torch.where(p.sum(-1, keepdim=True) > 0, (p.log() - by).softmax(-1), 0.0)


def innermost(denoiser: Any) -> Any:
    """The model's own denoiser within guidance and tasks, each of which keeps what it changes as `denoiser`."""
    while hasattr(denoiser, "denoiser"):
        denoiser = denoiser.denoiser
    return denoiser
