"""The command: whole studies of toy models, interrupted, divided, made larger, and held against older ones."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from experiments import compare
from experiments.errors import ConfigurationError
from experiments.studies import chosen, study_of
from framework.errors import UserError
from framework.studies import report
from framework.studies.about import How
from framework.studies.analysis import analyse
from framework.studies.cell import Cell
from framework.studies.conduct import conduct
from framework.studies.loaded import load
from framework.studies.regression import compare as against
from tests.judged_points import save_run, settings, spec

MEASURED = ("seconds", "peak")  # what changes from run to run, by parts of its name
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def points(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_run(tmp_path_factory.mktemp("runs") / "points")


@pytest.fixture(scope="module")
def whole(points: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study that was not interrupted."""
    out = tmp_path_factory.mktemp("study") / "whole"
    conducted(points, out)
    return out


def numbers(out: Path) -> dict[str, Any]:
    """All that a study's cells say, apart from seconds and memory."""
    found = {}
    for key in json.loads((out / "study.json").read_text())["planned"]:
        record = json.loads((out / "cells" / f"{key}.json").read_text())
        record["cost"] = {k: v for k, v in record["cost"].items() if not any(word in k for word in MEASURED)}
        found[key] = record, (out / "cells" / f"{key}.parquet").read_bytes()
    return found


def tables(out: Path) -> dict[str, str]:
    """The analysis as CSV, without what is measured in seconds or bytes."""
    found = {}
    for name, table in analyse(out).tables().items():
        kept = [column for column in table if not any(word in column for word in MEASURED)]
        rows = table if "axis" not in table else table[table["axis"] != "seconds"]
        found[name] = rows[kept].to_csv()
    return found


def test_a_study_has_all_that_it_should(whole: Path) -> None:
    info = json.loads((whole / "study.json").read_text())
    assert len(info["planned"]) == 3 * 2 * 2 and info["axis"] == "solvers" and info["budget_unit"] == "evaluations"
    assert info["runs"][0]["domain"] == "judged points" and info["runs"][0]["flops_per_evaluation"] > 0
    records = [json.loads((whole / "cells" / f"{key}.json").read_text()) for key in info["planned"]]
    assert {record["status"] for record in records} == {"ok"}
    for record in records:
        assert record["cost"]["evaluations"] <= record["budget"]
        errors = pq.read_table(whole / "cells" / f"{record['key']}.parquet")["error"].to_pylist()
        assert all((error != error) == record["stochastic"] for error in errors)
    shown = json.loads((whole / "cells" / info["planned"][0] / "show.json").read_text())
    assert len(shown) == 1 and (whole / "cells" / info["planned"][0] / "points.json").is_file()


def test_done_again_nothing_is_drawn_again(whole: Path, points: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {file: file.stat().st_mtime_ns for file in (whole / "cells").glob("*.json")}
    conducted(points, whole)
    assert before == {file: file.stat().st_mtime_ns for file in (whole / "cells").glob("*.json")}
    assert "cells 1/" not in capsys.readouterr().out


def test_killed_and_gone_on_with_it_comes_to_the_same(whole: Path, points: Path, tmp_path: Path) -> None:
    out = tmp_path / "killed"
    config = settings(out, [points])
    code = (
        f"import json, tests.studies.test_compare as t; config = json.loads({json.dumps(json.dumps(config))})\n"
        f"t.conduct(t.study_of(config), [t.spec(t.Path({str(points)!r}))], t.Path({str(out)!r}), t.How())"
    )
    child = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.DEVNULL)
    while len(list((out / "cells").glob("*.json"))) < 4:
        assert child.poll() is None, "it ended before it could be killed"
        time.sleep(0.002)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    assert 4 <= len(list((out / "cells").glob("*.json"))) < 12
    conducted(points, out)
    assert numbers(out) == numbers(whole)
    assert tables(out) == tables(whole)


def test_parts_make_the_whole(whole: Path, points: Path, tmp_path: Path) -> None:
    out = tmp_path / "parts"
    assert compare.run(settings(out, [points], "part=2/3")) == 0
    assert len(list((out / "cells").glob("*.json"))) == 4 and not (out / "report.html").exists()
    for part in (1, 3):
        outcome = conduct(study_of(settings(out, [points])), [spec(points)], out, How(part=(part, 3)))
        assert len(outcome.left) == (4 if part == 1 else 0)
    assert numbers(out) == numbers(whole)


