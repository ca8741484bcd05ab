"""Every command in the README and in docs/ runs as it stands there."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.pages import PAGES, commands, run_commands, with_a_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return with_a_model(tmp_path_factory.mktemp("docs"))


@pytest.mark.parametrize("page", [p for p in PAGES if commands(p)], ids=lambda p: p.name)
def test_commands(page: Path, folder: Path) -> None:
    lines = commands(page)
    for line in lines:
        assert line.startswith("diffract "), (
            f"{page.name}: {line!r} is not a command that a test can run; mark its block `text`"
        )
    run_commands(lines, folder)
