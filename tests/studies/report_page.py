"""How the tests read a report: its elements, and what a browser measures of it."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next((found for name in BROWSERS if (found := shutil.which(name))), "")
# What sticks out of the window and is not inside of a box that scrolls by itself; colours and what they stand on.
MEASURE = r"""
<script>
  for (const details of document.querySelectorAll("details")) details.open = true;
  const wide = [...document.querySelectorAll("body *")].filter((element) =>
    element.getBoundingClientRect().right > innerWidth + 1 && !element.closest(".scroll, .drawing, pre"));
  // Slanted texts have boxes much larger than themselves.
  const texts = [...document.querySelectorAll(".drawing svg text")].filter((text) =>
    !/rotate\((?!0)/.test(text.getAttribute("transform") || ""));
  const colour = (element, name) => getComputedStyle(element)[name];
  const text = document.querySelector(".drawing svg text"), figure = document.querySelector("figure");
  parent.document.documentElement.dataset.measured = JSON.stringify({
    inner: innerWidth, scroll: document.documentElement.scrollWidth,
    wide: wide.slice(0, 5).map((element) => element.outerHTML.slice(0, 120)),
    page: [colour(document.body, "color"), colour(document.body, "backgroundColor")],
    drawing: [colour(text, "fill"), colour(figure, "backgroundColor")],
    letters: text.getBoundingClientRect().height,
    clipped: texts.filter((text) => {
      const inner = text.getBoundingClientRect(), outer = text.ownerSVGElement.getBoundingClientRect();
      return inner.left < outer.left - 2 || inner.right > outer.right + 2 || inner.top < outer.top - 2
        || inner.bottom > outer.bottom + 2;
    }).map((text) => text.textContent),
    overlapping: texts.flatMap((one, i) => texts.slice(i + 1).filter((other) => {
      if (other.ownerSVGElement !== one.ownerSVGElement) return false;
      const a = one.getBoundingClientRect(), b = other.getBoundingClientRect();
      const across = Math.min(a.right, b.right) - Math.max(a.left, b.left);
      const down = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
      return across > 2 && down > 0.4 * Math.min(a.height, b.height);
    }).map((other) => one.textContent + " | " + other.textContent)),
    texts: texts.length,
    sortable: document.querySelectorAll("thead button").length,
  });
</script>
"""


@dataclass
class Elements(HTMLParser):
    """Start tags in their order, as (name, attributes)."""

    found: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, {name: value or "" for name, value in attrs}))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)

    def named(self, *names: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.found if name in names]


def elements(text: str) -> Elements:
    parser = Elements()
    parser.feed(text)
    return parser


def measured(page: Path, width: int, *, dark: bool, folder: Path) -> dict[str, Any]:
    """What a browser makes of a page at a width in pixels, in a frame: windows have a least width, frames have none."""
    text = page.read_text(encoding="utf-8").replace("</body>", MEASURE + "</body>")
    wrapper = folder / f"framed-{width}.html"
    wrapper.write_text(
        '<!doctype html><meta charset="utf-8"><meta name="color-scheme" content="light dark">'
        f'<iframe style="border: 0; width: {width}px; height: 900px" srcdoc="{html.escape(text)}"></iframe>',
        encoding="utf-8",
    )
    command = [
        CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
        f"--user-data-dir={folder / 'profile'}", "--window-size=1400,1000", "--virtual-time-budget=20000",
        f"--blink-settings=preferredColorScheme={0 if dark else 1}", "--dump-dom", wrapper.as_uri(),
    ]  # fmt: skip
    shown = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    found = re.search(r'data-measured="([^"]*)"', shown)
    assert found, "the browser did not run the page"
    return json.loads(html.unescape(found[1]))


def contrast(first: str, second: str) -> float:
    """The contrast of two colours as WCAG 2 has it; "rgb(1, 2, 3)" or "#010203"."""
    light, dark = sorted((_luminance(first), _luminance(second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: str) -> float:
    if colour.startswith("#"):
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    else:
        parts = [float(part) / 255 for part in re.findall(r"[\d.]+", colour)[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
