"""Sound files as lists: a folder, or a table (CSV, JSON lines) that names them.

A source only lists: `Recording(name, file, caption, classes)`. Reading, skipping what is broken, levels, caching and
splitting are the same for all of them and live in `clip_set`. Sets that are known by name are in `presets`.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Formatter

from jaxtyping import Float32
from torch import Tensor

from framework.data.bad_items import BadItem, DataError
from framework.errors import UserError
from modalities.audio.files import SUFFIXES, read_audio

MAX_CLASSES = 1_000  # of one head; a column with more values is no class
PATHS, CAPTIONS, SPLIT = ("path", "file_name", "file"), ("caption", "text"), "split"
TRAINING = frozenset(["train", "training"])
HELD_OUT = frozenset(["test", "testing", "validation", "valid", "val", "dev", "heldout", "held_out"])


@dataclass(frozen=True)
class Recording:
    """One sound file.

    Attributes:
        name: its name in the source.
        classes: head -> class name, "" where it is not known.
        held_out: which part it belongs to, where the source says so; None: a hash decides.
        group: whose hash decides, where it is not the name's: recordings of one group stay together.
    """

    name: str
    file: Path
    caption: str
    classes: Mapping[str, str]
    held_out: bool | None = None
    group: str | None = None

    def read(self, rate: int) -> Float32[Tensor, " t"]:
        """The samples at `rate` Hz; raises DataError with the reason if there are none."""
        return read_audio(self.file, rate)


@dataclass(frozen=True)
class Listing:
    """What a source holds: recordings, the names of each head's classes, and what is named but cannot be an item."""

    origin: str
    items: Sequence[Recording]
    heads: Mapping[str, tuple[str, ...]]
    bad: tuple[BadItem, ...] = ()

    @classmethod
    def of(
        cls,
        origin: str,
        items: Sequence[Recording],
        bad: Sequence[BadItem] = (),
        heads: Mapping[str, Sequence[str]] | None = None,
    ) -> Listing:
        """The classes of each head that its recordings have, numbers before words, whatever the recordings' order.

        `heads` fixes the classes of some heads; a head of which nothing is known in any recording is none. Raises
        DataError for one with more than MAX_CLASSES.
        """
        found: dict[str, tuple[str, ...]] = {}
        for head in dict.fromkeys(head for item in items for head in item.classes):
            present = {item.classes.get(head, "") for item in items} - {""}
            if len(present) > MAX_CLASSES:
                raise DataError(
                    f"{origin}: {head!r} has {len(present)} different values, too many for classes; name what is a "
                    "class in data.heads=[...]"
                )
            if present:
                found[head] = tuple((heads or {}).get(head) or sorted(present, key=_order))
        return cls(origin, list(items), found, tuple(bad))


def labels_of(classes: Mapping[str, str], heads: Mapping[str, Sequence[str]]) -> list[int]:
    """The class of each head as a number, -1 where it is not known."""
    return [names.index(classes[head]) if classes.get(head) in names else -1 for head, names in heads.items()]


def _order(value: str) -> tuple[bool, int, str]:
    return (False, int(value), value) if value.isdecimal() else (True, 0, value)


def describe(classes: Mapping[str, str]) -> str:
    """The caption of a recording that has only classes: "digit 7, speaker theo"; a lone class is its own name."""
    known = {head: value.replace("_", " ") for head, value in classes.items() if value}
    return ", ".join(value if len(classes) == 1 else f"{head} {value}" for head, value in known.items())


def list_path(path: str | Path, pattern: str | None = None, heads: Sequence[str] | None = None) -> Listing:
    """The recordings at a path: a folder of sound files, or a table of them (.csv, .jsonl).

    `pattern` is for a folder: see `list_folder`. `heads` names the fields or columns that are classes; None: all.
    Raises DataError if nothing is there.
    """
    path = Path(path)
    if not path.exists():
        raise DataError(
            f"data.path={path} does not exist; give a folder of sound files, or a table of them (.csv, .jsonl)"
        )
    if path.is_dir():
        return list_folder(path, pattern, heads)
    if pattern is not None:
        raise UserError(
            f"data.pattern={pattern!r} is for a folder, but data.path={path} is a file; its columns are classes"
        )
    return list_table(path, heads)


def sound_files(folder: Path) -> list[Path]:
    """All sound files below a folder in the order of their names; hidden ones are left out."""
    found = (file for file in folder.rglob("*") if file.suffix.lower() in SUFFIXES and not file.name.startswith("."))
    return sorted(file for file in found if file.is_file())


