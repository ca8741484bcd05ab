"""The report of a study: one HTML file that needs nothing else, figures for a paper, and tables.

report.html          verdicts, plots, tables, samples, protocol, glossary
figures/*.svg, .pdf  every figure of the page
tables/*.csv         every table of the analysis as it is, all digits
tables/*.md, .tex    the page's tables, with the best bold and what cannot be told apart from it underlined
"""

from __future__ import annotations

from pathlib import Path

from framework.files import write_text
from framework.studies.analysis import Analysis
from framework.studies.labels import short_names
from framework.studies.report import page
from framework.studies.report import tables as readable
from framework.studies.report.drawing import marks
from framework.studies.report.figures import best_first, draw_all
from framework.studies.report.sheets import collect

__all__ = ["write"]


def write(folder: str | Path, analysis: Analysis) -> Path:
    """Write the report into a study's folder; what was there of an older one is replaced.

    Args:
        folder: of the study, or anywhere else.
        analysis: of the study, complete or not.

    Returns:
        The page's path.

    Raises:
        DataError: a file of samples to show is damaged.
    """
    folder = Path(folder)
    (folder / "tables").mkdir(parents=True, exist_ok=True)
    for name, table in analysis.tables().items():
        table.to_csv(folder / "tables" / f"{name}.csv", index=False)
    ordered = best_first(analysis)
    short = short_names(ordered)
    names = {method: short[method] for method in ordered}
    figures = draw_all(analysis, marks(names, ordered), folder)
    shown = page.tables(analysis, figures, names)
    for table in shown.all():
        readable.write(table, folder)
    write_text(folder / "report.html", page.html(analysis, figures, shown, collect(analysis, names), names))
    return folder / "report.html"
