"""Every piece of Python in the README and in docs/ runs as it stands there, and every link leads somewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.pages import PAGES, Runner, blocks, with_a_model


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    yield from with_a_model(tmp_path_factory.mktemp("docs"))


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p, "python")], ids=lambda p: p.name)
def test_python(page: Path, runner: Runner) -> None:
    runner.python("\n".join(blocks(page, "python")))


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        for link in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            assert (page.parent / link).exists() or "://" in link, f"{page.name}: {link} does not exist"
