"""Files of a study: whole or not there, and strict."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from framework.errors import UserError
from framework.studies.store import StudyFolder, finite

RECORD = {
    "key": "k",
    "content": "c",
    "status": "ok",
    "cost": {"evaluations": 4.0},
    "set_metrics": {"kid": float("nan")},
}


@pytest.fixture
def store(tmp_path: Path) -> StudyFolder:
    made = StudyFolder(tmp_path / "study")
    made.prepare()
    return made


def test_a_cell_comes_back(store: StudyFolder) -> None:
    columns = {"index": [0, 1], "prompt": ["a", ""], "error": [0.5, float("nan")], "right": np.array([1.0, 0.0])}
    store.write_cell(RECORD, columns, np.eye(2), lambda to: (to / "a.txt").write_text("a") and None)
    assert store.done("k") and store.status("k") == "ok" and store.contents() == {"c": "k"}
    table = pq.read_table(store.cells / "k.parquet").to_pydict()
    assert table["index"] == [0, 1] and table["prompt"] == ["a", ""] and table["right"] == [1.0, 0.0]
    assert table["error"][0] == 0.5 and np.isnan(table["error"][1])
    assert (store.cells / "k" / "a.txt").read_text() == "a"
    text = (store.cells / "k.json").read_text()
    assert json.loads(text, parse_constant=lambda word: pytest.fail(word))["set_metrics"]["kid"] is None


def test_a_cell_whose_files_were_not_all_written_is_not_done(store: StudyFolder) -> None:
    def killed(to: Path) -> None:
        (to / "half").write_text("a")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.write_cell(RECORD, {"index": [0]}, None, killed)
    assert not store.done("k") and not (store.cells / "k").exists()
    assert [file.name for file in store.cells.iterdir()] == ["k.parquet"]


def test_what_a_killed_process_left_is_cleared_away(store: StudyFolder) -> None:
    (store.cells / ".tmp-folder").mkdir()
    (store.cells / ".tmp-file").write_text("half")
    store.prepare()
    assert len(list(store.cells.iterdir())) == 2  # another part of the study may be writing them
    for leftover in store.cells.iterdir():
        os.utime(leftover, (1e9, 1e9))
    store.prepare()
    assert list(store.cells.iterdir()) == []


def test_a_copy_has_its_own_name_and_the_same_numbers(store: StudyFolder) -> None:
    store.write_cell(RECORD, {"index": [0]}, np.eye(1), lambda to: (to / "a.txt").write_text("a") and None)
    store.copy_cell("k", {"key": "other", "method": "b"})
    record = store.json("cells/other.json")
    assert record["key"] == "other" and record["method"] == "b" and record["cost"] == {"evaluations": 4.0}
    assert (store.cells / "other.parquet").read_bytes() == (store.cells / "k.parquet").read_bytes()
    assert (store.cells / "other" / "a.txt").is_file()


def test_a_folder_of_something_else_is_refused(tmp_path: Path, store: StudyFolder) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.png").write_text("a cat")
    with pytest.raises(UserError, match=r"cat\.png"):
        StudyFolder(tmp_path / "photos").check_is_free("s")
    store.write_json("study.json", {"name": "s"})
    store.check_is_free("s")
    with pytest.raises(UserError, match="holds the study 's'"):
        store.check_is_free("t")


def test_numbers_that_json_has_not_become_null() -> None:
    given = {"a": float("inf"), "b": [np.float32("nan"), np.int64(3), (1.5,)], "c": "nan"}
    assert finite(given) == {"a": None, "b": [None, 3, [1.5]], "c": "nan"}
