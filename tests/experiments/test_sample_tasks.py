"""`diffract sample task=...`: from a file and words to samples that say how they were made."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from tensordict import TensorDict
from torch import Tensor

from experiments import sample
from experiments.cli import look_through
from experiments.configuration import allowed, compose, plain
from experiments.errors import ConfigurationError
from framework.build import USER_CONFIG, check
from framework.errors import UserError
from framework.model import Model
from framework.store import save
from tests.toy import Points, point_model

CONF = Path(__file__).parents[2] / "conf" / "task"


class Files(Points):
    """Points that are read from JSON, with the regions x and y, and rendered beside their metadata."""

    name: ClassVar[str] = "files"

    def read(self, path: Path) -> Mapping[str, Any]:
        return {"point": torch.tensor([json.loads(path.read_text())]), "label": torch.tensor([2])}

    def region(self, text: str, state: Tensor, condition: TensorDict) -> Tensor:  # type: ignore[override]
        return torch.tensor([text in ("", "x"), text in ("", "y")])

    def render(
        self, samples: Any, prompts: Sequence[Any], folder: Path, metadata: Sequence[Mapping[str, str]]
    ) -> list[Path]:
        (folder / "metadata.json").write_text(json.dumps(list(metadata)))
        return super().render(samples, prompts, folder, metadata)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    toy = point_model()
    config = {
        "modality": {"_target_": f"{__name__}.Files"},
        "backbone": {"_target_": "tests.toy.PointNet"},
        "schedule": {"_target_": "framework.schedules.Flow"},
        "parametrization": {"_target_": "framework.parametrizations.V"},
    }
    folder = tmp_path_factory.mktemp("run") / "model"
    return save(Model(Files(), toy.network, toy.schedule, toy.parametrization), config, folder, "card")


@pytest.fixture
def point(tmp_path: Path) -> Path:
    (tmp_path / "point.json").write_text("[0.5, -1.0]")
    return tmp_path / "point.json"


def go(model: Path, out: Path, *words: str) -> tuple[list[list[float]], list[dict[str, str]]]:
    words = (f"run={model}", f"out={out}", "allow=[tests]", "device=cpu", "steps=8", *words)
    sample.run(compose("sample", words))
    return json.loads((out / "points.json").read_text()), json.loads((out / "metadata.json").read_text())


def test_inpainting_from_the_command(model: Path, point: Path, tmp_path: Path) -> None:
    words = ("task=inpaint", f"task.input={point}", "prompt=1", "n=3", "batch_size=2")
    points, rows = go(model, tmp_path / "keep", *words, "task.keep=x")
    assert [p[0] for p in points] == pytest.approx([0.5] * 3, abs=1e-5) and len({round(p[1], 4) for p in points}) == 3
    assert rows[0]["task"] == "Inpaint" and rows[0]["task.input"] == str(point)
    assert rows[0]["task.keep"] == "x" and rows[0]["task.resampling"] == "5" and "task.redo" not in rows[0]
    points, _ = go(model, tmp_path / "redo", *words, "task.redo=x", "task.resampling=1")
    assert [p[1] for p in points] == pytest.approx([-1.0] * 3, abs=1e-5)


def test_edits_and_variations_from_the_command(model: Path, point: Path, tmp_path: Path) -> None:
    away = {}
    for name in ("edit", "variations"):
        points, rows = go(model, tmp_path / name, f"task={name}", f"task.input={point}", "prompt=0", "n=4")
        away[name] = float((torch.tensor(points) - torch.tensor([0.5, -1.0])).norm(dim=1).mean())
        assert rows[0]["task"] == "Edit" and 0 < float(rows[0]["task.strength"]) < 1
    assert 0 < away["variations"] < away["edit"]


def test_generating_says_nothing_of_tasks(model: Path, tmp_path: Path) -> None:
    _, plainly = go(model, tmp_path / "plain", "prompt=0")
    points, rows = go(model, tmp_path / "generate", "prompt=0", "task=generate")
    assert rows == plainly and not any(key.startswith("task") for key in rows[0]) and len(points) == 4


def test_all_of_a_fixed_canvas_leaves_nothing_to_continue(model: Path, point: Path, tmp_path: Path) -> None:
    points, _ = go(model, tmp_path / "half", "task=continue", f"task.input={point}", "task.keep=x", "prompt=0")
    assert [p[0] for p in points] == pytest.approx([0.5] * 4, abs=1e-5)


WRONG = [
    (["task=edit", "task.input=nowhere.json"], "nowhere.json: there is no such file"),
    (["task=edit", "task.input=POINT", "task.strength=0"], "strength=0"),
    (["task=inpaint", "task.input=POINT"], "one of the two"),
    (["task=inpaint", "task.input=POINT", "task.keep=x", "task.redo=y"], "one of the two"),
    (["task=continue", "task.input=POINT", "task.resampling=0"], "passes >= 1"),
]


@pytest.mark.parametrize(("words", "message"), WRONG, ids=[" ".join(words) for words, _ in WRONG])
def test_wrong_wishes_are_refused_before_a_model_is_loaded(words: list[str], message: str, point: Path) -> None:
    """There is no model at run=x, which would be the complaint otherwise."""
    config = compose("sample", ["run=x", *(word.replace("POINT", str(point)) for word in words)])
    with pytest.raises(UserError, match=message):
        sample.run(config)


def test_a_missing_input_is_asked_for() -> None:
    for task in ("edit", "variations", "inpaint", "continue"):
        with pytest.raises(ConfigurationError, match=r"task\.input must be given, as in: task\.input="):
            look_through("sample", compose("sample", ["run=x", f"task={task}"]))


def test_every_task_composes_and_names_what_exists() -> None:
    for file in sorted(CONF.glob("*.yaml")):
        words = ["task.input=x"] if "input: ???" in file.read_text() else []
        config = compose("sample", ["run=x", f"task={file.stem}", *words])
        assert check(plain(config)["task"], USER_CONFIG) == [] and check(plain(config), allowed(config)) == []
    with pytest.raises(ConfigurationError, match="did you mean 'inpaint'"):
        compose("sample", ["run=x", "task=inpiant"])
    with pytest.raises(ConfigurationError, match=r"did you mean 'task\.strength'"):
        compose("sample", ["run=x", "task=edit", "task.strenght=1"])
