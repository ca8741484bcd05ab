"""The kit as tests: one a check, ending as the check ends."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
from _pytest.outcomes import Failed, Skipped, XFailed

from framework.errors import UserError
from framework.testing import CHECKS
from framework.testing.suite import ModalitySuite
from tests.testing.toys import SoundPoints
from tests.toy import PointData, PointNet, Points


class TestSoundPoints(ModalitySuite):
    """As an author writes it; pytest collects it here, too."""

    thorough = True

    def modality(self) -> SoundPoints:
        return SoundPoints()

    def data(self) -> PointData:
        return PointData(batch_size=16, validation_size=96)

    def backbone(self) -> PointNet:
        return PointNet()


class Lacking(ModalitySuite):
    """The points of tests/toy.py draw no picture, read prompts with int(), and have a null condition."""

    expected: ClassVar = {"rendering": "points are numbers", "null_condition": "a mistake of mine"}

    def modality(self) -> Points:
        return Points()

    def data(self) -> PointData:
        return PointData()


def outcome(name: str, suite: type[ModalitySuite] = Lacking) -> tuple[type[BaseException] | None, str, dict[str, Any]]:
    record: dict[str, Any] = {}
    try:
        getattr(suite(), f"test_{name}")(record.__setitem__)
    except (Skipped, Failed, XFailed) as end:
        return type(end), str(end), record
    return None, "", record


def test_there_is_a_test_for_each_check_in_their_order():
    names = [name.removeprefix("test_") for name in vars(ModalitySuite) if name.startswith("test_")]
    assert names == list(CHECKS)
    assert ModalitySuite.test_oracle.__doc__ == CHECKS["oracle"].__doc__  # type: ignore[attr-defined]


def test_a_check_that_passes_says_what_was_looked_at():
    end, _, record = outcome("contract")
    assert end is None and record["items"] == 9 and "version 1" in record["detail"]


def test_figures_are_properties_too():
    assert outcome("speed")[2]["seconds_per_item_encoded"] > 0


def test_a_check_that_fails_is_a_failure_in_its_words():
    end, words, _ = outcome("absurd_prompts")
    assert end is Failed and "not PromptError" in words


def test_an_expected_failure_is_one_with_its_reason():
    end, words, _ = outcome("rendering")
    assert end is XFailed and "points are numbers" in words


def test_an_expected_failure_that_passes_is_a_failure():
    end, words, _ = outcome("null_condition")
    assert end is Failed and "take the expectation away" in words


def test_what_does_not_apply_is_skipped_with_the_reason():
    end, words, record = outcome("network_output")
    assert end is Skipped and "no backbone was given" in words and record["items"] == 0


def test_an_expectation_of_no_check_is_refused():
    with pytest.raises(UserError, match="there is no check 'orcale'; did you mean 'oracle'"):
        type("Wrong", (Lacking,), {"expected": {"orcale": "?"}})


def test_a_suite_may_have_checks_of_its_own():
    def mine(subject: Any) -> Any:
        raise AssertionError("mine fails")

    suite = type("More", (Lacking,), {"checks": {**CHECKS, "mine": mine}})
    end, words, _ = outcome("mine", suite)
    assert end is Failed and "mine fails" in words
    assert not hasattr(Lacking, "test_mine")
