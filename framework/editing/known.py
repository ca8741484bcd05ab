r"""Keep what is known and make the rest anew: inpainting, outpainting, going on from a beginning.

Known (replacement on the clean mean; as DDNM, Wang et al. 2022, 2212.00490, for A a mask). Where the mask is True the
clean mean is the known data, D_known = x_0, and the run starts from x = alpha x_0 + sigma z there. A solver's stages
follow a point mass exactly, so the known part stays a noised x_0 on the way and is x_0 at the end, to rounding, with
every solver. The free part sees it through the network alone: at high noise hardly at all, and what was decided there
stays. So plain replacement does not draw from the conditional law.

TimeTravel (RePaint, Lugmayr et al. 2022, 2201.09865; the moves are those of Restart, 2306.14878). After every `jump`
steps fresh noise takes the state back up, and the steps are walked again, `passes` times in all: each time the free
part is made anew beside a known part with other noise, and the two agree better. On a mixture with correlated numbers
the distance to the conditional law falls from 0.25 over 0.11 (5 passes) to 0.06 (20); where what is known tells modes
apart only at noise levels between which nothing passes from one to the other, no number of passes helps. `jump` = 1 was
best there. It costs `passes` times the evaluations.

A token that can be a mask is shown from the start, not behind a mask of its own: masks are lifted in any order, so that
the free ones meet the exact law of what is left, given what is known, and there is nothing to walk again.

In a space that fixes the centre of mass the known part is kept up to a translation: where it lies beside the free part
is the network's to say, at each evaluation (the known part is moved to where the prediction has its mean).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from tensordict import TensorDict
from torch import Tensor

from framework.denoiser import Denoiser, Prediction
from framework.editing.task import Run, fitted, rows_of
from framework.errors import UserError
from framework.processes.by_component import parts_of
from framework.processes.categorical import Categorical
from framework.processes.process import Process
from framework.sampler import Loop
from framework.schedules import Schedule
from framework.solvers.plan import nodes
from framework.solvers.restart import Interval, Restart
from framework.spaces import Product, Space, ZeroCentreOfMass
from framework.state import Condition, State, components, map_state, of_components


@dataclass(frozen=True)
class Known:
    """The samples agree with `state` where `mask` is True.

    Args:
        state: clean states of n rows; zeros behind them fill the canvas of the samples, and are free.
        mask: bool, of a shape that broadcasts to the state's; of a TensorDict state a TensorDict, in which a component
            that is missing is free.

    Raises:
        UserError: the state does not fit the samples, or nothing is left free.
    """

    state: State
    mask: State
    before_guidance: ClassVar[bool] = False

    def __call__(self, run: Run) -> Run:
        start = run.start()
        known = fitted(rows_of(self.state, run), start)
        mask = fitted(rows_of(whole(self.mask, self.state), run), start)
        if _all(mask):
            raise UserError("all of the sample is known, so that nothing is left to be made; keep less of it")
        return held(run, known, mask)


@dataclass(frozen=True)
class Given:
    """What prompts say of parts of the samples themselves: clean states of B rows, and a mask of what they say.

    Both have the shapes of the run's states; a row of which nothing is said has a mask of False.
    """

    state: State
    mask: State


def held(run: Run, known: State, mask: State) -> Run:
    """The run with `known` where `mask` is True, both of the shapes of its states."""
    initial = map_state(torch.where, mask, _shown(run, known), run.start())
    return replace(run, initial=initial, denoiser=_KnownDenoiser(run.denoiser, known, mask, run.space))


def _shown(run: Run, known: State) -> State:
    """What is known as the start of the run has it: noised, but for tokens whose noise is a mask."""
    noised, clean, parts = components(run.noised(known)), components(known), parts_of(run.process)
    return of_components({name: clean[name] if _masks(parts.get(name)) else noised[name] for name in noised})


def _masks(process: Process | None) -> bool:
    return isinstance(process, Categorical) and process.mask_token is not None


@dataclass(frozen=True)
class TimeTravel:
    """Every `jump` steps are walked `passes` times; 1 is once, as ever.

    Raises:
        UserError: passes or jump is less than 1; the solver has no plan to walk again.
    """

    passes: int = 5
    jump: int = 1
    before_guidance: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.passes < 1 or self.jump < 1:
            raise UserError(f"resampling walks jump >= 1 steps passes >= 1 times, got {self.jump} and {self.passes}")

    def __call__(self, run: Run) -> Run:
        if self.passes == 1 or all(_masks(part) for part in parts_of(run.process).values()):
            return run
        if isinstance(run.solver, Loop):
            name = type(run.solver).__name__
            raise UserError(f"resampling walks steps again, and {name} has none of its own; choose another solver")
        ratios = [node.ratio for node in nodes(run.denoiser.schedule, run.times)]
        intervals = []
        for i in range(self.jump, len(ratios), self.jump):
            high = max((ratio for ratio in ratios[i - self.jump : i] if ratio < math.inf), default=0.0)
            if 0 < ratios[i] < high:  # no way leads back from sigma = 0, none to alpha = 0
                intervals.append(Interval(ratios[i], high * (1 + 1e-9), self.passes - 1))
        return replace(run, solver=Restart(run.solver, tuple(intervals)))


class _KnownDenoiser:
    """`known` and `mask` have the run's rows and shapes; tokens stand for the probabilities of their class."""

    def __init__(self, denoiser: Denoiser, known: State, mask: State, space: Space) -> None:
        self.denoiser, self.known, self.mask, self.space = denoiser, known, mask, space

    @property
    def schedule(self) -> Schedule:
        return self.denoiser.schedule

    def __call__(self, x_t: State, t: Tensor, condition: Condition) -> Prediction:
        prediction = self.denoiser(x_t, t, condition)
        known = _placed(self.space, self.known, prediction.clean, self.mask)
        return prediction.with_clean(map_state(_replaced, prediction.clean, known, self.mask))


