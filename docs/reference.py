"""What mkdocs has no pages for: a front page from the README, a reference page for each module, and the links between.

Links of the pages lead to files of the repository, as GitHub shows them. Those to modules lead to their reference here;
others, to files that are no part of the site, become words. A page that no entry of `nav` names joins the last tab but
the reference, so that a new one cannot be forgotten.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("framework", "experiments")
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")


def modules() -> list[str]:
    """The files of all public modules, relative to the repository: framework/build.py, ..."""
    found = []
    for package in PACKAGES:
        for file in sorted((ROOT / package).rglob("*.py")):
            path = file.relative_to(ROOT)
            public = not any(part.startswith("_") for part in path.with_suffix("").parts if part != "__init__")
            if public and path.parts[1] != "template":
                found.append(path.as_posix())
    return found


def page_of(module: str) -> str:
    """reference/framework/build.md of framework/build.py; a package is its folder's index."""
    return (
        "reference/"
        + re.sub(r"(__init__)?\.py$", "", module).rstrip("/")
        + ("/index.md" if "__init__" in module else ".md")
    )


def name_of(module: str) -> str:
    """framework.build of framework/build.py."""
    return re.sub(r"(/__init__)?\.py$", "", module).replace("/", ".")


def on_config(config: Any) -> Any:
    """Add to `nav` the pages that it forgets, and the reference."""
    named = str(config["nav"])
    forgotten = [page.name for page in sorted((ROOT / "docs").glob("*.md")) if page.name not in named]
    if forgotten:
        config["nav"].append({"More": forgotten})
    groups: dict[str, list[dict[str, str]]] = {}
    for module in modules():
        parts = module.split("/")
        group = ".".join(parts[: 2 if len(parts) > 2 else 1])
        groups.setdefault(group, []).append({name_of(module): page_of(module)})
    config["nav"].append({"Reference": [{group: pages} for group, pages in groups.items()]})
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the generated pages."""
    files.append(File.generated(config, "index.md", content=from_readme()))
    for module in modules():
        content = f"# {name_of(module)}\n\n::: {name_of(module)}\n"
        files.append(File.generated(config, page_of(module), content=content))
    return files


def from_readme() -> str:
    """The README as a page of docs/."""
    return LINK.sub(lambda link: f"{link[1]}[{link[2]}]({_below_docs(link[3])})", (ROOT / "README.md").read_text())


def _below_docs(target: str) -> str:
    if "://" in target or target.startswith("#"):
        return target
    return target.removeprefix("docs/") if target.startswith("docs/") else f"../{target}"


def on_page_markdown(markdown: str, page: Any, **rest: Any) -> str:
    """Lead the links out of docs/ to the reference, or nowhere."""

    def led(link: re.Match[str]) -> str:
        mark, words, target = link.groups()
        path = target.partition("#")[0]
        if "://" in target or not path.startswith("../"):
            return link[0]
        place = posixpath.normpath(posixpath.join("docs", path))
        for module in (f"{place}/__init__.py", place):
            if module in KNOWN:
                return f"{mark}[{words}]({page_of(module)})"
        return words

    return markdown if page.file.src_uri.startswith("reference/") else LINK.sub(led, markdown)


KNOWN = frozenset(modules())
