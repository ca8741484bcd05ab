r"""The training loss of states with tokens: each component's own error, added with weights.

    loss = sum_c w_c e_c

For a Gaussian component e_c is that of `Objective`: the distance in the space of the weighting, at the component's own
log-SNR. For tokens it is the cross entropy of the clean ones, averaged over the free entries, at all times alike
(endpoint matching; of masked diffusion it is the bound of Sahoo et al. 2024 without its weight 1 / t, which favours the
times where little is left to tell). `balance: learned` puts exp(-u_c) e_c + u_c in place of w_c e_c, with u_c
learned (Kendall et al. 2018, 1705.07115), so that no component drowns the others.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from framework.component_denoiser import ComponentDenoiser
from framework.errors import UserError
from framework.noise import NoiseKey
from framework.objectives.distances import Distance
from framework.objectives.distortions import Distortion
from framework.objectives.objective import EARLIEST, Terms, converted
from framework.objectives.times import TimeSampler
from framework.objectives.weightings import Weighting
from framework.parametrizations import Parametrization
from framework.processes.categorical import Categorical
from framework.processes.gaussian import Gaussian
from framework.self_conditioning import in_training, takes_part
from framework.state import Condition, State, components, masked_sum, of_components


class ComponentObjective(nn.Module):
    """See the module's docstring.

    Args:
        time_sampler: where to train.
        weighting: how the errors of Gaussian components count at each noise level.
        distance: of Gaussian components, from squared sums to a number.
        weights: of the components by name; 1 where nothing is said.
        balance: "fixed" (the weights) or "learned" (the weights' logarithms are where -u_c begins).
        space: the parametrisation in which the error of Gaussian components is measured; None is the network's own.
        max_gain: the cap on the conversion of errors between parametrisations.
        self_conditioning: the share of samples that are trained on a first prediction of their own.
        distortions: what is done to noisy Gaussian components, by name, that the network is to undo.

    Raises:
        UserError: a balance that is not known.
    """

    def __init__(
        self,
        time_sampler: TimeSampler,
        weighting: Weighting,
        distance: Distance,
        weights: Mapping[str, float] | None = None,
        balance: str = "fixed",
        space: Parametrization | None = None,
        max_gain: float = 20.0,
        self_conditioning: float = 0.0,
        distortions: Mapping[str, Distortion] | None = None,
    ) -> None:
        super().__init__()
        if balance not in ("fixed", "learned"):
            raise UserError(f"objective.balance is fixed or learned, not {balance!r}")
        self.time_sampler, self.weighting, self.distance = time_sampler, weighting, distance
        self.space = weighting.space if space is None else space
        self.max_gain, self.self_conditioning = max_gain, self_conditioning
        self.weights, self.distortions = dict(weights or {}), dict(distortions or {})
        self.logarithms: nn.ParameterDict | None = None
        if balance == "learned":
            if not self.weights:
                raise UserError("objective.balance=learned needs objective.weights, a number for each component")
            logs = {name: nn.Parameter(-torch.tensor(weight).log()) for name, weight in self.weights.items()}
            self.logarithms = nn.ParameterDict(logs)

    def forward(
        self,
        denoiser: ComponentDenoiser,
        x_0: State,
        condition: Condition,
        key: NoiseKey,
        uniforms: Tensor | None = None,
    ) -> Terms:
        """Per-sample loss of a batch; `uniforms` float64 (B,) fix the quantiles of time, else the key draws them.

        Raises:
            UserError: a weight, or a distortion, is for a component that is not there; self-conditioning is asked of a
                network that does not take part.
        """
        self._check(denoiser)
        schedule = denoiser.schedule
        if uniforms is None:
            drawn = key.component("time").uniform((), torch.zeros((), dtype=torch.float64))
            t = self.time_sampler(drawn, schedule)
        else:
            t = self.time_sampler.quantile(uniforms, schedule)
        t = t.clamp(EARLIEST, 1.0)
        x_t, done = denoiser.process.corrupt(x_0, t, key.component("noise"), condition)
        x_t = self._distorted(x_t, t, condition, key.component("distortion"), denoiser)
        if self.self_conditioning > 0 and takes_part(denoiser.network):
            chosen = key.component("self").uniform((), torch.zeros(())) < self.self_conditioning
            condition = in_training(denoiser, x_t, t, condition, chosen.to(t.device))
        raw = denoiser.raw(x_t, t, condition)
        clean, noise, said = components(x_0), components(done), components(raw)
        errors = {
            name: self._error(denoiser, name, clean[name], noise[name], said[name], t, condition)
            for name in denoiser.parts
        }
        loss = torch.stack([self._weighed(name, denoiser, error, t) for name, error in errors.items()]).sum(0)
        error = torch.stack([self.weights.get(name, 1.0) * error for name, error in errors.items()]).sum(0)
        return Terms(loss, error, t)

    def _distorted(
        self, x_t: State, t: Tensor, condition: Condition, key: NoiseKey, denoiser: ComponentDenoiser
    ) -> State:
        parts = components(x_t)
        for name, distortion in self.distortions.items():
            parts[name] = distortion(parts[name], t, key.component(name))
        return denoiser.space.project(of_components(parts), condition) if self.distortions else x_t

    def _error(
        self,
        denoiser: ComponentDenoiser,
        name: str,
        clean: Tensor,
        noise: Tensor,
        raw: Tensor,
        t: Tensor,
        condition: Condition,
    ) -> Tensor:
        """The component's error for each sample, float32 (B,)."""
        part = denoiser.parts[name]
        if isinstance(part, Categorical):
            layout = part.space.layout
            valid = layout.valid(condition)
            logits, tokens = layout.pack(raw).float(), layout.pack(clean)
            each = cross_entropy(logits.flatten(0, 1), tokens.flatten(), reduction="none").reshape(tokens.shape)
            total, count = masked_sum(each, valid)
            return total / count.clamp(min=1)
        assert isinstance(part, Gaussian)
        alpha, sigma = part.schedule.alpha_sigma(t)
        own = denoiser.parametrization
        squares = (raw.float() - own.target(clean, noise, alpha, sigma).float()).square()  # type: ignore[union-attr]
        squared = converted(masked_sum(squares)[0], own, self.space, alpha, sigma, self.max_gain)
        return self.distance(squared, part.space.degrees_of_freedom(condition).to(squared))

    def _weighed(self, name: str, denoiser: ComponentDenoiser, error: Tensor, t: Tensor) -> Tensor:
        part = denoiser.parts[name]
        if isinstance(part, Gaussian):
            error = self.weighting(error, part.schedule.log_snr(t))
        if self.logarithms is None:
            return self.weights.get(name, 1.0) * error
        if name not in self.logarithms:
            return error
        u = self.logarithms[name]
        return error * (-u).exp() + u

    def _check(self, denoiser: ComponentDenoiser) -> None:
        gaussian = {name for name, part in denoiser.parts.items() if isinstance(part, Gaussian)}
        for option, named, possible in (
            ("weights", self.weights, set(denoiser.parts)),
            ("distortions", self.distortions, gaussian),
        ):
            if unknown := sorted(set(named) - possible):
                known = ", ".join(sorted(possible))
                raise UserError(f"objective.{option} names {', '.join(unknown)}; the components here are {known}")
