"""Cells as they are drawn: common noise, exact errors, an honest ledger, and failures that are kept."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pyarrow.parquet as pq
import pytest
import torch

from benchmarks.groups import group
from framework.grids import Karras, UniformFlow, UniformTime
from framework.guidance.off import Off
from framework.model import Model
from framework.studies import runner
from framework.studies.cell import Cell, Choice, Method, Protocol
from framework.studies.cost import Probe
from framework.studies.drawing import Sampler, distances, draw
from framework.studies.examination import examine
from framework.studies.reference import Reference
from framework.studies.runner import reference_file, run_cell, solve_reference
from framework.studies.runs import Opened, RunSpec, open_run
from framework.studies.store import StudyFolder
from tests.judged_points import save_run, spec

SOLVERS = group("solver")
PROTOCOL = Protocol(n=8, batch_size=4, tolerance=1e-7, shown=1, real=32)
CFG = {"_target_": "framework.guidance.classifier_free.ClassifierFree", "scale": 2.0}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunSpec:
    return spec(save_run(tmp_path_factory.mktemp("runs") / "points"))


@pytest.fixture(scope="module")
def opened(run: RunSpec) -> Opened:
    return open_run(run)


@pytest.fixture(scope="module")
def study(run: RunSpec, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[StudyFolder, Probe]]:
    store = StudyFolder(tmp_path_factory.mktemp("study"))
    store.prepare()
    yield store, examine(run, PROTOCOL, store.path).probe


def cell(opened: Opened, solver: str, steps: int, **changes: object) -> Cell:
    configs = {"broken": "tests.judged_points.Broken", "heun": "framework.solvers.edm.Heun"}
    config = {"_target_": configs.get(solver) or f"framework.solvers.{solver}"}
    method = Method(solver, Choice(solver, config), Choice("flow", None), Choice("cfg", CFG))
    given = Cell(
        run=opened.spec.name, domain=opened.domain, experiment="e", training_seed=0, model_hash=opened.spec.model_hash,
        method=method, budget=2.0 * steps, seed=3, prompts=opened.prompts_hash(8, 3), protocol=PROTOCOL, steps=steps,
        evaluations=2.0 * steps,
    )  # fmt: skip
    return replace(given, **changes)  # type: ignore[arg-type]


def first_states(model: Model, sampler: Sampler, seed: int, protocol: Protocol) -> torch.Tensor:
    """What the network sees first, in units of the noise, of all samples."""
    seen: list[torch.Tensor] = []
    handle = model.network.register_forward_pre_hook(lambda _, given: seen.append(given[0].clone()))
    try:
        firsts = []
        for _ in draw(model, sampler, [0, 1] * 4, seed, protocol):
            firsts.append(seen[0])
            seen.clear()
    finally:
        handle.remove()
    return torch.cat(firsts)


def test_every_method_starts_from_the_same_noise(opened: Opened) -> None:
    known = None
    for name in ("euler", "heun", "unipc", "ddpm", "sde_dpmpp_2m", "sa_solver"):
        for steps in (2, 3):
            for size in (3, 8):
                sampler = Sampler(SOLVERS[name], UniformTime(), Off(), steps)
                found = first_states(opened.model, sampler, 5, replace(PROTOCOL, batch_size=size))
                known = found if known is None else known
                assert torch.equal(found, known), (name, steps, size)
    other = first_states(opened.model, Sampler(SOLVERS["euler"], UniformTime(), Off(), 3), 6, PROTOCOL)
    assert not torch.allclose(other, known)  # type: ignore[arg-type]


def spread(model: Model, brownian: bool, steps: int) -> float:
    """How far samples by a stochastic solver move when its steps are halved."""
    protocol = replace(PROTOCOL, brownian=brownian, batch_size=8)
    rows = [
        next(draw(model, Sampler(SOLVERS["sde_dpmpp_2m"], Karras(), Off(), n), [0, 1] * 4, 1, protocol))
        for n in (steps, 2 * steps)
    ]
    return float(torch.tensor(distances(rows[0].rows, rows[1].rows, rows[0].size)).mean())


def test_more_steps_of_a_stochastic_solver_refine_the_same_path(opened: Opened) -> None:
    found = {steps: spread(opened.model, True, steps) for steps in (6, 24)}
    assert found[24] < 0.3 * spread(opened.model, False, 24)
    assert found[24] < 0.8 * found[6]


def test_a_sample_does_not_depend_on_its_batch(opened: Opened) -> None:
    sampler = Sampler(SOLVERS["ddpm"], UniformFlow(), None, 5)
    sizes = [torch.cat([b.rows for b in draw(opened.model, sampler, [0, 1] * 4, 2, replace(PROTOCOL, batch_size=size))])
             for size in (1, 3, 8)]  # fmt: skip
    for found in sizes[1:]:
        torch.testing.assert_close(found, sizes[0])


def test_errors_fall_to_the_exact_solution(opened: Opened, study: tuple[StudyFolder, Probe]) -> None:
    store, probe = study
    cells = [cell(opened, "heun", steps) for steps in (4, 16, 64)]
    _, evaluations = solve_reference(cells[0], opened.spec, store.path, 1)
    assert evaluations > 64
    found = []
    for each in cells:
        assert run_cell(each, opened.spec, store.path, probe, 1)[0] == "ok"
        table = pq.read_table(store.cells / f"{each.key}.parquet").to_pydict()
        found.append(sum(table["error"]) / 8)
        assert table["prompt"] == ["0", "1"] * 4 and set(table["side"]) <= {0.0, 1.0}
    assert found[1] < 0.5 * found[0] and found[2] < 0.3 * found[1]
    own = Reference(store.references / reference_file(cells[0], opened.spec))
    assert distances(own.at(0, torch.zeros(4, 2)), own.at(0, torch.zeros(4, 2)), torch.full((4,), 2.0)) == [0.0] * 4  # type: ignore[arg-type]


def test_the_ledger_counts_guidance(opened: Opened, study: tuple[StudyFolder, Probe]) -> None:
    store, probe = study
    each = cell(opened, "edm.Euler", 5, stochastic=True)
    assert run_cell(each, opened.spec, store.path, probe, 1)[0] == "ok"
    record = store.json(f"cells/{each.key}.json")
    cost = record["cost"]
    assert cost["evaluations"] == cost["forward"] == each.evaluations == 10 and cost["backward"] == 0
    assert cost["flops"] == 10 * probe.flops and cost["peak_bytes"] > 0
    assert 0 < cost["seconds_p50"] <= cost["seconds_p95"] and cost["batches"] == 2
    assert set(record["set_metrics"]) == {"frechet", "kid", "coverage"}
    assert all(value == value for value in record["set_metrics"].values())


def test_an_evaluation_has_the_operations_of_its_layers(opened: Opened, study: tuple[StudyFolder, Probe]) -> None:
    assert study[1].flops == 2 * (3 * 32 + 32 * 32 + 32 * 2)
    assert study[1].parameters == sum(p.numel() for p in opened.model.network.parameters())


def test_a_failure_is_kept_with_its_reason(opened: Opened, study: tuple[StudyFolder, Probe]) -> None:
    store, probe = study
    good, bad = cell(opened, "broken", 3, stochastic=True), cell(opened, "broken", 9, stochastic=True)
    assert [run_cell(each, opened.spec, store.path, probe, 1)[0] for each in (good, bad)] == ["ok", "failed"]
    record = store.json(f"cells/{bad.key}.json")
    assert record["reason"] == "RuntimeError: more steps than it can count" and "Traceback" in record["traceback"]
    assert not (store.cells / f"{bad.key}.parquet").exists()


def test_samples_that_are_no_numbers_are_a_failure(
    opened: Opened, study: tuple[StudyFolder, Probe], monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverging(*given: object) -> Iterator[object]:
        for batch in draw(*given):  # type: ignore[arg-type]
            batch.rows[0] = float("nan")
            yield batch

    monkeypatch.setattr(runner, "draw", diverging)
    each = cell(opened, "ddim.DDIM", 7, stochastic=True)
    assert run_cell(each, opened.spec, study[0].path, study[1], 1)[0] == "failed"
    assert "2 of 8 samples are not finite" in study[0].json(f"cells/{each.key}.json")["reason"]


def test_what_does_not_apply_is_a_cell_with_the_reason(opened: Opened, study: tuple[StudyFolder, Probe]) -> None:
    store, probe = study
    each = replace(cell(opened, "heun", 4), steps=None, reason="a step costs too much", budget=1.0)
    assert run_cell(each, opened.spec, store.path, probe, 1)[0] == "not applicable"
    record = store.json(f"cells/{each.key}.json")
    assert record["reason"] == "a step costs too much" and record["steps"] is None


def test_real_items_say_what_can_be_reached(run: RunSpec, study: tuple[StudyFolder, Probe]) -> None:
    metrics = {entry["name"]: entry for entry in examine(run, PROTOCOL, study[0].path).metrics}
    assert set(metrics) == {"error", "side", "distance", "frechet", "kid", "coverage"}
    assert metrics["side"]["ceiling"] == 1.0 and metrics["side"]["kind"] == "binary"
    assert metrics["distance"]["ceiling"] < 0.5 and metrics["error"]["ceiling"] is None
