"""Tasks on a whole model: batches, prompts, guidance, the ledger, and what a modality is asked."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from tensordict import TensorDict
from torch import Tensor, nn

from framework.editing.known import Known, TimeTravel
from framework.editing.observed import DDNM, Keep, PiGDM
from framework.editing.requests import Continue, Edit, Generate, Inpaint
from framework.editing.start import FromClean, FromNoise
from framework.editing.task import Task
from framework.editing.windows import Windows
from framework.errors import UserError
from framework.grids import Karras
from framework.guidance.classifier_free import ClassifierFree
from framework.model import Model
from framework.parametrizations import V
from framework.samples import Trajectory
from framework.schedules import Flow, LinearVP
from framework.solvers.ddim import DDIM, DDPM
from framework.spaces import Masked
from tests.toy import Points, point_model

POINTS = torch.tensor([[0.5, -1.0], [1.5, 2.0], [-0.5, 0.0]])
FIRST = torch.tensor([True, False])
TASKS: dict[str, Sequence[Task]] = {
    "edit": [FromClean(POINTS, 0.6)],
    "noise": [FromNoise(POINTS)],
    "inpaint": [Known(POINTS, FIRST), TimeTravel(3)],
    "edit of a part": [FromClean(POINTS, 0.8), Known(POINTS, FIRST)],
    "ddnm": [DDNM(Keep(FIRST), POINTS * FIRST)],
    "pigdm": [PiGDM(Keep(FIRST), POINTS * FIRST, 0.1)],
}


@pytest.mark.parametrize("name", TASKS)
def test_a_sample_with_a_task_does_not_depend_on_the_batch(name: str) -> None:
    """Three rows serve seven samples in turn; batches of 1 and 3, a later start, and each solver's own randomness."""
    model = point_model()
    for solver in (DDPM(), DDIM()):
        how: dict[str, Any] = {"solver": solver, "steps": 6, "guidance": ClassifierFree(2.0), "tasks": TASKS[name]}
        whole = model.sample(0, 7, **how).samples
        for size in (1, 3):
            split = model.sample(0, 7, batch_size=size, **how).samples
            torch.testing.assert_close(split, whole, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(model.sample(0, 2, first=4, **how).samples, whole[4:6], rtol=1e-4, atol=1e-5)


def test_what_is_known_survives_a_network_in_single_precision() -> None:
    samples = point_model().sample(0, 6, tasks=TASKS["inpaint"], guidance=ClassifierFree(3.0)).samples
    torch.testing.assert_close(samples[:, 0], POINTS[[0, 1, 2, 0, 1, 2], 0], rtol=0, atol=1e-5)
    assert float((samples[:, 1] - POINTS[[0, 1, 2, 0, 1, 2], 1]).abs().min()) > 1e-3


def test_tasks_keep_to_another_schedule_and_grid() -> None:
    model = point_model()
    samples = model.sample(0, 3, schedule=LinearVP(), grid=Karras(), steps=10, tasks=TASKS["inpaint"]).samples
    torch.testing.assert_close(samples[:, 0], POINTS[:, 0], rtol=0, atol=1e-4)


def test_the_ledger_tells_what_a_task_cost() -> None:
    model = point_model()

    def ledger(*tasks: Task) -> Any:
        return model.sample(0, 3, steps=10, guidance=ClassifierFree(2.0), tasks=tasks, batch_size=2).ledger

    assert ledger().evaluations_per_sample == 20
    assert ledger(FromClean(POINTS, 0.5)).evaluations_per_sample == 10
    pigdm = ledger(*TASKS["pigdm"])
    assert pigdm.evaluations_per_sample == 20 and pigdm.backward == 60


def test_no_task_is_what_it_always_was_and_weights_are_left_alone() -> None:
    model = point_model()
    torch.testing.assert_close(model.sample(1, 3, tasks=[]).samples, model.sample(1, 3).samples)
    model.sample(1, 2, steps=3, tasks=TASKS["pigdm"])
    assert all(p.grad is None for p in model.network.parameters())


class Rows(Points):
    """Sets of numbers, as many rows as the prompt says; a file is a list of them, a region "rows=first-last"."""

    name: ClassVar[str] = "rows"

    @property
    def space(self) -> Masked:  # type: ignore[override]
        return Masked(1)

    def encode(self, batch: Mapping[str, Any]) -> tuple[Tensor, TensorDict]:
        state: Tensor = batch["rows"]
        return state, TensorDict({"mask": torch.ones(state.shape[:2], dtype=torch.bool)}, batch_size=[len(state)])

    def parse(self, prompts: Sequence[Any]) -> TensorDict:
        sizes = torch.tensor([int(prompt or 4) for prompt in prompts])
        mask = torch.arange(int(sizes.max())) < sizes[:, None]
        return TensorDict({"mask": mask}, batch_size=[len(prompts)])

    def null(self, condition: TensorDict) -> TensorDict:
        return condition

    def resized(self, condition: TensorDict, like: TensorDict) -> TensorDict:
        return TensorDict({**dict(condition.items()), "mask": like["mask"]}, batch_size=condition.batch_size)

    def read(self, path: Path) -> Mapping[str, Any]:
        return {"rows": torch.tensor(json.loads(path.read_text()))[None, :, None]}

    def region(self, text: str, state: Tensor, condition: TensorDict) -> Tensor:  # type: ignore[override]
        if not text:
            return super().region(text, state, condition)  # type: ignore[return-value]
        first, _, last = text.removeprefix("rows=").partition("-")
        place = torch.arange(state.shape[1])
        return ((place >= int(first)) & (place < int(last)))[None, :, None]


class RowNet(nn.Module):
    """Smooths over neighbours: enough for what is known to reach what is not."""

    def __init__(self, canvas: int | None = None) -> None:
        super().__init__()
        self.weight, self.canvas = nn.Parameter(torch.tensor(0.3)), canvas

    def forward(self, x_t: Tensor, noise_level: Tensor, condition: TensorDict) -> Tensor:
        assert condition["mask"].shape == x_t.shape[:2] and self.canvas in (None, x_t.shape[1])
        return self.weight * (x_t.roll(1, 1) + x_t.roll(-1, 1)) - x_t


def row_model(canvas: int | None = None) -> Model:
    return Model(Rows(), RowNet(canvas), Flow(), V())


@pytest.fixture
def file(tmp_path: Path) -> str:
    (tmp_path / "rows.json").write_text("[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]")
    return str(tmp_path / "rows.json")


def test_an_edited_sample_has_the_size_of_the_input(file: str) -> None:
    """Though the prompt asks for two rows and the negative one for three."""
    model, trajectory = row_model(), Trajectory()
    tasks = Edit(file, 0.3).tasks(model.modality)
    samples = model.sample(2, 2, negative=3, tasks=tasks, guidance=ClassifierFree(2.0), hooks=[trajectory])
    assert samples.samples.shape == (2, 6, 1) and samples.condition["mask"].all()
    assert trajectory.cleans[0].shape == (2, 6, 1)


@pytest.mark.parametrize("words", [{"keep": "rows=1-4"}, {"redo": "rows=0-1"}])
def test_inpainting_keeps_the_region_and_only_it(file: str, words: dict[str, str]) -> None:
    model = row_model()
    x = model.sample(2, 3, tasks=Inpaint(file, resampling=2, **words).tasks(model.modality)).samples[..., 0]
    kept = torch.tensor([1, 2, 3] if "keep" in words else [1, 2, 3, 4, 5])
    free = torch.tensor([i for i in range(6) if i not in kept.tolist()])
    torch.testing.assert_close(x[:, kept], (kept + 1.0).expand(3, -1), rtol=0, atol=1e-5)
    assert float((x[:, free] - (free + 1.0)).abs().min()) > 1e-3


def test_continuing_keeps_the_input_and_has_the_prompts_size(file: str) -> None:
    model = row_model()
    x = model.sample([9, 7], 4, tasks=Continue(file).tasks(model.modality)).samples[..., 0]
    assert x.shape == (4, 9) and not bool(x[1::2, 7:].any())
    torch.testing.assert_close(x[:, :6], torch.arange(1.0, 7.0).expand(4, -1), rtol=0, atol=1e-5)
    assert float(x[:, 6].abs().min()) > 0
    assert model.sample(6, 2, tasks=Continue(file, "rows=0-2").tasks(model.modality)).samples.shape == (2, 6, 1)
    with pytest.raises(UserError, match="nothing is left"):
        model.sample(6, 1, tasks=Continue(file).tasks(model.modality))
    with pytest.raises(UserError, match=r"\(6, 1\) and the samples \(5, 1\)"):
        model.sample(5, 1, tasks=Continue(file).tasks(model.modality))


def test_windows_come_before_guidance_wherever_they_are_named(file: str) -> None:
    """The network only ever sees its canvas of four rows, and what is known stays."""
    model = row_model(canvas=4)
    windows = Windows(4, 2, sliced={"mask": 1})
    for tasks in ([windows, *Continue(file).tasks(model.modality)], [*Continue(file).tasks(model.modality), windows]):
        x = model.sample(11, 2, tasks=tasks, guidance=ClassifierFree(2.0)).samples[..., 0]
        torch.testing.assert_close(x[:, :6], torch.arange(1.0, 7.0).expand(2, -1), rtol=0, atol=1e-5)


def test_requests_refuse_what_can_be_told_without_a_model(file: str) -> None:
    assert Generate().tasks(Points()) == ()
    for make, words in (
        (lambda: Edit("nowhere.png"), "input=nowhere.png: there is no such file"),
        (lambda: Edit(file, 2.0), "strength=2"),
        (lambda: Inpaint(file), "one of the two"),
        (lambda: Inpaint(file, keep="a", redo="b"), "one of the two"),
        (lambda: Inpaint(file, keep="a", resampling=0), "passes >= 1"),
        (lambda: Continue("nowhere.wav"), "there is no such file"),
    ):
        with pytest.raises(UserError, match=words):
            make()


def test_a_modality_that_cannot_read_or_name_says_so(file: str) -> None:
    with pytest.raises(UserError, match="points cannot be edited"):
        Edit(file).tasks(Points())
    state, condition = torch.zeros(2, 2), TensorDict({}, batch_size=[2])
    assert bool(Points().region("", state, condition).all())  # type: ignore[union-attr]
    with pytest.raises(UserError, match="knows no regions"):
        Points().region("x=0", state, condition)


def test_a_state_of_another_kind_is_refused() -> None:
    model = point_model()
    with pytest.raises(UserError, match="not the kind of state"):
        model.sample(0, 1, tasks=[FromClean(TensorDict({"x": POINTS}, batch_size=[3]), 0.5)])
    with pytest.raises(UserError, match="the mask of what is known"):
        model.sample(0, 1, tasks=[replace(TASKS["inpaint"][0], mask=TensorDict({}, batch_size=[1]))])  # type: ignore[type-var]


class Pair(Points):
    """Two components, of which words are only about `a`; a file holds both."""

    name: ClassVar[str] = "pair"

    def read(self, path: Path) -> Mapping[str, Any]:
        return {}

    def encode(self, batch: Mapping[str, Any]) -> Any:
        return TensorDict({"a": torch.zeros(1, 2), "b": torch.zeros(1, 3)}, [1]), TensorDict({}, [1])

    def region(self, text: str, state: Any, condition: TensorDict) -> TensorDict:  # type: ignore[override]
        if not text:
            return super().region(text, state, condition)  # type: ignore[return-value]
        return TensorDict({"a": torch.tensor([[True, False]])}, [1])


def test_components_that_no_word_is_about_are_free_beside_what_is_kept_and_kept_beside_what_is_redone(
    file: str,
) -> None:
    kept = Inpaint(file, keep="a").tasks(Pair())[1]
    redone = Inpaint(file, redo="a").tasks(Pair())[1]
    assert isinstance(kept, Known) and isinstance(redone, Known)
    assert "b" not in kept.mask.keys()  # type: ignore[union-attr]  # noqa: SIM118
    assert redone.mask["a"].tolist() == [[False, True]] and redone.mask["b"].tolist() == [[True] * 3]
