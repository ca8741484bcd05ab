"""Checks of sampling: in whatever batches, with the exact denoiser, with all solvers."""

from __future__ import annotations

import torch

from framework.grids import UniformTime
from framework.noise import SampleKey
from framework.sampler import Loop, sample
from framework.schedules import Flow
from framework.solvers.ancestral import EulerAncestral
from framework.solvers.dpmpp import DPMpp2M
from framework.solvers.plan import Solver
from framework.state import Condition, State, concatenate
from framework.testing.compare import gap, leaves
from framework.testing.oracle import Oracle, distances, far_apart
from framework.testing.subject import Failed, Passed, Skipped, Subject
from framework.testing.training import trained

STEPS = 4
SAME = 1e-3  # of a sample's size: what another order of summation may do to it in a few steps
ORACLE_STEPS, ORACLE_ITEMS, ORACLE_SAMPLES = 100, 6, 16
NEAR = 0.05  # of the smallest distance between items
SOLVED = 2  # rows that each solver samples


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
    solvers: dict[str, Solver] = {"DPMpp2M": DPMpp2M(), "EulerAncestral": EulerAncestral()}
    for name, solver in solvers.items():
        whole = _draw(subject, subject.shaken, solver, list(range(subject.rows)))
        for part in leaves(whole).values():
            if not bool(torch.isfinite(part).all()):
                raise Failed(f"{name} samples numbers that are not finite from a network with random weights")
        parts = concatenate([_draw(subject, subject.shaken, solver, rows) for rows in divisions])
        order = torch.tensor([row for rows in divisions for row in rows])
        apart = gap(parts, whole[order])
        if not apart <= SAME:
            raise Failed(
                f"with {name} a sample is another in {where}: it moves by {apart:.3g} of its size; the network (or the "
                "space) mixes rows",
                subject.rows,
            )
        found.append(f"{name} {apart:.1g}")
    return Passed(f"the same to a share of their size: {', '.join(found)}", 2 * subject.rows)


def _draw(subject: Subject, network: torch.nn.Module, solver: Solver | Loop, rows: list[int]) -> State:
    """Samples with the conditions of some rows of the data, in an order."""
    denoiser = subject.model(network).denoiser()
    times = UniformTime()(subject.schedule, STEPS)
    condition, key = subject.condition[torch.tensor(rows)], SampleKey(11, tuple(rows))
    with torch.no_grad():
        return sample(denoiser, solver, times, subject.space, condition, key)


def oracle(subject: Subject) -> Passed:
    """With the exact posterior mean of a few items as denoiser, a deterministic solver gives these items back, and more
    than one of them: states, noise and projection fit together.

    Only items whose padding is the same can be compared; the largest set of them is taken.
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
    samples = sample(Oracle(items), DPMpp2M(), times, subject.space, condition[rows], key)
    nearest = distances(samples, items).min(1)
    worst, reached = float(nearest.values.max()) / closest, len(nearest.indices.unique())
    if not worst <= NEAR:
        raise Failed(
            f"samples of the exact denoiser end up to {worst:.3g} of the smallest distance between {len(items)} items "
            f"({closest:.3g}) from the nearest of them; {NEAR} is allowed",
            ORACLE_SAMPLES,
        )
    if reached < 2:
        raise Failed(f"{ORACLE_SAMPLES} samples of the exact denoiser all end at one of {len(items)} items")
    words = f"{ORACLE_SAMPLES} samples end at {reached} of {len(items)} items"
    return Passed(f"{words}, at most {worst:.1g} of their smallest distance away", ORACLE_SAMPLES)


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
    """Every solver samples finite numbers from a network after two steps of training: they all work on such states."""
    if not subject.solvers:
        raise Skipped("no solvers were given")
    network = trained(subject).network.eval()
    rows = list(range(min(SOLVED, subject.rows)))
    wrong = []
    for name, solver in subject.solvers.items():
        try:
            drawn = _draw(subject, network, solver, rows)
        except Exception as error:  # what a solver does is to be told beside what the others do
            wrong.append(f"{name} raises {type(error).__name__}: {error}")
            continue
        if not all(bool(torch.isfinite(part).all()) for part in leaves(drawn).values()):
            wrong.append(f"{name} is not finite")
    if wrong:
        raise Failed(f"{len(wrong)} of {len(subject.solvers)} solvers: {'; '.join(wrong)}", len(subject.solvers))
    return Passed(
        f"finite samples of {len(subject.solvers)} solvers: {', '.join(subject.solvers)}", len(subject.solvers)
    )
