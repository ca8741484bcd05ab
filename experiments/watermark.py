"""`diffract watermark text=TEXT FILES...`: which files carry the invisible watermark of which TEXT is the key.

A file's p bounds the rate of false alarms: of files without this watermark, at most that share looks so much as if they
had it, whatever they show. `found` is said below 1e-4.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from experiments.errors import ConfigurationError

FOUND = 1e-4
USAGE = """\
  diffract watermark text=TEXT FILES...   look for the watermark that `diffract sample watermark=TEXT` makes
  diffract watermark text=TEXT FOLDER     in all files of a folder that can carry one"""


def main(arguments: Sequence[str]) -> None:
    """Print a table of files; ConfigurationError where there is no key or no file."""
    if not arguments or {"-h", "--help"}.intersection(arguments):
        print(f"diffract watermark: {__doc__.partition(chr(10))[2].strip()}\n\n{USAGE}")
        return
    texts = [word.partition("=")[2] for word in arguments if word.startswith("text=")]
    files = [Path(word) for word in arguments if not word.startswith("text=")]
    if len(texts) != 1 or not texts[0]:
        raise ConfigurationError(f"name the watermark's key once:\n{USAGE}")
    if not files:
        raise ConfigurationError(f"name the files to look at:\n{USAGE}")
    from rich.console import Console
    from rich.table import Table

    table = Table("file", "p", "watermark")
    found = looked = 0
    for path, p in looked_at(files, texts[0]):
        looked += 1
        found += p < FOUND
        table.add_row(str(path), f"{p:.1e}", "found" if p < FOUND else "-")
    console = Console()
    console.print(table)
    print(f"{found} of {looked} files carry this watermark; {FOUND * looked:.1g} would be alarms by chance at most")


def looked_at(paths: Sequence[Path], text: str) -> list[tuple[Path, float]]:
    """Each file with its p; of a folder, those files that can carry a watermark.

    Raises:
        ConfigurationError: a file is not there, or is of a kind that carries none.
    """
    from framework.plugins import load_modality, modalities

    kinds = [load_modality(name) for name, plugin in modalities().items() if plugin.problem() is None]
    result = []
    for path in paths:
        if not path.exists():
            raise ConfigurationError(f"{path}: there is no such file")
        inside = sorted(file for file in path.iterdir() if file.is_file()) if path.is_dir() else [path]
        for file in inside:
            verdicts = [p for kind in kinds if (p := kind.detected(file, text)) is not None]  # type: ignore[attr-defined]
            if verdicts:
                result.append((file, min(verdicts)))
            elif path.is_file():
                raise ConfigurationError(f"{path} is of no kind that carries a watermark; PNG and JPEG pictures do")
    if not result:
        raise ConfigurationError(f"{', '.join(map(str, paths))}: there is no picture in it")
    return result
