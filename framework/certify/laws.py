"""The laws of every solver, whatever it samples: they ask for samples and look at nothing else.

batch_split      sample i is the same alone, in another order and in any batch
seed             one seed draws one sample, bit by bit; another seed draws another
threads          four runs at once are the four runs one after the other, bit by bit
duplicate_times  times that do not decrease strictly are refused, with an error that says so
input_kept       the initial state that is handed in is not written to, and its type is kept
few_steps        one, two and three steps give finite states
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
from tensordict import TensorDict
from torch import Tensor

from framework.certify.bed import Bed, draw_state, key_of
from framework.certify.check import Check, within
from framework.errors import UserError
from framework.grids import UniformTime
from framework.sampler import Loop
from framework.schedules import Schedule
from framework.solvers.plan import Solver
from framework.state import State

ROWS, STEPS = 12, 8
SPLIT_TOLERANCE = 1e-9  # vectorised functions may round a row in other ways in another batch


@dataclass(frozen=True)
class Bench:
    """A solver on a bed and a schedule, at even times."""

    solver: Solver | Loop
    bed: Bed
    schedule: Schedule

    def draw(
        self,
        samples: Sequence[int] = tuple(range(ROWS)),
        seed: int = 0,
        steps: int = STEPS,
        initial: State | None = None,
    ) -> State:
        """Samples with these indices."""
        times = UniformTime()(self.schedule, steps)
        return draw_state(self.bed, self.solver, self.schedule, times, samples, seed, initial)


def parts(state: State) -> Iterable[Tensor]:
    """The tensors of a state."""
    if isinstance(state, TensorDict):
        for name in sorted(state.keys()):
            yield from parts(state[name])
    else:
        yield state


def distance(a: State, b: State) -> float:
    """The largest difference between two states' numbers; not a number where one of them is not."""
    return max(float((x.double() - y.double()).abs().max()) for x, y in zip(parts(a), parts(b), strict=True))


def finite(state: State) -> bool:
    """Whether all numbers are."""
    return all(bool(torch.isfinite(part).all()) for part in parts(state))


def batch_split(bench: Bench) -> Check:
    whole = bench.draw()
    back = bench.draw(tuple(reversed(range(ROWS))))
    thirds = [bench.draw(tuple(range(first, first + 3))) for first in range(0, ROWS, 3)]
    alone = bench.draw((ROWS - 1,))
    worst = max(
        distance(back.flip(0) if isinstance(back, Tensor) else back[torch.arange(ROWS - 1, -1, -1)], whole),
        *(distance(third, whole[3 * i : 3 * i + 3]) for i, third in enumerate(thirds)),
        distance(alone, whole[-1:]),
    )
    return within("batch_split", worst, SPLIT_TOLERANCE, "largest difference alone, reversed and in other batches")


def seed(bench: Bench) -> Check:
    first, again, other = bench.draw(seed=1), bench.draw(seed=1), bench.draw(seed=2)
    repeats, differs = distance(first, again) == 0, distance(first, other) > 0
    return Check(
        "seed", repeats and differs, "one seed, one sample" if repeats and differs else
        "two runs of one seed differ" if not repeats else "two seeds draw the same samples",
    )  # fmt: skip


def threads(bench: Bench) -> Check:
    def run(number: int) -> State:
        return bench.draw(seed=number)

    alone = [run(number) for number in range(8)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(run, range(8)))
    worst = max(distance(a, b) for a, b in zip(alone, together, strict=True))
    return within("threads", worst, 0.0, "largest difference between runs in four threads and alone")


def duplicate_times(bench: Bench) -> Check:
    times = torch.tensor([1.0, 0.5, 0.5, 0.0], dtype=torch.float64)
    try:
        draw_state(bench.bed, bench.solver, bench.schedule, times, (0,))
    except UserError as error:
        said = "decrease" in str(error)
        return Check("duplicate_times", said, f"refused: {error}")
    return Check("duplicate_times", False, "times 1, 0.5, 0.5, 0 were walked without a word")


def input_kept(bench: Bench) -> Check:
    samples = (0, 1, 2)
    condition, first = bench.bed.condition(samples), UniformTime()(bench.schedule, STEPS)[0]
    initial = bench.bed.process(bench.schedule).prior(first, key_of(samples), condition)
    before = initial.clone()
    types = [part.dtype for part in parts(bench.draw(samples, initial=initial))]
    untouched, kept = distance(before, initial) == 0, types == [part.dtype for part in parts(initial)]
    return Check(
        "input_kept", untouched and kept, "initial state not written to, type kept" if untouched and kept else
        "the initial state was written to" if not untouched else f"the samples' types are {types}",
    )  # fmt: skip


def few_steps(bench: Bench) -> Check:
    bad = [steps for steps in (1, 2, 3) if not finite(bench.draw(steps=steps))]
    said = f"not finite at {bad} steps" if bad else "finite at 1, 2 and 3 steps"
    return Check("few_steps", not bad, said)


COMMON = (batch_split, seed, threads, duplicate_times, input_kept, few_steps)
