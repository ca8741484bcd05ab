"""The conformance kit on an experiment, as tests for pytest: all that a plugin's own suite needs.

    class TestToy(ExperimentSuite):
        experiment = "weather/toy"
        overrides = ("data.train_length=256", "backbone.width=16")

See `framework.testing.suite.ModalitySuite` for the rest; there the parts are objects, here a configuration names them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from experiments.check_modality import subject_of
from experiments.compositions import configuration
from experiments.configuration import compose, plain
from framework.testing.check import CHECKS
from framework.testing.subject import Check, Subject
from framework.testing.suite import ModalitySuite


class ExperimentSuite(ModalitySuite):
    """A mixin; see the module.

    Attributes:
        experiment: the preset.
        overrides: as on the command line, to make things small.
        every_solver: sample with all solvers that can undo such states, and not with one of each family.
    """

    checks: ClassVar[Mapping[str, Check]] = {**CHECKS, "configuration": configuration}
    experiment: ClassVar[str] = ""
    overrides: ClassVar[Sequence[str]] = ()
    every_solver: ClassVar[bool] = False

    def subject(self) -> Subject:
        """The parts as `diffract train` has them."""
        settings = plain(compose("train", [f"experiment={self.experiment}", *self.overrides]))
        return subject_of({**settings, "items": self.items}, thorough=self.thorough, every_solver=self.every_solver)
