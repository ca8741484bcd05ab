"""The one function that runs the checks."""

from __future__ import annotations

import copy
import time
import traceback
import warnings
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import nn

from framework.build import MODEL_FOLDER, Allow
from framework.denoiser import NoiseLevel
from framework.errors import UserError
from framework.modality import Modality
from framework.objectives.components import ComponentObjective
from framework.objectives.objective import Objective
from framework.parametrizations import Parametrization
from framework.plugins import nearest
from framework.processes.by_component import ByComponent
from framework.sampler import Loop
from framework.schedules import Schedule
from framework.solvers.plan import Solver
from framework.testing import (
    checks_conditions,
    checks_contract,
    checks_data,
    checks_network,
    checks_output,
    checks_sampling,
    checks_space,
    checks_speed,
    checks_symmetries,
    checks_training,
)
from framework.testing.report import Report, Result, Status
from framework.testing.subject import Check, Failed, Skipped, Subject

CHECKS: Mapping[str, Check] = {
    check.__name__: check
    for check in (
        checks_contract.contract,
        checks_contract.encoding,
        checks_contract.decoding,
        checks_contract.round_trip,
        checks_space.projection,
        checks_space.noise,
        checks_space.degrees_of_freedom,
        checks_space.noise_of_a_sample,
        checks_data.loader_repeats,
        checks_data.loader_resumes,
        checks_conditions.null_condition,
        checks_conditions.prompts,
        checks_conditions.absurd_prompts,
        checks_sampling.oracle,
        checks_network.network_output,
        checks_network.network_inputs,
        checks_network.network_gradients,
        checks_symmetries.symmetries,
        checks_sampling.batch_invariance,
        checks_sampling.order_invariance,
        checks_training.training_steps,
        checks_training.save_and_load,
        checks_sampling.solvers,
        checks_output.rendering,
        checks_output.evaluation,
        checks_speed.speed,
    )
}


def check_modality(
    modality: Modality,
    data: L.LightningDataModule | Callable[[], L.LightningDataModule],
    backbone: nn.Module | None = None,
    *,
    schedule: Schedule | None = None,
    parametrization: Parametrization | None = None,
    noise_level: NoiseLevel | None = None,
    processes: ByComponent | None = None,
    objective: Objective | ComponentObjective | None = None,
    solvers: Mapping[str, Solver | Loop] | None = None,
    config: Mapping[str, Any] | None = None,
    allow: Allow = MODEL_FOLDER,
    expected: Mapping[str, str] | None = None,
    only: Collection[str] | None = None,
    items: int = 8,
    thorough: bool = False,
    rebatch: Callable[[Any, Any], Any] | None = None,
    folder: str | Path | None = None,
    more: Mapping[str, Check] | None = None,
) -> Report:
    """Hold a modality, its data and a backbone against the plugin contract; nothing that is given is changed.

    Args:
        modality: as a run has it, with all that it takes from its data.
        data: its data module, or better a function that makes one: then two are made and compared.
        backbone: a network for its states; without one the checks of networks are skipped.
        schedule, parametrization, noise_level, objective: what it is trained with; None is Flow, V, Angle, and the mean
            squared error at uniform times, with the cross entropy of tokens.
        processes: what becomes of the state's components; None is Gaussian ones, and masks for tokens.
        solvers: those to sample with, by name; None is one of each family.
        config: `modality`, `backbone`, `schedule`, `parametrization` and `processes` as `framework.store.save` takes
            them; without it saving and loading is skipped.
        allow: what a model folder may name; `MODEL_FOLDER.plus("my_package")` where the package is not installed.
        expected: the checks that are known to fail, each with the reason.
        only: the checks to run, by name (`CHECKS`); None is all.
        items: how many items of a batch are looked at.
        thorough: judge real data with the modality's own metrics too, which may train a judge.
        rebatch: (samples, batch) -> the batch with the samples in place of its own, where that is not clear by itself.
        folder: where rendered files and the saved model are kept; None keeps nothing.
        more: checks of one's own, by name, which follow the kit's: they take a Subject, and return Passed or raise
            Failed or Skipped (`framework.testing.subject`).

    Raises:
        UserError: `expected` or `only` names no check. What the checks find is in the report alone.
    """
    given = {
        "schedule": schedule,
        "parametrization": parametrization,
        "noise_level": noise_level,
        "processes": processes,
    }
    subject = Subject(
        modality,
        (lambda: copy.deepcopy(data)) if isinstance(data, L.LightningDataModule) else data,
        backbone,
        objective=objective,
        solvers=solvers,
        config=config,
        allow=allow,
        items=items,
        thorough=thorough,
        rebatch=rebatch,
        folder=None if folder is None else Path(folder),
        **{name: value for name, value in given.items() if value is not None},  # type: ignore[arg-type]
    )
    return check_subject(subject, expected=expected, only=only, more=more)


def check_subject(
    subject: Subject,
    *,
    expected: Mapping[str, str] | None = None,
    only: Collection[str] | None = None,
    more: Mapping[str, Check] | None = None,
) -> Report:
    """The same of parts that were put together before; see `check_modality`."""
    reasons, checks = dict(expected or {}), {**CHECKS, **(more or {})}
    for name in (*reasons, *(only or ())):
        if name not in checks:
            raise UserError(f"there is no check {name!r}{nearest(name, checks)}; there are: {', '.join(checks)}")
    names = [name for name in checks if only is None or name in only]
    results = tuple(run_check(name, checks[name], subject, reasons.get(name)) for name in names)
    modality = subject.modality
    return Report(str(getattr(modality, "name", type(modality).__name__)), results)


def run_check(name: str, check: Check, subject: Subject, expected: str | None = None) -> Result:
    """One check, with torch's random numbers as they were before; whatever it raises is its result."""
    figures: Mapping[str, float] = {}
    begun = time.perf_counter()
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            passed = check(subject)
            status, detail, items, figures = Status.PASSED, passed.detail, passed.items, passed.figures
        except Skipped as reason:
            status, detail, items = Status.SKIPPED, str(reason), 0
        except Failed as fault:
            status, detail, items = Status.FAILED, str(fault), fault.items
        except Exception as error:
            status, detail, items = Status.FAILED, f"{_words(error)}", 0
    if expected is not None:
        declared = {Status.FAILED: Status.FAILED_AS_EXPECTED, Status.PASSED: Status.PASSED_UNEXPECTEDLY}
        status = declared.get(status, status)
    demands = " ".join((check.__doc__ or "").split("\n\n")[0].split())
    return Result(name, status, detail, items, time.perf_counter() - begun, demands, expected, figures)


def _words(error: Exception) -> str:
    """An error with the line that raised it."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({Path(frame.filename).name}, line {frame.lineno})"
