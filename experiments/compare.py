"""`diffract compare`: run a study of samplers, analyse it, and write its report.

The exit code is 1 where `against=` an older study a method became worse.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig
from rich.console import Console

from experiments.configuration import given_overrides, plain
from experiments.errors import ConfigurationError
from experiments.show import show_messages
from experiments.studies import specs_of, study_of

if TYPE_CHECKING:
    from framework.studies.analysis import Analysis

NEEDED = ("pandas", "jinja2")
SAID = ("failures", "domains", "best")  # kinds of verdicts that are printed
PART = re.compile(r"(\d+)/(\d+)")


def run(config: DictConfig | dict[str, Any]) -> int:
    """Do what is not done yet of a study; returns how many methods became worse than in the study `against`."""
    settings = plain(config)
    check_installed()
    from framework.studies.about import How
    from framework.studies.conduct import conduct

    part = read_part(settings["part"])
    out = Path(settings["out"])
    study = study_of(settings)
    show_messages("framework.grids")  # fitting a grid takes a while
    if settings["study"]["trainings"] is not None:
        from experiments.trainings import trained

        specs = trained(settings, out, part)
    else:
        specs = specs_of(settings)
    command = " ".join(["diffract compare", *(word for word in given_overrides() if not word.startswith("part="))])
    how = How(jobs=settings["jobs"], part=part, retry=settings["retry"], command=command)
    outcome = conduct(study, specs, out, how)
    if outcome.left:
        print(
            f"{len(outcome.left)} of {len(outcome.cells)} cells are left, of other parts; the report is written by the "
            f"part that ends last, or by the same command without part=",
            flush=True,
        )
        return 0
    return finished(out, settings["against"])


def finished(out: Path, against: str | None) -> int:
    """Analyse and report a study whose cells are there; returns how many methods became worse."""
    from framework.studies.analysis import analyse
    from framework.studies.report import write

    analysis = analyse(out)
    page = write(out, analysis)
    console = Console()
    for verdict in analysis.verdicts.to_dict("records"):
        if verdict["kind"] in SAID and (verdict["kind"] != "best" or verdict["metric"] in first_two(analysis, verdict)):
            about = " · ".join(str(verdict[part]) for part in ("run", "metric") if verdict[part] == verdict[part])
            console.print(f"[bold]{about}[/bold] {verdict['sentence']}", highlight=False)
    print(f"tables: {out / 'tables'}\nreport: {page}", flush=True)
    if against is None:
        return 0
    from framework.studies.regression import compare, table

    changes = compare(Path(against), out)
    console.print(table(changes))
    worse = [change for change in changes if change.verdict == "worse"]
    print(f"against {against}: {len(worse)} of {len(changes)} comparisons are worse", flush=True)
    return len(worse)


def first_two(analysis: Analysis, verdict: Mapping[str, Any]) -> list[str]:
    """The metrics of a verdict's run that are worth a line on the screen; the report has all."""
    return [metric.name for metric in analysis.study.metrics.get(verdict["run"], ())][:2]


def failed(worse: int | None) -> bool:
    """Whether the command's exit code is 1."""
    return bool(worse)


def check_installed() -> None:
    """Refuse to begin what could not be reported.

    Raises:
        ConfigurationError: a package of the extra `study` is not installed.
    """
    for name in NEEDED:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise ConfigurationError(
                f"a study needs {name}, which is not here: pip install 'diffract[study]'"
            ) from error


def read_part(value: Any) -> tuple[int, int]:
    """(k, n) of "k/n"; (1, 1) of nothing.

    Raises:
        ConfigurationError: it is not that, or not 1 <= k <= n.
    """
    if value is None:
        return 1, 1
    found = PART.fullmatch(str(value).strip())
    if found is None or not 1 <= int(found[1]) <= int(found[2]):
        raise ConfigurationError(f"part= says which share of the cells is done here, as 2/4; not {value!r}")
    return int(found[1]), int(found[2])


if __name__ == "__main__":
    from experiments.cli import command_line

    command_line("compare")
