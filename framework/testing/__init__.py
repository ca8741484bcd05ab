"""The conformance kit of the plugin contract: what an author of a modality runs, as scikit-learn's check_estimator is.

from framework.testing import check_modality
check_modality(modality, data, backbone).raise_for_failures()

report.py           what was found, as a table, as JSON and as an error
subject.py          what is looked at: the objects that are given, and what many checks need of them
compare.py          equality and distance of batches, samples, states and conditions
tokens.py           which parts of a state are tokens, and what is said of them
oracle.py           the exact denoiser of a few items
walks.py            samples of a network, and which solvers can undo a process
round_trips.py      what is lost on the way to samples and back
training.py         two steps of optimisation
checks_*.py         the checks: functions of the subject, whose docstrings say what they demand and why
check.py            the one function that runs them
suite.py            the same as tests for pytest
"""

from framework.testing.check import CHECKS, check_modality
from framework.testing.report import ConformanceError, Report, Result, Status

__all__ = ["CHECKS", "ConformanceError", "Report", "Result", "Status", "check_modality"]