def test_parts_of_a_tuned_study_make_the_whole(points: Path, tmp_path: Path) -> None:
    """The part that ends the tuning last draws what the others could not begin."""
    grids = ["study.tuning.grids=[uniform,karras]", "study.tuning.n=4"]
    chosen = ["study.solvers=[euler,heun]", "study.budgets=[8]"]
    study = study_of(settings(tmp_path, [points], "study=solvers_best_grid", *grids, *chosen))
    first, last = (conduct(study, [spec(points)], tmp_path / "parts", How(part=(part, 2))) for part in (1, 2))
    assert first.left and not last.left
    whole = conduct(study, [spec(points)], tmp_path / "whole", How())
    assert {cell.key for cell in last.cells} == {cell.key for cell in whole.cells}


def conducted(points: Path, out: Path, *overrides: str, **how: Any) -> tuple[list[Cell], dict[str, Any]]:
    config = settings(out, [points], *overrides)
    outcome = conduct(study_of(config), [spec(points)], out, How(**how))
    return outcome.cells, {c.key: json.loads((out / "cells" / f"{c.key}.json").read_text()) for c in outcome.cells}


def test_a_cell_of_two_names_is_drawn_once(points: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from framework.studies import conduct as module

    drawn: list[Cell] = []
    run_cell = module.run_cell
    monkeypatch.setattr(module, "run_cell", lambda cell, *rest: drawn.append(cell) or run_cell(cell, *rest))
    solvers = "study.solvers=[ddim,{ddim:{eta:0.0}},default]"
    cells, records = conducted(points, tmp_path / "s", solvers, "study.budgets=[8]", "study.seeds=[0]")
    assert len(cells) == 3 and len({cell.content for cell in cells}) == 2  # the run's own says nothing of eta
    assert len(drawn) == 2 and {record["method"] for record in records.values()} == {"ddim", "ddim eta=0", "default"}


@pytest.mark.slow
def test_several_processes_come_to_the_same(whole: Path, points: Path, tmp_path: Path) -> None:
    pytest.importorskip("joblib")
    config = settings(tmp_path / "two", [points], "jobs=2")
    conduct(study_of(config), [spec(points)], tmp_path / "two", How(jobs=2))
    assert numbers(tmp_path / "two") == numbers(whole)


def test_a_study_that_grows_keeps_what_it_has(points: Path, tmp_path: Path) -> None:
    small, _ = conducted(points, tmp_path / "s", "study.solvers=[euler]")
    large, _ = conducted(points, tmp_path / "s", "study.solvers=[euler,heun]")
    kept = {cell.content for cell in large if cell.method.solver.name == "euler"}
    assert kept == {cell.content for cell in small}


def test_each_solver_is_compared_on_its_best_grid(points: Path, tmp_path: Path) -> None:
    overrides = ["study=solvers_best_grid", "study.solvers=[euler,heun]", "study.tuning.grids=[uniform,karras]"]
    _, records = conducted(points, tmp_path / "s", *overrides, "study.tuning.n=4", "study.budgets=[8]")
    tuning = [record for record in records.values() if record["phase"] == "tuning"]
    compared = [record for record in records.values() if record["phase"] == "compared"]
    assert {record["seed"] for record in tuning} == {1000} and len(tuning) == 4 and len(compared) == 4
    for solver in ("euler", "heun"):
        errors = {
            record["grid"]: pd.read_parquet(tmp_path / "s" / "cells" / f"{record['key']}.parquet")["error"].mean()
            for record in tuning
            if record["solver"] == solver
        }
        best = min(errors, key=errors.__getitem__)
        assert {record["grid"] for record in compared if record["solver"] == solver} == {best}
        assert {record["method"] for record in compared if record["solver"] == solver} == {solver}


def test_budgets_can_be_seconds(points: Path, tmp_path: Path) -> None:
    overrides = ["study.budget_unit=seconds", "study.budgets=[1e-9,0.1]", "study.solvers=[euler]", "study.seeds=[0]"]
    _, records = conducted(points, tmp_path / "s", *overrides)
    by_budget = {record["budget"]: record for record in records.values()}
    assert by_budget[1e-9]["status"] == "not applicable" and "one step takes" in by_budget[1e-9]["reason"]
    assert by_budget[0.1]["status"] == "ok" and by_budget[0.1]["steps"] >= 1


def worsened(whole: Path, to: Path, shift: float) -> Path:
    """A copy of a study in which one method's errors at one budget are larger by a share."""
    shutil.copytree(whole, to)
    for file in (to / "cells").glob("*.json"):
        record = json.loads(file.read_text())
        if record["method"] == "euler" and record["budget"] == 8:
            table = pd.read_parquet(file.with_suffix(".parquet"))
            table["error"] *= 1 + shift
            pq.write_table(pa.Table.from_pandas(table), file.with_suffix(".parquet"))
    return to


def test_a_method_that_became_worse_fails_the_command(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = worsened(whole, tmp_path / "new", 0.5)
    monkeypatch.setattr(report, "write", lambda folder, analysis: folder / "report.html")
    worse = compare.finished(new, str(whole))
    assert worse == 1 and compare.failed(worse)
    [change] = [change for change in against(whole, new) if change.verdict == "worse"]
    assert (change.method, change.budget, change.metric) == ("euler", 8, "error")
    assert [c.verdict for c in against(new, whole) if c.verdict in ("better", "worse")] == ["better"]


def test_a_study_is_no_worse_than_itself_or_within_the_margin(whole: Path, tmp_path: Path) -> None:
    assert {change.verdict for change in against(whole, whole)} == {"unchanged"}
    assert not compare.failed(0)
    assert all(change.verdict != "worse" for change in against(whole, worsened(whole, tmp_path / "new", 0.001)))
    certain = worsened(whole, tmp_path / "certain", 0.015)
    assert all(change.verdict != "worse" for change in against(whole, certain))
    assert [change.method for change in against(whole, certain, margin=0.01) if change.verdict == "worse"] == ["euler"]


def test_a_study_says_its_margin(points: Path, tmp_path: Path) -> None:
    conducted(points, tmp_path / "s", "study.margin=0.3")
    assert load(tmp_path / "s").margin == 0.3
    with pytest.raises(UserError, match="margin must be positive"):
        study_of(settings(tmp_path / "t", [points], "study.margin=0"))


def test_a_method_that_fails_now_is_worse(whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path / "new")
    for file in (tmp_path / "new" / "cells").glob("*.json"):
        record = json.loads(file.read_text())
        if record["method"] == "euler" and record["budget"] == 8:
            file.write_text(
                json.dumps({**record, "status": "failed", "reason": "it broke", "cost": {}, "set_metrics": {}})
            )
    changes = [change for change in against(whole, tmp_path / "new") if change.verdict == "worse"]
    assert {change.method for change in changes} == {"euler"} and {change.reason for change in changes} == {"it broke"}


def test_names_come_with_options() -> None:
    found = chosen("solver", [{"ddim": {"eta": 0.5}}, "sde_dpmpp_*"])
    assert found[0].name == "ddim eta=0.5" and found[0].config["eta"] == 0.5  # type: ignore[index]
    assert {choice.name for choice in found[1:]} == {"sde_dpmpp_1", "sde_dpmpp_2m", "sde_dpmpp_2m_heun", "sde_dpmpp_3m"}
    nested = chosen("solver", [{"restart": {"solver": {"_target_": "framework.solvers.dpmpp.DPMpp2M"}}}])[0]
    assert nested.name == "restart solver=DPMpp2M" and "intervals" in nested.config  # type: ignore[operator]
    assert chosen("guidance", "default")[0].config is None


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["study.solvers=[huen]"], "did you mean 'heun'"),
        (["study.budget_unit=hours"], "evaluations or seconds"),
        (["study.solvers=[]"], "study.solvers is empty"),
        (["part=3/2"], "part="),
        (["runs=[outputs/nowhere]"], "does not exist"),
    ],
)
def test_what_is_wrong_is_said(points: Path, tmp_path: Path, overrides: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        compare.run(settings(tmp_path / "s", [points], *overrides))


def test_runs_have_names_of_their_own(points: Path, tmp_path: Path) -> None:
    from experiments.studies import specs_of

    config = settings(tmp_path / "s", [points])
    config["runs"] = [str(points), {"run": str(points), "name": "again"}, str(points)]
    assert [found.name for found in specs_of(config)] == ["points", "again", f"{points.parent.name}/points"]
    config["runs"] = None
    with pytest.raises(ConfigurationError, match="runs="):
        specs_of(config)
