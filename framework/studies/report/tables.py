"""Tables as a person reads them, and their Markdown and LaTeX; the page's HTML is made by the template.

The best value is bold, those that cannot be told apart from it are underlined. LaTeX needs the package booktabs.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": "$<$", ">": "$>$", "·": r"$\cdot$", "−": "$-$",
    "–": "--", "×": r"$\times$", "∞": r"$\infty$", "\u2009": r"\,", "\n": " ", "↑": r"$\uparrow$", "↓": r"$\downarrow$",
    "≤": r"$\le$", "≥": r"$\ge$", "…": r"\ldots{}",
}  # fmt: skip
RAISED = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")


@dataclass(frozen=True)
class Cell:
    """What stands at one place of a table.

    Attributes:
        text: the value as it is shown.
        interval: as it is shown, beside or below the value; may be empty.
        best: bold. tied: underlined.
        key: what the page sorts by; the text where it is None.
        tone: "good", "bad" or "same", which the page colours.
    """

    text: str
    interval: str = ""
    best: bool = False
    tied: bool = False
    key: float | None = None
    tone: str = ""


@dataclass(frozen=True)
class Table:
    """A table with a header row; the first cell of each row is its header.

    Attributes:
        name: of its files, without ending.
        title: its caption.
        header: words of the columns.
        rows: as many cells each as there are columns.
        note: what a reader needs to read it.
    """

    name: str
    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    note: str = ""


def write(table: Table, folder: Path) -> None:
    """`folder`/tables/`name`.md and .tex."""
    place = folder / "tables"
    place.mkdir(parents=True, exist_ok=True)
    (place / f"{table.name}.md").write_text(markdown(table), encoding="utf-8")
    (place / f"{table.name}.tex").write_text(latex(table), encoding="utf-8")


def markdown(table: Table) -> str:
    """A table of GitHub's Markdown."""

    def line(texts: Sequence[str]) -> str:
        return "| " + " | ".join(texts) + " |"

    def cell(cell: Cell) -> str:
        text = _markdown(cell.text)
        text = f"**{text}**" if cell.best else f"<u>{text}</u>" if cell.tied else text
        return f"{text} {_markdown(cell.interval)}".strip()

    lines = [
        f"**{_markdown(table.title)}**",
        "",
        line([_markdown(text) for text in table.header]),
        line([":---", *["---:"] * (len(table.header) - 1)]),
        *(line([cell(c) for c in row]) for row in table.rows),
    ]
    return "\n".join([*lines, *(["", _markdown(table.note)] if table.note else []), ""])


def latex(table: Table) -> str:
    """A floating table for booktabs, with the label tab:`name`."""

    def cell(cell: Cell) -> str:
        text = _latex(cell.text)
        text = rf"\textbf{{{text}}}" if cell.best else rf"\underline{{{text}}}" if cell.tied else text
        return text + (rf" {{\scriptsize {_latex(cell.interval)}}}" if cell.interval else "")

    lines = [
        "% needs \\usepackage{booktabs}",
        r"\begin{table}[tb]",
        r"  \centering",
        rf"  \caption{{{_latex(' '.join(filter(None, [table.title + '.', table.note])))}}}",
        rf"  \label{{tab:{re.sub(r'[^A-Za-z0-9-]+', '-', table.name)}}}",
        rf"  \begin{{tabular}}{{l{'r' * (len(table.header) - 1)}}}",
        r"    \toprule",
        f"    {' & '.join(_latex(text) for text in table.header)} \\\\",
        r"    \midrule",
        # A row that begins with a bracket would be read as an option of the line break before it.
        *(f"    {{}}{' & '.join(cell(c) for c in row)} \\\\" for row in table.rows),
        r"    \bottomrule",
        r"  \end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def slug(name: str) -> str:
    """A name as part of a file's name and of an anchor."""
    return "-".join("".join(c if c.isalnum() and c.isascii() else " " for c in name).split()) or "x"


def _markdown(text: str) -> str:
    text = re.sub(r"([\\|*_`<>\[\]])", r"\\\1", text)
    return text.replace("\n", " ")


def _latex(text: str) -> str:
    """Text with nothing left that LaTeX would read as a command; raised digits become an exponent."""
    raised = "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"
    parts = re.split(f"([{raised}]+)", text)
    return "".join(
        f"$^{{{part.translate(RAISED)}}}$" if i % 2 else "".join(LATEX.get(letter, letter) for letter in part)
        for i, part in enumerate(parts)
    )
