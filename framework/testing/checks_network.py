"""Checks of the backbone: what it returns, what it looks at, and which of its parameters learn."""

from __future__ import annotations

import torch
from torch import Tensor

from framework.noise import BatchKey
from framework.processes.by_component import parts_of
from framework.processes.gaussian import Gaussian
from framework.self_conditioning import takes_part, with_previous
from framework.state import Condition, State, batch_size, combine, components, map_state, of_components
from framework.testing.compare import gap, leaves, signature_difference, unequal_keys
from framework.testing.subject import Failed, Passed, Subject, shaken
from framework.testing.tokens import probabilities

NOTICED = 1e-5  # the share of its size by which an output moves when the network looks at what was changed
NAMED = 8  # parameters that a message names


def network_output(subject: Subject) -> Passed:
    """The network returns float32 of the state's structure, and for tokens logits of the classes on one more axis,
    finite, for batches of 1 and of 3; projected, it is zero wherever the space is.
    """
    network = subject.shaken
    with torch.no_grad():
        for rows in (1, 3):
            index = torch.arange(rows) % subject.rows
            x_t, level, condition = _input(subject, index)
            y = network(x_t, level, condition)
            if isinstance(y, Tensor) is not isinstance(x_t, Tensor) or batch_size(y) != rows:
                raise Failed(f"for {rows} rows the network returns a {type(y).__name__} of {batch_size(y)} rows")
            if (apart := signature_difference(y, subject.said(index, 0))) is not None:
                raise Failed(f"the network's output has not the structure of the state: {apart}{_logits(subject)}")
            support = leaves(subject.support())
            projected = leaves(subject.space.project(y, condition))
            for name, part in leaves(y).items():
                if part.dtype != torch.float32:
                    raise Failed(f"the network returns {name} in {part.dtype}, not torch.float32")
                if bad := int((~torch.isfinite(part)).sum()):
                    raise Failed(f"{bad} of {part.numel()} entries of the network's {name} are not finite")
                if bool(projected[name][~support[name][index]].any()):
                    raise Failed(f"project leaves the network's {name} other than zero in padding")
    return Passed("the state's structure in float32 for 1 and for 3 rows", 4)


def _logits(subject: Subject) -> str:
    words = [f"{name} ends with {space.classes} logits" for name, space in subject.tokens.items()]
    return f" ({', '.join(words)})" if words else ""


def network_inputs(subject: Subject) -> Passed:
    """The output depends on each component of the state, on the noise level, on what the condition says, and on what
    the network said last if it reads that: a network that is deaf to one of them trains, and samples badly.
    """
    network, rows = subject.shaken, torch.arange(subject.rows)
    x_t, level, condition = _input(subject, rows)
    other, late, _ = _input(subject, rows, time=0.9, seed=8)
    nothing = subject.modality.null(condition)
    said = unequal_keys(condition, nothing)
    changes: dict[str, tuple[State, Tensor, Condition]] = {"noise level": (x_t, late, condition)}
    for name in components(x_t):
        mixed = of_components({**components(x_t), name: components(other)[name]})
        changes[f"state ({name})" if name else "state"] = (mixed, level, condition)
    if said:
        changes[f"condition ({', '.join(said)})"] = (x_t, level, nothing)
    if takes_part(network):
        changes["prediction that it said last"] = (x_t, level, with_previous(condition, _previous(subject, condition)))
    found = {}
    with torch.no_grad():
        y = network(x_t, level, condition)
        for what, given in changes.items():
            found[what] = gap(network(*given), y)
            if not found[what] > NOTICED:
                raise Failed(
                    f"the network does not look at the {what}: its output moves by {found[what]:.2g} of its size"
                )
        if takes_part(network):
            silent = with_previous(condition, map_state(torch.zeros_like, _previous(subject, condition)))
            if not (apart := gap(network(x_t, level, silent), y)) <= NOTICED:
                raise Failed(f"a former prediction of zeros is not as if there were none: {apart:.2g} apart")
    words = ", ".join(f"{what} {moved:.2g}" for what, moved in found.items())
    return Passed(f"the output moves with {words}", subject.rows)


def _previous(subject: Subject, condition: Condition) -> State:
    """A clean prediction as a network may have made it before."""
    said = probabilities(subject.said(torch.arange(subject.rows), 9), subject.tokens)
    return subject.space.project(said, condition)


def network_gradients(subject: Subject) -> Passed:
    """A gradient reaches every parameter that is to be trained, once no layer is zero: one that none reaches is dead.

    Half of the rows have the null condition, as in training.
    """
    network = shaken(subject.backbone).eval()
    x_t, level, condition = _input(subject, torch.arange(subject.rows))
    nothing = subject.modality.null(condition)
    for given in (condition, nothing):
        told = with_previous(given, _previous(subject, given)) if takes_part(network) else given
        y = subject.space.project(network(x_t, level, told), given)
        weights = leaves(subject.said(torch.arange(subject.rows), 6))
        total = torch.stack([(part * weights[name]).sum() for name, part in leaves(y).items()]).sum()
        if not total.requires_grad:
            raise Failed("the network's output carries no gradient: it depends on no parameter")
        total.backward()
    trained = [(name, p) for name, p in network.named_parameters() if p.requires_grad]
    frozen = sum(1 for _ in network.parameters()) - len(trained)
    if not trained:
        raise Failed("the backbone has no parameters to train")
    if bad := [name for name, p in trained if p.grad is not None and not bool(torch.isfinite(p.grad).all())]:
        raise Failed(f"gradients that are not finite: {_names(bad)}", len(trained))
    dead = [name for name, p in trained if p.grad is None or not bool(p.grad.any())]
    if dead:
        raise Failed(
            f"no gradient reaches {len(dead)} of {len(trained)} parameters: {_names(dead)}; use or remove them",
            len(trained),
        )
    words = f"; {frozen} are frozen" if frozen else ""
    return Passed(f"a gradient reaches all of {len(trained)} parameters{words}", len(trained))


def _names(names: list[str]) -> str:
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")


def _input(subject: Subject, rows: Tensor, time: float = 0.4, seed: int = 7) -> tuple[State, Tensor, Condition]:
    """What a denoiser gives the network at a time for some rows: a noisy state, a noise level, and a condition."""
    x_0, condition = subject.state[rows], subject.condition[rows]
    t = torch.full((len(rows),), time, dtype=torch.float64)
    key = BatchKey(seed, 0, size=len(rows))
    x_t, _ = subject.process.corrupt(x_0, t, key, condition)
    parts = components(x_t)
    for name, part in parts_of(subject.process).items():
        if isinstance(part, Gaussian):
            scale = subject.parametrization.input_scale(part.schedule.alpha(t), part.schedule.sigma(t))
            if not name:
                return combine([(scale, x_t)]), subject.noise_level(subject.schedule, t).float(), condition
            parts[name] = combine([(scale, parts[name])])  # type: ignore[assignment]
    return of_components(parts), subject.noise_level(subject.schedule, t).float(), condition
