"""Modalities that keep the contract pass the kit, and say what was looked at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from experiments.configuration import allowed, compose, plain
from framework.build import Allow, build
from framework.errors import UserError
from framework.plugins import load_modality
from framework.testing import CHECKS, Report, Status, check_modality
from tests.testing.toys import ColouredNet, ColouredSets, SetData, SetNet, Sets, SoundPoints
from tests.toy import PointData, PointNet, Points, point_config

ALLOW = Allow(packages=("framework", "tests"))


def points_config(tmp_path: Path) -> dict[str, Any]:
    return point_config(tmp_path, modality={"_target_": "tests.testing.toys.SoundPoints"})


def statuses(report: Report, status: Status) -> set[str]:
    return {result.name for result in report.results if result.status is status}


def test_sound_points_pass_every_check(tmp_path):
    data = PointData(batch_size=16, validation_size=96)
    report = check_modality(
        SoundPoints(), data, PointNet(), config=points_config(tmp_path), allow=ALLOW, thorough=True, folder=tmp_path
    )
    report.raise_for_failures()
    assert [result.name for result in report.results] == list(CHECKS)
    assert statuses(report, Status.PASSED) == set(CHECKS) - {"symmetries"}, report.to_json()
    assert "none are declared" in report["symmetries"].detail
    assert all(result.demands and result.items > 0 for result in report.results if result.name != "symmetries")
    assert (tmp_path / "rendered" / "sheet.png").exists() and (tmp_path / "model" / "model" / "config.yaml").exists()


def test_sets_with_padding_pass_and_say_what_was_skipped():
    report = check_modality(Sets(), SetData, SetNet())
    report.raise_for_failures()
    assert statuses(report, Status.SKIPPED) == {"round_trip", "save_and_load", "symmetries", "evaluation"}
    assert "rebatch" in report["round_trip"].detail and "config=" in report["save_and_load"].detail
    assert "items" in report["oracle"].detail and report["oracle"].items > 0


def test_states_of_named_components_pass():
    report = check_modality(ColouredSets(), SetData, ColouredNet())
    report.raise_for_failures()
    assert statuses(report, Status.SKIPPED) == {"round_trip", "save_and_load", "symmetries", "evaluation"}
    assert "points" in report["noise"].detail and "colour" in report["noise"].detail


def test_a_rebatch_makes_the_round_trip_possible():
    def rebatch(samples: Any, batch: Any) -> Any:
        points = torch.zeros_like(batch["points"])
        for row, sample in enumerate(samples):
            points[row, batch["mask"][row]] = torch.from_numpy(sample)
        return {**batch, "points": points}

    report = check_modality(Sets(), SetData, SetNet(), only=["round_trip"], rebatch=rebatch)
    assert statuses(report, Status.PASSED) == {"round_trip"} and report["round_trip"].items == 12


def test_without_a_backbone_the_rest_is_checked():
    report = check_modality(SoundPoints(), PointData())
    report.raise_for_failures()
    skipped = statuses(report, Status.SKIPPED)
    assert {"network_output", "network_gradients", "batch_invariance", "training_steps", "solvers"} <= skipped
    assert "no backbone" in report["solvers"].detail and report["oracle"].status is Status.PASSED


def test_the_points_of_the_tests_lack_two_things_and_may_say_so():
    """tests/toy.py draws no picture and reads prompts with int()."""
    reasons = {
        "rendering": "points are numbers",
        "absurd_prompts": "int() refuses",
        "null_condition": "a mistake of mine",
    }
    report = check_modality(Points(), PointData(), PointNet(), expected=reasons)
    assert report.passed
    assert statuses(report, Status.FAILED_AS_EXPECTED) == {"rendering", "absurd_prompts"}
    assert "points are numbers" in report["rendering"].words
    assert statuses(report, Status.PASSED_UNEXPECTEDLY) == {"null_condition"}
    assert statuses(check_modality(Points(), PointData()), Status.FAILED) == {"rendering", "absurd_prompts"}


def test_what_is_given_is_left_as_it_was():
    network, data = PointNet(), PointData()
    before = {name: p.clone() for name, p in network.state_dict().items()}
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    check_modality(SoundPoints(), data, network)
    assert torch.equal(torch.rand(3), wanted)
    assert all(torch.equal(p, before[name]) for name, p in network.state_dict().items())
    assert all(p.grad is None for p in network.parameters()) and network.training


def test_names_of_no_check_are_refused():
    for options in ({"only": ["orcale"]}, {"expected": {"orcale": "?"}}):
        with pytest.raises(UserError, match="no check 'orcale'; did you mean 'oracle'"):
            check_modality(SoundPoints(), PointData(), **options)


def experiment(name: str, *overrides: str, **options: Any) -> Report:
    """The kit's report on an experiment of the repository."""
    settings = plain(compose("train", [f"experiment={name}", *overrides]))
    allow = allowed(settings)
    settings["data"] = {key: value for key, value in settings["data"].items() if key != "skipped_path"}
    data = build(settings["data"], allow)
    data.setup("fit")
    settings = load_modality(name.split("/")[0]).adapt(settings, data)  # type: ignore[attr-defined]
    keys = ("modality", "backbone", "schedule", "parametrization", "processes")
    parts = build({key: settings[key] for key in keys if settings[key] is not None}, allow)
    return check_modality(
        parts["modality"],
        lambda: build(settings["data"], allow),
        parts["backbone"],
        schedule=parts["schedule"],
        parametrization=parts["parametrization"],
        processes=parts.get("processes"),
        config=settings,
        **options,
    )


def test_images_pass():
    overrides = ["backbone.width=8", "backbone.multipliers=[1]", "backbone.text.width=8", "data.batch_size=8"]
    report = experiment("images/shapes", *overrides, "data.train_length=64")
    report.raise_for_failures()
    assert statuses(report, Status.SKIPPED) == {"symmetries", "evaluation"}


def test_molecules_pass():
    report = experiment("molecules/gdb_mini", "data.largest=3", "data.batch_size=8")
    report.raise_for_failures()
    assert statuses(report, Status.SKIPPED) == {"evaluation"}
    assert all(word in report["symmetries"].detail for word in ("rotation", "reflection", "permutation"))


def test_a_network_that_claims_a_symmetry_must_have_it():
    report = experiment(
        "molecules/gdb_mini", "data.largest=3", "backbone=molecules/transformer", "backbone.rotate=false",
        only=["symmetries"],
    )  # fmt: skip
    assert "has not the symmetry of rotation" in report["symmetries"].detail
    report = experiment("molecules/gdb_mini", "data.largest=3", "backbone.body.chiral=true", only=["symmetries"])
    report.raise_for_failures()
    assert "rotation" in report["symmetries"].detail and "reflection" not in report["symmetries"].detail