def list_folder(folder: Path, pattern: str | None = None, heads: Sequence[str] | None = None) -> Listing:
    """All sound files below a folder, in the order of their names.

    Without a pattern the subfolder that a file lies in, if any, is its class (head `class`). A pattern such as
    "{digit}_{speaker}_{take}" takes classes from the file's name, and one with a slash, "{speaker}/{digit}_{take}",
    from its path; a file that it does not fit is a bad item. Fields that are no class are left out of `heads`. The
    caption is the `<name>.txt` beside the file, else the classes.
    """
    files = sound_files(folder)
    if not files:
        raise DataError(
            f"{folder} holds no sound files ({', '.join(sorted(SUFFIXES))}); data.path is a folder of them, whose "
            "subfolders are classes, or a table of them (.csv, .jsonl)"
        )
    form = None if pattern is None else compile_pattern(pattern)
    chosen = _choose(heads, ["class"] if form is None else list(form.groupindex), f"data.pattern={pattern}")
    items, bad = [], []
    for file in files:
        name = file.relative_to(folder).as_posix()
        fields = {"class": name.rpartition("/")[0]}
        if form is not None and pattern is not None:
            fits = form.fullmatch(Path(name).with_suffix("").as_posix() if "/" in pattern else file.stem)
            if fits is None:
                bad.append(BadItem(name, f"its name does not fit {pattern!r}"))
                continue
            fields = fits.groupdict()
        beside = file.with_suffix(".txt")
        classes = {head: fields[head] for head in chosen}
        caption = (
            beside.read_text(encoding="utf-8", errors="replace").strip() if beside.is_file() else describe(classes)
        )
        items.append(Recording(name, file, caption, classes))
    return Listing.of(str(folder), items, bad)


def compile_pattern(pattern: str) -> re.Pattern[str]:
    """ "{digit}_{speaker}" as a regular expression: each field is as short as it can be, and holds no slash."""
    try:
        parts = list(Formatter().parse(pattern))
    except ValueError as error:
        raise UserError(
            f"data.pattern={pattern!r} is broken ({error}); it should be like '{{digit}}_{{speaker}}'"
        ) from None
    fields = [field for _, field, _, _ in parts if field is not None]
    if not fields or len(set(fields)) < len(fields) or not all(field.isidentifier() for field in fields):
        raise UserError(
            f"data.pattern={pattern!r} should have fields with different names, like '{{digit}}_{{speaker}}'"
        )
    return re.compile(
        "".join(re.escape(text) + (f"(?P<{field}>[^/]+?)" if field else "") for text, field, _, _ in parts)
    )


def _choose(heads: Sequence[str] | None, present: Sequence[str], origin: str) -> list[str]:
    """The heads that are asked for, all that there are by default."""
    if heads is None:
        return list(present)
    if missing := [head for head in heads if head not in present]:
        raise UserError(f"data.heads: {origin} has no {', '.join(missing)}; it has {', '.join(present) or 'none'}")
    return list(heads)


def list_table(file: Path, heads: Sequence[str] | None = None) -> Listing:
    """The recordings that a table names: CSV with a header, or JSON lines.

    Columns: `path`, relative to the table's folder; `caption`; `split` (train; test or validation: held out), if there;
    and classes, which are all other columns unless `heads` names them. Rows that name no file are bad items.
    """
    rows = _rows(file)
    columns = list(dict.fromkeys(column for row in rows for column in row))
    path = next((name for name in PATHS if name in columns), None)
    if path is None:
        raise DataError(f"{file} has no column {' or '.join(PATHS)}; its columns are {', '.join(columns) or 'none'}")
    caption = next((name for name in CAPTIONS if name in columns), None)
    others = [column for column in columns if column not in (path, caption, SPLIT)]
    chosen = _choose(heads, others, f"{file}, besides path and caption,")
    items, bad = [], []
    for count, row in enumerate(rows, start=1):
        name, part = row.get(path, ""), row.get(SPLIT, "").lower()
        if not name or not (file.parent / name).is_file():
            bad.append(BadItem(name or f"entry {count}", "there is no such file" if name else "names no file"))
        elif part and part not in TRAINING | HELD_OUT:
            bad.append(BadItem(name, f"its split is {part!r}, which should be train, validation or test"))
        else:
            held_out = part in HELD_OUT if part else None
            classes = {head: row.get(head, "") for head in chosen}
            text = row.get(caption, "") if caption else describe(classes)
            items.append(Recording(name, file.parent / name, text, classes, held_out))
    return Listing.of(str(file), items, bad)


def _rows(file: Path) -> list[dict[str, str]]:
    """The rows of a table, each value as text without space around it; what is missing or null is ""."""
    if file.suffix.lower() == ".csv":
        with file.open(newline="", encoding="utf-8-sig") as lines:
            rows = list(csv.DictReader(lines))
    elif file.suffix.lower() in (".jsonl", ".ndjson"):
        try:
            rows = [json.loads(line) for line in file.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
        except json.JSONDecodeError as error:
            raise DataError(f"{file}: a line is not JSON ({error})") from None
        if not all(isinstance(row, dict) for row in rows):
            raise DataError(f'{file}: each line should be a JSON object like {{"path": ..., "caption": ...}}')
    else:
        raise DataError(f"data.path={file} is no table of sound files: it should end in .csv or .jsonl")
    return [
        {str(key): "" if value is None else str(value).strip() for key, value in row.items() if key} for row in rows
    ]
