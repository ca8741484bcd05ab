"""Checks of sampling: in whatever batches, with the exact denoiser, with all solvers."""

from __future__ import annotations

import textwrap

import torch

from framework.grids import UniformTime
from framework.noise import SampleKey
from framework.processes.by_component import ByComponent
from framework.processes.categorical import Categorical, Uniform
from framework.sampler import sample
from framework.schedules import Flow
from framework.solvers.categorical.ancestral import Ancestral
from framework.solvers.dpmpp import DPMpp2M
from framework.solvers.splitting import fitting
from framework.state import Condition, State, concatenate
from framework.testing.compare import gap, leaves
from framework.testing.oracle import Oracle, distances, far_apart, other_tokens
from framework.testing.subject import Failed, Passed, Skipped, Subject
from framework.testing.training import trained
from framework.testing.walks import draw, prediction, refusal, some_solvers, two_solvers

SAME = 1e-3  # of a sample's size: what another order of summation may do to it in a few steps
ORACLE_STEPS, ORACLE_ITEMS, ORACLE_SAMPLES = 100, 6, 16
NEAR = 0.05  # of the smallest distance between items
SOLVED = 2  # rows that each solver samples
WORDS = 90  # of a solver's refusal


def batch_invariance(subject: Subject) -> Passed:
    """A sample is the same in whatever batch it is drawn, with a deterministic and with a stochastic solver: so a
    result does not depend on the memory of the machine that it came from.
    """
    return _same_in(subject, "another batch", [[0], list(range(1, subject.rows))])


def order_invariance(subject: Subject) -> Passed:
    """A sample is the same wherever it stands in its batch: nothing leaks from one row to the next."""
    return _same_in(subject, "another place of its batch", [list(reversed(range(subject.rows)))])


def _same_in(subject: Subject, where: str, divisions: list[list[int]]) -> Passed:
    if subject.rows < 2:
        raise Skipped("one item is no batch")
    found = []
    if subject.tokens:  # drawn tokens show a difference of their laws only by chance
        found.append(f"predictions {_same_predictions(subject, where, divisions):.1g}")
    for name, solver in two_solvers(subject).items():
        whole = draw(subject, subject.shaken, solver, list(range(subject.rows)))
        for part in leaves(whole).values():
            if not bool(torch.isfinite(part).all()):
                raise Failed(f"{name} samples numbers that are not finite from a network with random weights")
        parts = concatenate([draw(subject, subject.shaken, solver, rows) for rows in divisions])
        order = torch.tensor([row for rows in divisions for row in rows])
        apart = gap(parts, whole[order])
        if not apart <= SAME:
            raise Failed(
                f"with {name} a sample is another in {where}: {_moved(parts, whole[order])}; the network (or the "
                "space) mixes rows",
                subject.rows,
            )
        found.append(f"{name} {apart:.1g}")
    return Passed(f"the same to a share of their size: {', '.join(found)}", 2 * subject.rows)


def _same_predictions(subject: Subject, where: str, divisions: list[list[int]]) -> float:
    """How far the network's own outputs move; Failed if it is too far."""
    whole = prediction(subject, subject.shaken, list(range(subject.rows)))
    parts = concatenate([prediction(subject, subject.shaken, rows) for rows in divisions])
    order = torch.tensor([row for rows in divisions for row in rows])
    if not (apart := gap(parts, whole[order])) <= SAME:
        raise Failed(
            f"what the network says of a sample is something else in {where}: {_moved(parts, whole[order])}; it mixes "
            "rows",
            subject.rows,
        )
    return apart


def _moved(parts: State, whole: State) -> str:
    """Which parts of a state are others, in words."""
    found = []
    for name, part in leaves(whole).items():
        if part.is_floating_point():
            found += [f"{name} moves by {apart:.3g} of its size"] if (apart := gap(leaves(parts)[name], part)) else []
        elif wrong := int((leaves(parts)[name] != part).sum()):
            found.append(f"{wrong} of {part.numel()} tokens of {name} change")
    return ", ".join(found)


