"""The kit on states with tokens in them: what is right passes, and says what was looked at."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tensordict import TensorDict

from framework.categories import Array, Categories
from framework.noise import BatchKey, SampleKey
from framework.processes.by_component import ByComponent
from framework.processes.categorical import Marginal, Uniform
from framework.schedules import Cosine, Flow
from framework.solvers.categorical.confidence import ConfidenceOrder
from framework.solvers.dpmpp import DPMpp2M
from framework.solvers.edm import Heun
from framework.testing import CHECKS, Report, Status, check_modality
from framework.testing.compare import gap
from framework.testing.oracle import Oracle
from tests.testing.token_toys import LETTERS, Graphs, WordNet, Words, check_graphs, graph_data, word_data

ABSENT = {"save_and_load", "evaluation"}  # no configuration is given here, and the toys measure nothing


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def statuses(report: Report, status: Status) -> set[str]:
    return {result.name for result in report.results if result.status is status}


@pytest.mark.parametrize("processes", [None, ByComponent(Uniform()), ByComponent(Marginal((3, 2, 1, 1)))])
def test_words_pass(processes):
    report = check_modality(Words(), word_data, WordNet(), processes=processes)
    report.raise_for_failures()
    assert statuses(report, Status.SKIPPED) == ABSENT | {"symmetries"}
    assert set(CHECKS) == statuses(report, Status.PASSED) | ABSENT | {"symmetries"}
    assert "4 of 4 classes" in report["encoding"].detail and "0 of 60 tokens" in report["round_trip"].detail
    assert "5 to 5 free tokens" in report["degrees_of_freedom"].detail
    assert "all tokens equal" in report["oracle"].detail
    assert "2 solvers: Ancestral, TauLeaping; 7 skipped: DDIM" in report["solvers"].detail


@pytest.mark.parametrize("processes", [None, ByComponent(Uniform(), clocks={"kinds": Cosine()})])
def test_graphs_pass(processes):
    report = check_graphs(processes=processes)
    report.raise_for_failures()
    assert statuses(report, Status.SKIPPED) == ABSENT
    assert "kinds" in report["noise"].detail and "points" in report["noise"].detail
    assert "0 of 60 tokens of kinds" in report["round_trip"].detail
    assert "3 to 10 free tokens" in report["degrees_of_freedom"].detail
    assert "state (links)" in report["network_inputs"].detail
    assert "permutation" in report["symmetries"].detail


def test_solvers_that_cannot_undo_a_product_are_skipped_with_their_reason():
    given = {"DPMpp2M": DPMpp2M(), "Heun": Heun(), "ConfidenceOrder": ConfidenceOrder()}
    report = check_graphs(only=["solvers"], solvers=given)
    report.raise_for_failures()
    detail = report["solvers"].detail
    assert "2 solvers: DPMpp2M, ConfidenceOrder; 1 skipped: Heun (Heun evaluates 2 times" in detail
    assert report["solvers"].items == 2
    unmasked = check_graphs(only=["solvers"], solvers=given, processes=ByComponent(Uniform()))["solvers"].detail
    assert "1 solvers: DPMpp2M; 2 skipped" in unmasked and "no mask" in unmasked
    only_heun = check_graphs(only=["solvers"], solvers={"Heun": Heun()})["solvers"]
    assert only_heun.failed and "no solver can undo" in only_heun.detail


def test_items_that_cannot_be_used_are_named():
    class Silent:
        name, reason = "a.sdf", " "

    def data(bad: Any) -> Any:
        made = graph_data()
        made.bad_items = bad
        return made

    found = check_modality(Graphs(), lambda: data([Silent()]), only=["loader_repeats"])["loader_repeats"]
    assert found.failed and "has a name and a reason" in found.detail
    turns = iter([["a"], ["b"]])

    def other() -> Any:
        from framework.data.bad_items import BadItem

        return data([BadItem(name, "empty") for name in next(turns)])

    found = check_modality(Graphs(), other, only=["loader_repeats"])["loader_repeats"]
    assert found.failed and "leaves out other items" in found.detail


def test_the_oracle_is_bayes_rule():
    """Two words that differ in one letter: the weights are those of a table written by hand."""
    items = torch.tensor([[0, 1, 2, 3, 0], [0, 1, 2, 3, 1]])
    process = ByComponent(Uniform()).process(Categories(LETTERS, Array((5,))), Flow())
    t = torch.tensor([0.4, 0.4], dtype=torch.float64)
    x_t = torch.tensor([[3, 3, 3, 3, 1], [0, 1, 2, 3, 2]])
    said = Oracle(items, process, Flow())(x_t, t, TensorDict({}, batch_size=[2])).clean
    same, other = 0.6 + 0.4 / LETTERS, 0.4 / LETTERS
    assert said.shape == (2, 5, LETTERS)
    torch.testing.assert_close(said[0, 4, :2].double(), torch.tensor([other, same]).double() / (same + other))
    torch.testing.assert_close(said[1, 4], torch.tensor([0.5, 0.5, 0.0, 0.0]))
    torch.testing.assert_close(said[:, 3], torch.tensor([0.0, 0.0, 0.0, 1.0]).expand(2, -1))


def test_tokens_are_one_apart_as_soon_as_one_differs():
    a = torch.zeros(2000, dtype=torch.int64)
    b = a.clone()
    assert gap(a, b) == 0
    b[7] = 1
    assert gap(a, b) == 1


def test_keys_of_samples_and_of_batches_serve_tokens():
    """Corrupted tokens lie in the space for both kinds of keys: the checks use both."""
    modality, batch = Graphs(), next(iter(graph_data().train_dataloader()))
    state, condition = modality.encode(batch)
    process = ByComponent().process(modality.space, Flow())
    t = torch.full((12,), 0.5, dtype=torch.float64)
    for key in (SampleKey(0, tuple(range(12))), BatchKey(0, 0, size=12)):
        x_t, _ = process.corrupt(state, t, key, condition)
        assert torch.equal(modality.space.project(x_t, condition)["links"], x_t["links"])
