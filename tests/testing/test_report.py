"""What a report says, to people, to scripts and to tests."""

from __future__ import annotations

import json
from io import StringIO

import pytest
from rich.console import Console

from framework.testing import ConformanceError, Report, Result, Status

RESULTS = (
    Result("encoding", Status.PASSED, "8 rows", items=8, demands="finite states"),
    Result("noise", Status.FAILED, "3 entries of [padding] are not zero", items=2),
    Result("oracle", Status.SKIPPED, "no two items are alike"),
    Result("round_trip", Status.FAILED_AS_EXPECTED, "16 % lost", expected="it loses phases"),
    Result("null", Status.PASSED_UNEXPECTEDLY, "idempotent", expected="not yet"),
)


def shown(report: Report) -> str:
    text = StringIO()
    Console(file=text, width=200).print(report)
    return text.getvalue()


def test_only_failures_that_nobody_expected_count():
    report = Report("toys", RESULTS)
    assert not report.passed and [result.name for result in report.failures] == ["noise"]
    assert Report("toys", (*RESULTS[:1], *RESULTS[2:])).passed
    assert report.summary == "1 passed, 1 failed, 1 skipped, 1 failed as expected, 1 passed unexpectedly"
    with pytest.raises(KeyError):
        report["no such check"]


def test_the_error_names_each_failure_and_no_other():
    with pytest.raises(ConformanceError, match=r"'toys' does not conform:\nnoise: 3 entries of \[padding\]") as error:
        Report("toys", RESULTS).raise_for_failures()
    assert "round_trip" not in str(error.value)
    Report("toys", RESULTS[:1]).raise_for_failures()


def test_the_table_says_reasons_and_surprises():
    text = shown(Report("toys", RESULTS))
    assert "3 entries of [padding] are not zero" in text, "words in brackets are no markup"
    assert "no two items are alike" in text
    assert "it loses phases (16 % lost)" in text
    assert "expected to fail (not yet): take the expectation away" in text


def test_json_holds_everything():
    plain = json.loads(Report("toys", RESULTS).to_json())
    assert (plain["modality"], plain["passed"], plain["counts"]["failed"]) == ("toys", False, 1)
    assert [row["name"] for row in plain["checks"]] == [result.name for result in RESULTS]
    assert plain["checks"][0] == {
        "name": "encoding",
        "status": "passed",
        "detail": "8 rows",
        "items": 8,
        "seconds": 0.0,
        "demands": "finite states",
        "expected": None,
        "figures": {},
    }
