"""A study from its plan to its cells on disk: examine the runs, say what it will cost, and do what is not done yet.

Cells are independent: they are run in any order, by one process or several, on one machine or, a part each, on many.
What is on disk is not done again, so that a study that was killed goes on, and a study that was made larger only adds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from framework.errors import UserError
from framework.studies.about import How, tell
from framework.studies.cell import NOT_APPLICABLE, OK, Cell
from framework.studies.cost import Probe
from framework.studies.examination import Examination, examine
from framework.studies.plan import Study, compared_cells, tuning_cells
from framework.studies.progress import Price, price_table, watching
from framework.studies.runner import needs_reference, reference_file, run_cell, solve_reference
from framework.studies.runs import RunSpec, open_run, use_threads
from framework.studies.store import StudyFolder
from framework.studies.tuning import choose

Task = tuple[Callable[..., Any], tuple[Any, ...], str, float]  # what to call with what, its name, estimated seconds


@dataclass
class Outcome:
    """What became of a study: its folder, its cells, and those that are not done (of other parts)."""

    folder: Path
    cells: list[Cell]
    left: list[Cell] = field(default_factory=list)


def conduct(study: Study, specs: Sequence[RunSpec], folder: Path, how: How) -> Outcome:
    """Do all cells of a study, or one part of them.

    Raises:
        UserError: the folder holds something else, a model is missing, or the study asks for what is not there.
    """
    store = StudyFolder(folder)
    store.check_is_free(study.name)
    store.prepare()
    use_threads(how.threads)
    opened = [open_run(spec) for spec in specs]
    examined = {spec.file: examine(spec, study.protocol, folder) for spec in specs}
    probes = {name: found.probe for name, found in examined.items()}
    metrics = {spec.name: examined[spec.file].metrics for spec in specs}
    work = _Work(study, by_model(specs), probes, store, how)
    first = tuning_cells(study, opened, probes)
    expected = compared_cells(study, opened, probes)
    tell(study, specs, probes, metrics, store, how, [*first, *expected])
    Console().print(work.price([*first, *expected]))
    for spec in specs:
        _foretell(study, spec, examined[spec.file], [cell for cell in expected if cell.run == spec.name])
    untuned = bool(work.left(first))
    if first:
        work.run("tuning", first)
        if left := work.left(first):
            return Outcome(folder, [*first, *expected], left)
        expected = compared_cells(study, opened, probes, choose(study, first, metrics, store))
        tell(study, specs, probes, metrics, store, how, [*first, *expected])
    work.run("cells", expected)
    if untuned:  # the other parts had to stop when their tuning was done
        work.run("cells of other parts", expected, whole=True)
    return Outcome(folder, [*first, *expected], work.left(expected))


@dataclass
class _Work:
    """What all phases share."""

    study: Study
    specs: Mapping[tuple[str, str], RunSpec]
    probes: Mapping[str, Probe]
    store: StudyFolder
    how: How

    def price(self, cells: Sequence[Cell]) -> Any:
        """The table of what is to be paid."""
        pending = {cell.key for cell in self._pending(cells)}
        rows = []
        for spec in self.specs.values():
            own = [cell for cell in cells if self._spec(cell) == spec]
            todo = [cell for cell in own if cell.key in pending]
            solved = self._references(todo)
            seconds = sum(self._seconds(cell) for cell in todo) + sum(map(self._reference_seconds, solved.values()))
            asked = sum((cell.evaluations or 0.0) * cell.n for cell in todo)
            impossible = sum(cell.steps is None for cell in own)
            name = f"{spec.name} {spec.variant}".strip()
            each = self.probes[spec.file].per_evaluation
            rows.append(Price(name, len(own), len(own) - len(todo), impossible, asked, seconds, each))
        return price_table(rows, self.how.jobs)

    def run(self, name: str, cells: Sequence[Cell], *, whole: bool = False) -> None:
        """Do this part's cells, or all that are left, exact solutions first; cells of equal content once."""
        share = _unique(cells) if whole else _unique(cells)[self.how.part[0] - 1 :: self.how.part[1]]
        mine = self._pending(share)
        threads = self.how.threads
        solving: list[Task] = [
            (
                solve_reference,
                (cell, self._spec(cell), self.store.path, threads),
                f"{cell.run} seed {cell.seed}",
                self._reference_seconds(cell),
            )
            for cell in self._references(mine).values()
        ]
        done, drawing, copies = self.store.contents(), [], []
        for cell in mine:
            if cell.steps is not None and cell.content in done:
                copies.append(cell)
                continue
            if cell.steps is not None:
                done[cell.content] = cell.key
            arguments = (cell, self._spec(cell), self.store.path, self.probes[self._spec(cell).file], threads)
            drawing.append(
                (run_cell, arguments, f"{cell.run} {cell.method.label} {cell.budget:g}", self._seconds(cell))
            )
        total = sum(task[3] for task in [*solving, *drawing])
        if not mine:
            return
        with watching(name, len(solving) + len(drawing), total, self.how.jobs) as bar:
            for _, task in together([*solving], self.how.jobs):
                bar.finished(f"exact solution of {task[2]}", task[3])
            for _, task in together(drawing, self.how.jobs):
                bar.finished(task[2], task[3])
        for cell in copies:
            if self.store.status(done[cell.content]) == OK:
                self.store.copy_cell(done[cell.content], {**cell.record(), "status": OK, "reason": ""})
            else:  # as the other failed, so would this
                run_cell(cell, self._spec(cell), self.store.path, self.probes[self._spec(cell).file], threads)

    def left(self, cells: Sequence[Cell]) -> list[Cell]:
        """Those that are not done."""
        return [cell for cell in _unique(cells) if not self.store.done(cell.key)]

    def _pending(self, cells: Sequence[Cell]) -> list[Cell]:
        again = ("failed", NOT_APPLICABLE) if self.how.retry else ()
        return [
            cell for cell in _unique(cells) if not self.store.done(cell.key) or self.store.status(cell.key) in again
        ]

    def _references(self, cells: Sequence[Cell]) -> dict[str, Cell]:
        """A cell for each exact solution that is needed and not there."""
        found: dict[str, Cell] = {}
        for cell in cells:
            if cell.steps is not None and needs_reference(cell, open_run(self._spec(cell))):
                file = reference_file(cell, self._spec(cell))
                if not (self.store.references / file).is_file():
                    found.setdefault(file, cell)
        return found

    def _spec(self, cell: Cell) -> RunSpec:
        return self.specs[cell.run, cell.model_hash]

    def _seconds(self, cell: Cell) -> float:
        probe = self.probes[self._spec(cell).file]
        return 0.0 if cell.steps is None else probe.seconds(cell.n, cell.evaluations or 0.0, cell.protocol.batch_size)

    def _reference_seconds(self, cell: Cell) -> float:
        probe, config = self.probes[self._spec(cell).file], cell.method.guidance.config or {}
        guided = 1.0 if str(config.get("_target_", "Off")).endswith("Off") else 2.0
        return cell.n * guided * probe.reference * probe.per_evaluation


