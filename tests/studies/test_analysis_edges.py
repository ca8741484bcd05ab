"""Studies that are unusual: empty, unfinished, damaged, of one seed, of several trainings, of equal methods."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from framework.errors import DataError, UserError
from framework.studies.analysis import COLUMNS, analyse
from framework.studies.loaded import load
from framework.studies.report import write as report
from tests.studies.made import METHODS, edit, only, rows, write

ALPHA, BETA, _, DELTA, _ = (method.label for method in METHODS)


def test_a_study_without_cells_has_empty_tables(tmp_path):
    folder = write(tmp_path, domains=("sounds",), seeds=(0,), n=4)
    for file in (folder / "cells").iterdir():
        file.unlink()
    empty = analyse(folder)
    assert all(tuple(getattr(empty, name).columns) == columns for name, columns in COLUMNS.items())
    assert list(empty.verdicts["kind"]) == ["incomplete"]
    assert len(empty.study.missing) == len(METHODS) * 4


def test_pairs_are_matched_by_seed_and_index(tmp_path):
    """Rows in another order, or fewer of them, change nothing but what is missing."""
    pair = {"metric": "loudness_error", "method_a": ALPHA, "method_b": BETA, "budget": 8}
    folder = write(tmp_path, domains=("sounds",), budgets=(8, 16), seeds=(0, 1), n=40, failures=False)
    plain = only(analyse(folder).pairs, **pair)
    file = folder / "cells" / "sounds.beta.8.1.parquet"
    table = pd.read_parquet(file)
    table.sample(frac=1, random_state=0).to_parquet(file)
    shuffled = only(analyse(folder).pairs, **pair)
    assert shuffled["difference"] == pytest.approx(plain["difference"]) and shuffled["p"] == pytest.approx(plain["p"])
    table.iloc[10:].to_parquet(file)
    fewer = only(analyse(folder).pairs, **pair)
    assert (plain["n"], fewer["n"]) == (80, 70)
    of = {(m, s): pd.read_parquet(folder / "cells" / f"sounds.{m}.8.{s}.parquet").set_index("index")["loudness_error"]
          for m in ("alpha", "beta") for s in (0, 1)}  # fmt: skip
    matched = pd.concat([(of["alpha", s] - of["beta", s]).dropna() for s in (0, 1)])
    assert fewer["difference"] == pytest.approx(matched.mean())
    assert fewer["variance_paired"] == pytest.approx(matched.var())


def test_one_seed_of_a_set_metric_says_nothing(tmp_path):
    one = analyse(write(tmp_path, domains=("pictures",), seeds=(0,), n=40))
    scores, pairs = rows(one.scores, metric="frechet"), rows(one.pairs, metric="frechet")
    assert scores["low"].isna().all() and (pairs["verdict"] == "not tested").all()
    assert set(scores["how"]) == {"one seed", "nothing"}
    said = rows(one.verdicts, kind="best", metric="frechet")["sentence"]
    assert said.str.contains("one seed says nothing of how far to trust it").all()


def test_values_without_blocks_make_jackknife_intervals(tmp_path):
    folder, rng = write(tmp_path, domains=("pictures",), seeds=(0,), n=40), np.random.default_rng(0)
    noise = 0.01 * rng.normal(size=10)
    for key in load(folder).cells.query("status == 'ok'")["key"]:

        def add(record):
            own = 0.001 * rng.normal(size=10)
            record["set_left_out"] = {"frechet": list(record["set_metrics"]["frechet"] + noise + own)}

        edit(folder, key, add)
    found = analyse(folder)
    row = only(found.scores, metric="frechet", method=ALPHA, budget=8)
    assert row["how"] == "jackknife" and row["low"] < row["value"] < row["high"]
    pair = only(found.pairs, metric="frechet", method_a=ALPHA, method_b=DELTA, budget=8)
    assert (pair["how"], pair["verdict"]) == ("jackknife", "a better") and pair["pairing_gain"] > 20


def test_trainings_are_the_units_of_an_experiment(tmp_path):
    found = analyse(write(tmp_path, domains=("sounds",), trainings=3, seeds=(0,), budgets=(4, 8), n=40))
    assert len(rows(found.pairs, method_a=ALPHA, method_b=BETA, metric="error", budget=8)) == 3
    score = only(found.training_scores, metric="loudness_error", method=BETA, budget=4)
    runs = rows(found.scores, metric="loudness_error", method=BETA, budget=4)["value"]
    half = 4.302653 * runs.std() / math.sqrt(3)
    assert (score["value"], score["high"]) == pytest.approx((runs.mean(), runs.mean() + half))
    assert (score["run"], score["n"]) == ("sounds/made", 3)
    pair = only(found.training_pairs, metric="error", method_a=ALPHA, method_b=DELTA, budget=8)
    assert (pair["how"], pair["n"], pair["verdict"]) == ("trainings", 3, "a better")
    assert only(found.friedman, scope="domain", metric="error", budget=8.0)["blocks"] == 6


def test_cells_of_tuning_are_not_compared(tmp_path):
    folder = write(tmp_path, domains=("sounds",), seeds=(0,), n=24)
    for key in [f"sounds.delta.{budget}.0" for budget in (4, 8, 16, 32)]:
        edit(folder, key, lambda record: record.update(phase="tuning"))
    found = analyse(folder)
    assert DELTA not in set(found.scores["method"]) and DELTA in set(found.cells["method"])


def test_a_run_of_which_nothing_could_be_drawn_leaves_the_others(tmp_path):
    folder = write(tmp_path, domains=("sounds", "graphs"), seeds=(0,), budgets=(8,), n=24)
    for file in (folder / "cells").glob("graphs.*.json"):
        refused = {"status": "not applicable", "reason": "tokens", "cost": {}, "set_metrics": {}}
        edit(folder, file.stem, lambda record, refused=refused: record.update(refused))
        for made in (file.with_suffix(".parquet"), file.with_suffix(".safetensors")):
            made.unlink(missing_ok=True)
    found = analyse(folder)
    measured = found.scores.dropna(subset=["value"])
    assert set(measured["run"]) == {run for run in found.study.runs if run.startswith("sounds")} != set()
    assert "<html" in report(folder, found).read_text()


def test_an_unfinished_study_says_so(tmp_path):
    folder = write(tmp_path, domains=("sounds",), seeds=(0, 1), budgets=(8, 16), n=24)
    for end in ("json", "parquet", "safetensors"):
        (folder / "cells" / f"sounds.alpha.8.1.{end}").unlink()
    found = analyse(folder)
    assert found.study.missing == ("sounds.alpha.8.1",)
    assert found.verdicts["sentence"].iloc[0].startswith("1 of 20 planned cells are not there yet")
    row = only(found.scores, metric="error", method=ALPHA, budget=8)
    assert (row["n"], row["seeds"], row["failed"]) == (24, 1, 0)
    pair = only(found.pairs, metric="error", method_a=ALPHA, method_b=BETA, budget=8)
    assert (pair["n"], pair["seeds"]) == (24, 1)


def test_equal_methods_are_said_to_be_equal(tmp_path):
    methods = [type(METHODS[1])(name, "even", METHODS[1].gaps) for name in ("one", "two", "three")]
    found = analyse(write(tmp_path, domains=("pictures",), methods=methods, failures=False, n=40))
    assert len(found.pairs) == 36 and found.pairs["verdict"].isin(["a better", "b better"]).sum() <= 1
    said = rows(found.verdicts, kind="best", metric="accuracy")["sentence"]
    assert said.str.startswith("No method can be told from the best at").all()
    assert "do not tell the methods apart" in only(found.verdicts, kind="ranks", metric="error")["sentence"]


def test_the_best_of_one_domain_may_be_as_good_in_another(tmp_path):
    methods = [type(METHODS[1])(name, "even", METHODS[1].gaps) for name in ("one", "two", "three")]
    found = analyse(write(tmp_path, domains=("pictures", "sounds"), methods=methods, failures=False, n=40))
    [said] = rows(found.verdicts, kind="domains", metric="error")["sentence"]
    assert "; at none of 4 budgets can it be told from the best there" in said


def test_damage_is_named(tmp_path):
    with pytest.raises(UserError, match="is not a study"):
        load(tmp_path)
    folder = write(tmp_path, domains=("sounds",), seeds=(0,), n=8)
    edit(folder, "sounds.beta.8.0", lambda record: record.update(method=ALPHA))
    with pytest.raises(DataError, match=r"two cells of alpha · even at 8 from seed 0"):
        analyse(folder)
    edit(folder, "sounds.beta.8.0", lambda record: record.update(method=BETA, run="elsewhere"))
    with pytest.raises(DataError, match="elsewhere"):
        load(folder)
    (folder / "cells" / "sounds.beta.8.0.json").write_text("{")
    with pytest.raises(DataError, match=r"sounds\.beta\.8\.0\.json is not JSON"):
        load(folder)
    folder = write(folder, domains=("sounds",), seeds=(0,), n=8)
    (folder / "cells" / "sounds.beta.8.0.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"sounds\.beta\.8\.0\.parquet cannot be read"):
        analyse(folder)
    pd.DataFrame({"index": [0, 0], "error": [1.0, 2.0]}).to_parquet(folder / "cells" / "sounds.beta.8.0.parquet")
    with pytest.raises(DataError, match="no number occurs twice"):
        analyse(folder)
