"""Checks of training, and of what is kept of it."""

from __future__ import annotations

import math
from pathlib import Path

from framework.store import load, save
from framework.testing.compare import difference
from framework.testing.subject import Failed, Passed, Skipped, Subject
from framework.testing.training import STEPS, trained

SAVED = 2  # samples that a loaded model must repeat


def training_steps(subject: Subject) -> Passed:
    """Two steps of optimisation on the objective change the loss, and leave it finite."""
    result = trained(subject)
    words = " -> ".join(f"{loss:.4g}" for loss in result.losses)
    if not all(math.isfinite(loss) for loss in result.losses):
        raise Failed(f"the loss is not finite in {STEPS} steps: {words}", subject.rows)
    if result.losses[0] == result.losses[-1]:
        raise Failed(
            f"{STEPS} steps do not change the loss ({words}), and {result.moved} of {result.parameters} parameters"
        )
    return Passed(f"the loss goes {words}; {result.moved} of {result.parameters} parameters moved", subject.rows)


def save_and_load(subject: Subject) -> Passed:
    """A model that was saved and loaded gives the same samples: all that it depends on is in its configuration and its
    weights, and what it names may be loaded from a folder.
    """
    if subject.config is None:
        raise Skipped("no configuration was given (config=), and a model folder is written from one")
    model = subject.model(subject.shaken)
    asked = list(subject.prompts(SAVED))
    with subject.place("model") as folder:
        save(model, subject.config, Path(folder) / "model", "# A model of the conformance kit\n")
        loaded = load(Path(folder) / "model", allow=subject.allow)
    solver = model.defaults.solver  # the configuration need not name any
    ours, theirs = (each.sample(asked, seed=0, steps=2, solver=solver) for each in (model, loaded))
    if (apart := difference(theirs.samples, ours.samples)) is not None:
        raise Failed(f"the loaded model gives other samples: {apart}; what it needs is not in its weights", SAVED)
    return Passed("the loaded model repeats the samples exactly", SAVED)
