"""The check of what a network is made to have and not to learn."""

from __future__ import annotations

import copy

import torch

from framework.component_denoiser import ComponentDenoiser
from framework.denoiser import NetworkDenoiser
from framework.modality import Symmetry
from framework.noise import BatchKey
from framework.self_conditioning import takes_part, with_previous
from framework.state import Condition, State, map_state
from framework.testing.compare import gap, signature_difference
from framework.testing.subject import Failed, Passed, Skipped, Subject
from framework.testing.tokens import probabilities

TIME = 0.4
ROUNDING = 1e-9  # of the size of a prediction in float64
SEEDS = (0, 1)


def symmetries(subject: Subject) -> Passed:
    """What the network says of a changed state is what it said, changed in the same way, to rounding in float64, for
    each symmetry that the modality declares of it; a symmetry moves states, and leaves them in their space.
    """
    network = copy.deepcopy(subject.shaken).double()
    declared = list(subject.modality.symmetries(network))
    if not declared:
        raise Skipped("none are declared (Modality.symmetries)")
    rows, condition = torch.arange(subject.rows), subject.condition
    t = torch.full((subject.rows,), TIME, dtype=torch.float64)
    x_t, _ = subject.process.corrupt(_double(subject.state), t, BatchKey(23, 0, size=subject.rows), condition)
    x_t = subject.space.project(_double(x_t), condition)
    before = subject.space.project(probabilities(_double(subject.said(rows, 24)), subject.tokens), condition)
    previous = before if takes_part(network) else None
    denoiser = subject.model(network).denoiser()
    words = []
    with torch.no_grad():
        said = denoiser.raw(x_t, t, _told(condition, previous))
        for symmetry in declared:
            worst = max(_apart(subject, symmetry, seed, denoiser, (x_t, t, said, previous)) for seed in SEEDS)
            words.append(f"{symmetry.name} {worst:.1g}")
    return Passed(f"kept to a share of the prediction's size: {', '.join(words)}", len(declared))


def _apart(
    subject: Subject,
    symmetry: Symmetry,
    seed: int,
    denoiser: NetworkDenoiser | ComponentDenoiser,
    given: tuple[State, torch.Tensor, State, State | None],
) -> float:
    """How far the prediction of the changed state is from the changed prediction; Failed if it is too far."""
    (x_t, t, said, previous), condition = given, subject.condition
    changed = symmetry.apply(x_t, condition, seed)
    if (apart := signature_difference(changed, x_t)) is not None:
        raise Failed(f"{symmetry.name} changes the structure of a state: {apart}")
    if gap(changed, x_t) == 0:
        raise Failed(f"{symmetry.name} leaves every state as it is")
    if gap(symmetry.apply(x_t, condition, seed), changed) != 0:
        raise Failed(f"{symmetry.name} is another change when it is made a second time with one seed")
    if not (moved := gap(subject.space.project(changed, condition), changed)) <= ROUNDING:
        raise Failed(f"{symmetry.name} takes states out of their space: projection moves them by {moved:.2g}")
    before = None if previous is None else symmetry.apply(previous, condition, seed)
    found = denoiser.raw(changed, t, _told(condition, before))
    wanted = symmetry.apply(said, condition, seed)
    if not (apart_by := gap(found, wanted)) <= ROUNDING:
        raise Failed(
            f"the network has not the symmetry of {symmetry.name}: what it says of a changed state is {apart_by:.2g} "
            f"of its size from what it said, changed; {ROUNDING:g} is allowed",
            subject.rows,
        )
    return apart_by


def _told(condition: Condition, previous: State | None) -> Condition:
    return condition if previous is None else with_previous(condition, previous)


def _double(state: State) -> State:
    return map_state(lambda part: part.double() if part.is_floating_point() else part, state)
