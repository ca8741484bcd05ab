"""Checks of the space: where noise lives, what projection does, how many dimensions there are."""

from __future__ import annotations

import torch
from torch import Tensor

from framework.noise import SampleKey
from framework.spaces import Space
from framework.state import State, combine, components, of_components
from framework.testing.compare import gap, leaves, signature_difference
from framework.testing.subject import Failed, Passed, Subject
from framework.testing.tokens import ALONE, certainties, has_parts, random_tokens, spaces_of

MOST = 2_000_000  # numbers that are drawn
DRAWS = 64
SIGMAS = 6.0  # a deviation beyond so many standard errors is no accident
ROUNDING = 1e-4


def _draws(subject: Subject) -> int:
    numbers = sum(part.numel() for part in leaves(subject.state).values())
    return max(4, min(DRAWS, MOST // max(numbers, 1)))


def _noise(subject: Subject, draw: int) -> State:
    key = SampleKey(1, tuple(range(draw * subject.rows, (draw + 1) * subject.rows)))
    return subject.space.noise(key, subject.condition)


def noise(subject: Subject) -> Passed:
    """Noise has the states' structure, lies in the space, and is a projection of standard noise, of unit variance where
    nothing but padding is taken away: the whole of diffusion assumes it. That of tokens is float64, even in [0, 1).
    """
    first = _noise(subject, 0)
    if (apart := signature_difference(first, _with_uniforms(subject))) is not None:
        raise Failed(f"noise has not the structure of the states: {apart}")
    support = leaves(subject.support())
    count = _draws(subject)
    sums = {name: torch.zeros_like(part, dtype=torch.float64) for name, part in leaves(first).items()}
    wanted = {name: torch.zeros_like(part) for name, part in sums.items()}
    for draw in range(count):
        z = _noise(subject, draw)
        moved = gap(subject.space.project(z, subject.condition), z)
        for name, part in leaves(z).items():
            outside = part[~support[name]]
            if wrong := int((outside != 0).sum()):
                raise Failed(
                    f"noise is not zero in padding: {wrong} of {outside.numel()} such entries of {name}; let "
                    "space.noise end with self.project(z, condition)"
                )
            sums[name] += _standard(name, part, support[name]) if name in subject.tokens else part.double().square()
        if not moved <= ROUNDING:
            raise Failed(f"noise is not in the space: projection moves it by {moved:.3g} of its size")
        projected = subject.space.project(subject.gaussian(1000 + draw), subject.condition)
        for name, part in leaves(projected).items():
            wanted[name] += support[name].double() if name in subject.tokens else part.double().square()
    words = []
    for name, real in support.items():
        words.append(f"{name} {_compare_variances(name, sums[name], wanted[name], real, count):.3f}")
    return Passed(f"variances, beside those of projected standard noise: {', '.join(words)}", count * subject.rows)


def _with_uniforms(subject: Subject) -> State:
    """The state with float64 in the place of tokens."""
    parts = {name: p.double() if (name or ALONE) in subject.tokens else p for name, p in _parts(subject).items()}
    return of_components(parts)


def _parts(subject: Subject) -> dict[str, Tensor]:
    return components(subject.state)


def _standard(name: str, uniforms: Tensor, support: Tensor) -> Tensor:
    """The squares of uniforms when their mean is 0 and their variance 1, and zeros in padding. Failed outside [0, 1)"""
    if wrong := int(((uniforms < 0) | (uniforms >= 1)).sum()):
        raise Failed(f"noise of tokens is uniform: {wrong} of {uniforms.numel()} entries of {name} are not in [0, 1)")
    return torch.where(support, 12 * (uniforms - 0.5).square(), 0.0)


def _compare_variances(name: str, sums: Tensor, wanted: Tensor, real: Tensor, draws: int) -> float:
    """The ratio of the variances over all real entries. Failed if it, or an entry's over the rows, is not 1."""
    entries = int(real.sum())
    if entries == 0:
        return 1.0
    ratio = float(sums[real].sum() / wanted[real].sum())
    if abs(ratio - 1) > SIGMAS * (4 / (draws * entries)) ** 0.5 + 1e-3:
        raise Failed(
            f"the noise of {name} has {ratio:.3f} times the variance of standard noise in its space "
            f"({draws} draws of {entries} entries)"
        )
    rows = real.sum(0)
    seen = rows > 0
    ours, theirs = sums.sum(0)[seen], wanted.sum(0)[seen]
    limit = (SIGMAS + 2) * (4 / (draws * rows[seen].double())).sqrt()
    wrong = (ours - theirs).abs() > limit * torch.maximum(ours, theirs)
    if bool(wrong.any()):
        raise Failed(f"{int(wrong.sum())} of {wrong.numel()} entries of {name} have noise of another variance")
    return ratio


def projection(subject: Subject) -> Passed:
    """project is linear and idempotent: the sampler projects sums of states, again and again. Tokens and their
    probabilities are projected alike.
    """

    def project(x: State) -> State:
        return subject.space.project(x, subject.condition)

    rows = torch.arange(subject.rows)
    x, y = subject.said(rows, 1), subject.said(rows, 2)
    once = project(x)
    if (apart := signature_difference(once, x)) is not None:
        raise Failed(f"project changes the structure of a state: {apart}")
    if not (moved := gap(project(once), once)) <= ROUNDING:
        raise Failed(f"project is not idempotent: a second time it moves a state by {moved:.3g} of its size")
    summed = project(combine([(2.0, x), (-3.0, y)]))
    if not (bent := gap(summed, combine([(2.0, once), (-3.0, project(y))]))) <= ROUNDING:
        raise Failed(f"project is not linear: 2 x - 3 y goes {bent:.3g} of its size from where 2 P x - 3 P y is")
    if subject.tokens:
        _projected_tokens(subject)
    return Passed("idempotent and linear" + ("; tokens like their probabilities" * bool(subject.tokens)), subject.rows)


def _projected_tokens(subject: Subject) -> None:
    """Failed if tokens become others when they are projected twice, or where their probabilities are."""
    parts = _parts(subject)
    drawn = {
        name: random_tokens(space, part, 31) if (space := subject.tokens.get(name or ALONE)) is not None else part
        for name, part in parts.items()
    }
    once = subject.space.project(of_components(drawn), subject.condition)
    if (apart := signature_difference(once, subject.state)) is not None:
        raise Failed(f"project changes the structure of tokens: {apart}")
    twice = leaves(subject.space.project(once, subject.condition))
    sure = leaves(subject.space.project(certainties(once, subject.tokens), subject.condition))
    support = leaves(subject.support())
    for name in subject.tokens:
        here, real = leaves(once)[name], support[name]
        if bool(here[~real].any()):
            raise Failed(f"project leaves tokens of {name} other than zero in padding")
        if not torch.equal(twice[name], here):
            raise Failed(f"project is not idempotent: a second time it changes tokens of {name}")
        if not torch.equal(sure[name].argmax(-1)[real], here[real]) or not bool((sure[name].sum(-1)[real] == 1).all()):
            raise Failed(f"project takes tokens of {name} to other places than their probabilities")


def degrees_of_freedom(subject: Subject) -> Passed:
    """degrees_of_freedom is the noise's expected squared length, for each row and component, and of tokens the number
    of entries that are drawn: losses are divided by it.
    """
    rows, count = subject.rows, _draws(subject)
    freedom = subject.space.degrees_of_freedom(subject.condition)
    if tuple(freedom.shape) != (rows,) or freedom.dtype != torch.float64:
        raise Failed(f"degrees_of_freedom is {freedom.dtype} {tuple(freedom.shape)}, not float64 ({rows},)")
    squares = {name: torch.zeros(rows, dtype=torch.float64) for name in spaces_of(subject.space)}
    for draw in range(count):
        for name, part in leaves(_noise(subject, draw)).items():
            component = name.split(".")[0] if has_parts(subject.space) else ALONE
            squares[component] += part.double().square().flatten(1).sum(1)
    words = []
    for name, space in spaces_of(subject.space).items():
        if name in subject.tokens:
            words.append(_free_entries(subject, name, space))
        else:
            words.append(_free_dimensions(subject, name, space, squares[name] / count, count))
    if has_parts(subject.space):
        parts = [space.degrees_of_freedom(subject.condition) for space in subject.space.components.values()]
        if not torch.equal(torch.stack(parts).sum(0), freedom):
            raise Failed("the degrees of freedom of a state are not the sum of its components'")
    return Passed("; ".join(words), rows)


def _free_dimensions(subject: Subject, name: str, space: Space, mean: Tensor, draws: int) -> str:
    """The degrees of freedom of a continuous component, beside its noise's mean squared length (B,)."""
    freedom = space.degrees_of_freedom(subject.condition)
    wrong = (mean - freedom).abs() > SIGMAS * (2 * freedom / draws).sqrt() + 1e-9
    if bool(wrong.any()):
        row = int(wrong.nonzero()[0])
        raise Failed(
            f"row {row} says {float(freedom[row]):g} degrees of freedom of {name}, and its noise has a mean squared "
            f"length of {float(mean[row]):.1f} ({int(wrong.sum())} of {subject.rows} rows, {draws} draws)",
            subject.rows,
        )
    ratio = float(mean.sum() / freedom.sum().clamp(min=1e-9))
    return f"{name} {freedom.min():g} to {freedom.max():g}; the noise's squared length is {ratio:.3f} of it"


def _free_entries(subject: Subject, name: str, space: Space) -> str:
    """The degrees of freedom of tokens: as many different uniforms are drawn."""
    freedom = space.degrees_of_freedom(subject.condition)
    uniforms = leaves(_noise(subject, 0))[name]
    for row, drawn in enumerate(uniforms):
        if (different := len(drawn[drawn != 0].unique())) != int(freedom[row]):
            raise Failed(
                f"row {row} says {float(freedom[row]):g} degrees of freedom of {name}, and its noise has {different} "
                "different numbers: one is drawn for each free entry",
                subject.rows,
            )
    return f"{name} {freedom.min():g} to {freedom.max():g} free tokens"


def noise_of_a_sample(subject: Subject) -> Passed:
    """The noise of a sample depends on its own index and condition, and not on the batch around it: so a sample is the
    same however samples are divided among batches and devices.
    """
    whole = leaves(subject.space.noise(SampleKey(3, tuple(range(subject.rows))), subject.condition))
    for row in range(subject.rows):
        alone = leaves(subject.space.noise(SampleKey(3, (row,)), subject.condition[row : row + 1]))
        for name, part in alone.items():
            if not torch.equal(part[0], whole[name][row]):
                raise Failed(f"the noise of {name} of sample {row} is another when it is drawn alone", row + 1)
    return Passed("drawn alone and together, each sample has the same noise", subject.rows)
