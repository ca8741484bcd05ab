"""The conformance kit as tests for pytest: one test a check, in the suite of whoever writes a modality.

    class TestWeather(ModalitySuite):
        def modality(self): return Weather()
        def data(self): return WeatherData()
        def backbone(self): return WeatherNet()

A check that does not apply is a skipped test, with the reason; one that was declared to fail, with a reason, is an
expected failure, and a failure if it passes after all. What was looked at, and how many items, is in the properties
`detail` and `items` of each test (`pytest --junit-xml`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar

import lightning as L
import pytest
from torch import nn

from framework.errors import UserError
from framework.modality import Modality
from framework.plugins import nearest
from framework.testing.check import CHECKS, run_check
from framework.testing.report import Result, Status
from framework.testing.subject import Check, Subject

Record = Callable[[str, object], None]


class ModalitySuite:
    """A mixin; a class that inherits from it, and whose name begins with Test, has a test for each of `checks`.

    Attributes:
        checks: by name; a suite may have more than the kit's.
        expected: the checks that are known to fail, each with the reason.
        items: how many items of a batch are looked at.
        thorough: judge real data with the modality's own metrics too, which may train a judge.
    """

    checks: ClassVar[Mapping[str, Check]] = CHECKS
    expected: ClassVar[Mapping[str, str]] = {}
    items: ClassVar[int] = 8
    thorough: ClassVar[bool] = False

    def modality(self) -> Modality:
        """As a run has it, with all that it takes from its data."""
        raise NotImplementedError(f"{type(self).__name__} does not say which modality it tests")

    def data(self) -> L.LightningDataModule:
        """A fresh data module; it is asked for twice, and the two are compared."""
        raise NotImplementedError(f"{type(self).__name__} does not say which data it tests with")

    def backbone(self) -> nn.Module | None:
        """A network for the modality's states; without one the checks of networks are skipped."""
        return None

    def subject(self) -> Subject:
        """All that is looked at; override this to give a schedule, a configuration, ... as well."""
        return Subject(self.modality(), self.data, self.backbone(), items=self.items, thorough=self.thorough)

    def hold(self, name: str, record: Record) -> None:
        """Run a check, and end the test as it ends. The subject is made once for all tests of a class."""
        if "_subject" not in type(self).__dict__:
            type(self)._subject = self.subject()  # type: ignore[attr-defined]
        subject: Subject = type(self)._subject  # type: ignore[attr-defined]
        result = run_check(name, self.checks[name], subject, self.expected.get(name))
        record("items", result.items)
        record("detail", result.detail)
        for figure, value in result.figures.items():
            record(figure, value)
        _end(result)

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        for name in cls.expected:
            if name not in cls.checks:
                raise UserError(
                    f"{cls.__name__}.expected: there is no check {name!r}{nearest(name, cls.checks)}; there are: "
                    f"{', '.join(cls.checks)}"
                )
        _give_tests(cls)


def _end(result: Result) -> None:
    if result.status is Status.SKIPPED:
        pytest.skip(result.words)
    if result.status is Status.FAILED_AS_EXPECTED:
        pytest.xfail(result.words)
    if result.status in (Status.FAILED, Status.PASSED_UNEXPECTEDLY):
        pytest.fail(result.words, pytrace=False)


def _test(name: str, check: Check) -> Callable[[ModalitySuite, Record], None]:
    def test(self: ModalitySuite, record_property: Record) -> None:
        self.hold(name, record_property)

    test.__name__, test.__doc__ = f"test_{name}", check.__doc__
    return test


def _give_tests(cls: type[ModalitySuite]) -> None:
    for name, check in cls.checks.items():
        if not hasattr(cls, f"test_{name}"):
            setattr(cls, f"test_{name}", _test(name, check))


_give_tests(ModalitySuite)
