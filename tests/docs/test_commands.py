"""Every command in the README and in docs/ runs as it stands there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.pages import PAGES, Runner, commands, with_a_model


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    yield from with_a_model(tmp_path_factory.mktemp("docs"))


@pytest.mark.parametrize("page", [p for p in PAGES if commands(p)], ids=lambda p: p.name)
def test_commands(page: Path, runner: Runner) -> None:
    lines = commands(page)
    for line in lines:
        assert line.startswith("diffract "), (
            f"{page.name}: {line!r} is not a command that a test can run; mark its block `text`"
        )
    runner.commands(lines)