def _placed(space: Space, known: State, clean: State, mask: State) -> State:
    """What is known, moved to where the prediction has its mean, in components without a centre of mass."""
    if isinstance(space, Product):
        parts, said, chosen = components(known), components(clean), components(mask)
        return of_components({
            name: _placed(space.components[name], part, said[name], chosen[name]) for name, part in parts.items()
        })  # type: ignore[misc]  # fmt: skip
    if not isinstance(space, ZeroCentreOfMass):
        return known
    assert isinstance(known, Tensor) and isinstance(clean, Tensor) and isinstance(mask, Tensor)
    count = mask.sum(1, keepdim=True).clamp(min=1)
    offset = torch.where(mask, clean - known.to(clean.dtype), 0.0).sum(1, keepdim=True) / count
    return torch.where(mask, known + offset, known)


def _replaced(clean: Tensor, known: Tensor, mask: Tensor) -> Tensor:
    if not known.is_floating_point():
        known, mask = torch.nn.functional.one_hot(known.long(), clean.shape[-1]), mask[..., None]
    return torch.where(mask, known.to(clean.dtype), clean)


def whole(mask: State, state: State) -> State:
    """The mask in the state's own shape, False in components that it does not name."""
    if isinstance(state, Tensor):
        if not isinstance(mask, Tensor):
            raise UserError("the state is one tensor, and so must be the mask of what is known")
        return mask.bool().expand(state.shape)
    if isinstance(mask, Tensor):
        raise UserError(
            f"the mask of what is known names components of the state: {', '.join(sorted(map(str, state.keys())))}"
        )
    none = torch.zeros((), dtype=torch.bool)
    parts = {name: whole(mask.get(name, none), part) for name, part in state.items()}  # type: ignore[arg-type]
    return TensorDict(parts, batch_size=state.batch_size)


def _all(mask: State) -> bool:
    if isinstance(mask, Tensor):
        return bool(mask.all())
    return all(_all(part) for part in mask.values())  # type: ignore[arg-type]