def oracle(subject: Subject) -> Passed:
    """With the exact posterior of a few items as denoiser, a solver gives these items back, each token of theirs, and
    more than one of them: states, noise and projection fit together.

    Only items whose padding is the same can be compared; the largest set of them is taken. Tokens become uniform noise,
    whatever the process of the model: a mask is lifted for good, and two that are lifted in one step may contradict
    each other, which is no fault of the states.
    """
    items, condition = _alike(subject)
    chosen = far_apart(items, ORACLE_ITEMS)
    if len(chosen) < 2:
        raise Failed(f"{len(condition)} items of the data have one and the same state: encode loses what they are")
    items, condition = items[chosen], condition[chosen]
    apart = distances(items, items) + torch.diag(torch.full((len(items),), float("inf"), dtype=torch.float64))
    closest = float(apart.min())
    if closest < 0.2:
        raise Skipped(f"items lie too close to tell them apart ({closest:.2g})")
    rows = torch.arange(ORACLE_SAMPLES) % len(items)
    key = SampleKey(13, tuple(range(ORACLE_SAMPLES)))
    times = UniformTime()(Flow(), ORACLE_STEPS)
    process = ByComponent(stationary=Uniform()).process(subject.space, Flow())
    solver = Ancestral() if isinstance(process, Categorical) else fitting(DPMpp2M(), process)
    denoiser = Oracle(items, process, Flow())
    samples = sample(denoiser, solver, times, subject.space, condition[rows], key, process=process)
    nearest = distances(samples, items).min(1)
    worst, reached = float(nearest.values.max()) / closest, len(nearest.indices.unique())
    if not worst <= NEAR:
        raise Failed(
            f"samples of the exact denoiser end up to {worst:.3g} of the smallest distance between {len(items)} items "
            f"({closest:.3g}) from the nearest of them; {NEAR} is allowed",
            ORACLE_SAMPLES,
        )
    if wrong := other_tokens(samples, items, nearest.indices):
        raise Failed(f"{wrong} of {ORACLE_SAMPLES} samples of the exact denoiser have a token that no item has there")
    if reached < 2:
        raise Failed(f"{ORACLE_SAMPLES} samples of the exact denoiser all end at one of {len(items)} items")
    words = f"{ORACLE_SAMPLES} samples end at {reached} of {len(items)} items"
    equal = ", all tokens equal" if subject.tokens else ""
    return Passed(f"{words}, at most {worst:.1g} of their smallest distance away{equal}", ORACLE_SAMPLES)


def _alike(subject: Subject) -> tuple[State, Condition]:
    """The largest set of items that share a space: where one projection takes one noise to one place."""
    found = [subject.encode(batch) for batch in subject.batches]
    best: tuple[State, Condition] | None = None
    for state, condition in found:
        single = subject.gaussian(17, state[:1])
        projected = leaves(subject.space.project(concatenate([single] * len(condition)), condition))
        flat = torch.cat([part.flatten(1).double() for part in projected.values()], dim=1)
        _, group = torch.unique(flat != 0, dim=0, return_inverse=True)
        rows = (group == group.mode().values).nonzero()[:, 0]
        if best is None or len(rows) > len(best[1]):
            best = state[rows], condition[rows]
    assert best is not None
    if len(best[1]) < 2:
        raise Skipped(f"no two of {sum(len(condition) for _, condition in found)} items have the same padding")
    return best


def solvers(subject: Subject) -> Passed:
    """Every solver that can undo such a process samples finite numbers, and tokens that there are, from a network after
    two steps of training: they all work on such states.
    """
    given = some_solvers(tokens=bool(subject.tokens)) if subject.solvers is None else subject.solvers
    if not given:
        raise Skipped("no solvers were given")
    network = trained(subject).network.eval()
    rows = list(range(min(SOLVED, subject.rows)))
    wrong, worked, refused = [], [], []
    for name, solver in given.items():
        if (reason := refusal(subject, solver, rows)) is not None:
            refused.append(f"{name} ({textwrap.shorten(reason, WORDS, placeholder=' ...')})")
            continue
        try:
            drawn = draw(subject, network, solver, rows)
        except Exception as error:  # what a solver does is to be told beside what the others do
            wrong.append(f"{name} raises {type(error).__name__}: {error}")
            continue
        if (fault := _fault(subject, drawn, rows)) is not None:
            wrong.append(f"{name} {fault}")
        else:
            worked.append(name)
    if wrong:
        raise Failed(f"{len(wrong)} of {len(given)} solvers: {'; '.join(wrong)}", len(given))
    if not worked:
        raise Failed(f"no solver can undo what becomes of such states: {'; '.join(refused)}", len(given))
    besides = f"; {len(refused)} skipped: {'; '.join(refused)}" if refused else ""
    return Passed(f"finite samples of {len(worked)} solvers: {', '.join(worked)}{besides}", len(worked))


def _fault(subject: Subject, drawn: State, rows: list[int]) -> str | None:
    """What is wrong with a sample, in words."""
    condition = subject.condition[torch.tensor(rows)]
    projected = leaves(subject.space.project(drawn, condition))
    for name, part in leaves(drawn).items():
        space = subject.tokens.get(name)
        if space is None:
            if not bool(torch.isfinite(part).all()):
                return "is not finite"
        elif part.is_floating_point() or int(part.min()) < 0 or int(part.max()) >= space.classes:
            return f"leaves {name} other than tokens of 0 to {space.classes - 1}"
        elif not torch.equal(projected[name], part):
            return f"leaves {name} outside of its space"
    return None