def _foretell(study: Study, spec: RunSpec, found: Examination, cells: Sequence[Cell]) -> None:
    """Say which differences the study can detect, from the pilot's scatter."""
    from framework.studies.foresight import foresee  # pandas and SciPy's distributions: only here

    methods = len({cell.method.label for cell in cells if cell.steps is not None})
    if len(found.pilot) < 2 or methods < 2:
        return
    pilot = [{name: score for name, score in each.items() if study.protocol.keeps(name)} for each in found.pilot]
    said = foresee(pilot, n=study.protocol.n * len(study.seeds), methods=methods)
    if said:
        print(f"{spec.name}: at this size, in four of five such studies,")
        print("\n".join(f"  {each}" for each in said), flush=True)


def by_model(specs: Sequence[RunSpec]) -> dict[tuple[str, str], RunSpec]:
    """Runs by name and model.

    Raises:
        UserError: two of one name are the same model.
    """
    found = {(spec.name, spec.model_hash): spec for spec in specs}
    if len(found) < len(specs):
        raise UserError("two of the runs are the same model; name each once")
    return found


def together(tasks: Sequence[Task], jobs: int) -> Iterator[tuple[Any, Task]]:
    """What tasks return, each with its task, as they end.

    Raises:
        UserError: several processes are asked for, and joblib is not installed.
    """
    if jobs == 1 or len(tasks) < 2:
        for task in tasks:
            yield task[0](*task[1]), task
        return
    try:
        from joblib import Parallel, delayed
    except ImportError as error:
        raise UserError(f"jobs={jobs} needs joblib ({error}): pip install 'diffract[study]'; or jobs=1") from error
    pool = Parallel(n_jobs=jobs, return_as="generator_unordered", batch_size=1)
    results: Iterable[Any] = pool(delayed(_numbered)(i, task[0], task[1]) for i, task in enumerate(tasks))
    for i, result in results:
        yield result, tasks[i]


def _numbered(i: int, function: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[int, Any]:
    return i, function(*arguments)


def _unique(cells: Sequence[Cell]) -> list[Cell]:
    return list({cell.key: cell for cell in cells}.values())
