"""What is said of studies whose truth is known."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats import rankdata

from framework.studies.analysis import COLUMNS, analyse
from tests.studies.made import METHODS, only, rows, write

ALPHA, BETA, GAMMA, DELTA, EPSILON = (method.label for method in METHODS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def analysis(folder):
    return analyse(folder)


def test_every_table_has_its_columns(analysis):
    for name, columns in COLUMNS.items():
        assert tuple(getattr(analysis, name).columns) == columns
    assert not any(analysis.tables()[name].empty for name in COLUMNS if not name.startswith("training"))


def test_scores_are_means_over_samples_and_seeds(folder, analysis):
    files = [pd.read_parquet(folder / "cells" / f"sounds.beta.8.{seed}.parquet") for seed in range(3)]
    for metric, how in (("loudness_error", "bca"), ("intelligible", "wilson")):
        row = only(analysis.scores, run="sounds", metric=metric, method=BETA, budget=8)
        assert row["value"] == pytest.approx(np.mean([file[metric] for file in files]))
        assert row["low"] < row["value"] < row["high"]
        assert (row["n"], row["seeds"], row["missing"], row["how"]) == (192, 3, 0, how)
    assert (row["evaluations"], row["solver"], row["grid"]) == (8, "beta", "even")


def test_what_failed_is_a_row(analysis):
    row = only(analysis.scores, run="pictures", metric="accuracy", method=EPSILON, budget=4)
    assert math.isnan(row["value"]) and (row["how"], row["failed"], row["n"]) == ("nothing", 3, 0)
    assert row["reason"] == "samples are not finite" and math.isnan(row["place"])
    unused = only(analysis.scores, run="pictures", metric="accuracy", method=EPSILON, budget=32)
    assert (unused["failed"], unused["reason"]) == (0, "needs an even budget")
    said = " ".join(rows(analysis.verdicts, kind="failures", run="pictures")["sentence"])
    assert "failed in 3 of its 12 cells (at 4 evaluations): samples are not finite." in said
    assert "could not be used in 3 of its 12 cells (at 32 evaluations): needs an even budget." in said


def test_what_could_not_be_judged_is_counted(folder, analysis):
    valid = sum(
        pd.read_parquet(folder / "cells" / f"graphs.gamma.8.{seed}.parquet")["valid"].sum() for seed in range(3)
    )
    row = only(analysis.scores, run="graphs", metric="strain", method=GAMMA, budget=8)
    assert (row["n"], row["missing"]) == (valid, 192 - valid)
    said = only(analysis.verdicts, kind="best", run="graphs", metric="strain", budget=8)["sentence"]
    assert f"gamma · even {192 - int(valid)} of 192" in said
    stochastic = only(analysis.scores, run="pictures", metric="error", method=EPSILON, budget=8)
    assert (stochastic["n"], stochastic["missing"]) == (0, 192)


def test_truths_are_found(analysis):
    for run, best in (("pictures", ALPHA), ("sounds", ALPHA), ("graphs", DELTA)):
        for budget in (4, 8, 16, 32):
            assert only(analysis.verdicts, kind="best", run=run, metric="error", budget=budget)["best"] == best
    equal = rows(analysis.pairs, method_a=BETA, method_b=GAMMA)
    assert len(equal) == 36 and equal["verdict"].isin(["a better", "b better"]).sum() <= 1  # 5 % of the families
    worse = rows(analysis.pairs, metric="error", run="pictures", method_a=ALPHA, method_b=DELTA)
    assert (worse["verdict"] == "a better").all() and (worse["high"] < 0).all()
    more = rows(analysis.pairs, metric="accuracy", run="pictures", method_a=ALPHA, method_b=EPSILON)
    assert (more["verdict"] == "a better").all() and (more["low"] > 0).all()


def test_verdicts_follow_holm_within_a_family(analysis):
    for _, family in analysis.pairs.groupby(["run", "metric", "budget"]):
        methods = set(family["method_a"]) | set(family["method_b"])
        assert len(family) == math.comb(len(methods), 2) == family["comparisons"].iloc[0]
        ordered = family.sort_values("p")
        factors = np.arange(len(family), 0, -1)
        assert ordered["p_holm"].to_numpy() == pytest.approx(
            np.minimum(1, np.maximum.accumulate(ordered["p"] * factors)).to_numpy()
        )
        different = family["verdict"].isin(["a better", "b better"])
        assert (different == (family["p_holm"] <= 0.05)).all()
        assert ((family["verdict"] == "equivalent") == (~different & (family["p_equivalent"] <= 0.05))).all()


def test_intervals_agree_with_tests(analysis):
    """Where the paired interval holds 0, one comparison alone finds nothing."""
    paired = analysis.pairs[analysis.pairs["how"] == "bca"]
    holds = (paired["low"] <= 0) & (paired["high"] >= 0)
    assert (paired.loc[~holds, "p"] < 0.05).all()
    assert (paired.loc[paired["p"] > 0.05, "low"] < 0).all()


def test_the_margin_makes_equivalence(tmp_path, analysis):
    assert analysis.margin == 0.02
    folder = write(tmp_path, domains=("sounds",), budgets=(8, 16), n=40, failures=False)
    pair = {"metric": "loudness_error", "method_a": BETA, "method_b": GAMMA}
    assert (rows(analyse(folder, margin=0.1).pairs, **pair)["verdict"] == "equivalent").all()
    narrow = rows(analyse(folder, margin=1e-4).pairs, **pair)
    assert (narrow["verdict"] == "cannot be told apart").all()
    assert narrow["margin"].iloc[0] == pytest.approx(1e-4 * 2.2, rel=0.2)


def test_pairing_gain_is_known(analysis):
    """Loudness: 0.5 of shared and 0.1 of own noise, so (0.25 + 0.01) / 0.01 = 26."""
    gain = only(analysis.pairing, domain="sounds", metric="loudness_error", budget=math.nan)
    assert gain["gain"] == pytest.approx(26, rel=0.2)
    assert gain["low"] <= gain["gain"] <= gain["high"]
    power = only(analysis.power, run="sounds", metric="loudness_error", budget=8)
    assert power["sd_paired"] == pytest.approx(0.1 * math.sqrt(2), rel=0.15)
    assert power["detectable_unpaired"] / power["detectable"] == pytest.approx(math.sqrt(26), rel=0.2)
    assert power["comparisons"] == 10 and power["n"] == 192


def test_ranks_are_of_complete_blocks(analysis):
    keys = {"scope": "domain", "domain": "graphs", "metric": "error"}
    overall = rows(analysis.ranks, **keys, budget=math.nan).set_index("method")["rank"]
    assert overall.idxmin() == DELTA and overall.idxmax() == ALPHA and EPSILON not in overall
    test = only(analysis.friedman, **keys, budget=math.nan)
    assert test["left_out"] == (EPSILON,) and test["p"] < 1e-3 and test["methods"] == 4
    assert test["blocks"] == 9  # three seeds of 64 samples in parts of at least 20
    assert any({BETA, GAMMA} <= set(group) for group in test["groups"])
    assert only(analysis.friedman, scope="study", metric="error", budget=8.0)["blocks"] == 27
    assert (
        analysis.ranks.groupby(["scope", "run", "domain", "metric", "budget"], dropna=False)["rank"].sum() > 0
    ).all()


def test_budgets_of_a_seed_are_one_block(analysis):
    """More budgets make no more blocks."""
    blocks = rows(analysis.friedman, scope="run", run="pictures", metric="frechet")["blocks"]
    assert (blocks == 3).all() and len(blocks) == 5


def test_ranks_over_all_budgets_are_ranked_again(folder, analysis):
    """By hand: a block of a set metric is a seed, and all five methods have values at 8 and at 16 evaluations."""
    table = np.empty((3, 5, 2))
    for seed, m, b in np.ndindex(table.shape):
        file = folder / "cells" / f"pictures.{METHODS[m].solver}.{(8, 16)[b]}.{seed}.json"
        table[seed, m, b] = json.loads(file.read_text())["set_metrics"]["frechet"]
    blocks = rankdata(rankdata(table, axis=1).mean(axis=2), axis=1)
    found = rows(analysis.ranks, scope="run", run="pictures", metric="frechet", budget=math.nan).set_index("method")
    assert found["rank"][[method.label for method in METHODS]].tolist() == pytest.approx(blocks.mean(axis=0))


def test_orders_of_domains(analysis):
    here = {"metric_a": "error", "metric_b": "error", "budget": math.nan, "coefficient": "kendall"}
    assert only(analysis.correlation, **here, domain_a="pictures", domain_b="sounds")["value"] > 0.6
    assert only(analysis.correlation, **here, domain_a="pictures", domain_b="graphs")["value"] < -0.6
    at = {**here, "budget": 8.0}
    assert only(analysis.correlation, **at, domain_a="pictures", domain_b="sounds")["same_best"] > 0.99
    assert only(analysis.correlation, **at, domain_a="pictures", domain_b="graphs")["same_best"] < 0.01
    said = rows(analysis.verdicts, kind="domains", metric="error")["sentence"].tolist()
    assert any("alpha · even ranks best in both." in sentence for sentence in said)
    lost = "; the best there, delta · steep, is shown to be better at 4 of 4 budgets."
    assert any(f"of pictures, alpha · even, ranks 4 of 4 in graphs (mean ranks 3.0 apart){lost}" in s for s in said)


def test_pareto_fronts(analysis):
    for (run, metric, axis), points in analysis.pareto.groupby(["run", "metric", "axis"]):
        sign = 1 if analysis.study.metric(run, metric).better == "higher" else -1
        for point in points.itertuples():
            better = points[(points["cost"] <= point.cost) & (sign * points["value"] > sign * point.value)]
            if point.on_front:
                assert not len(better)
        assert points["on_front"].any() and points["probability_on_front"].between(0, 1).all()
        assert axis in ("evaluations", "seconds")
    sure = rows(analysis.pareto, run="pictures", metric="error", axis="evaluations", method=ALPHA)
    assert (sure["probability_on_front"] == 1).all() and sure["on_front"].all()


def test_area_is_the_mean_over_doublings(analysis):
    here = {"run": "sounds", "metric": "error", "method": ALPHA}
    values = rows(analysis.scores, **here).sort_values("budget")["value"].to_numpy()
    row = only(analysis.area, **here)
    assert row["value"] == pytest.approx(np.trapezoid(values) / 3)
    assert (row["evaluations_from"], row["evaluations_to"], row["place"], row["n"]) == (4, 32, 1, 192)
    short = only(analysis.area, run="sounds", metric="loudness_error", method=EPSILON)
    assert math.isnan(short["value"]) or short["evaluations_from"] >= 8


def test_set_metrics_have_seed_blocks(folder, analysis):
    values = [json.loads((folder / "cells" / f"pictures.beta.8.{s}.json").read_text())["set_metrics"] for s in range(3)]
    row = only(analysis.scores, run="pictures", metric="frechet", method=BETA, budget=8)
    numbers = [value["frechet"] for value in values]
    half = 4.302653 * np.std(numbers, ddof=1) / math.sqrt(3)
    assert (row["value"], row["high"]) == pytest.approx((np.mean(numbers), np.mean(numbers) + half))
    assert (row["how"], row["n"]) == ("seed blocks", 3)


def test_a_verdict_names_what_could_have_been_seen(analysis):
    row = only(analysis.verdicts, kind="best", run="pictures", metric="accuracy", budget=8)
    assert "cannot be told apart from it at this sample size (192 samples; a difference of 0." in row["sentence"]
    assert row["best"] in (ALPHA, BETA, GAMMA) and set(row["tied"]) < {ALPHA, BETA, GAMMA}
    assert "epsilon · steep are worse." in row["sentence"]


def test_labels_and_runs_are_read_as_they_are(analysis):
    assert analysis.study.domains == ("pictures", "sounds", "graphs") and analysis.study.budget_unit == "evaluations"
    assert analysis.study.metric("pictures", "accuracy").ceiling == 0.99
    assert math.isnan(analysis.study.metric("pictures", "error").ceiling)
    keys = itertools.product(("pictures", "sounds", "graphs"), METHODS, (4, 8, 16, 32), range(3))
    assert set(analysis.cells["key"]) == {
        f"{run}.{method.solver}.{budget}.{seed}" for run, method, budget, seed in keys
    }
