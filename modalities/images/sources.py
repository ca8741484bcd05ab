"""Real images as lists of encoded items: a Parquet file, a Hugging Face data set, or a folder of images.

A source only lists: `EncodedImage(name, read, caption, label)`. Decoding, skipping what is broken, caching
and splitting are the same for all of them and live in `image_set`.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from framework.data.bad_items import BadItem, DataError
from framework.files import write_text

CIFAR10_CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
IMAGE_COLUMNS, LABEL_COLUMNS = ("img", "image"), ("label", "fine_label")
SUFFIXES = frozenset([".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"])


@dataclass(frozen=True)
class EncodedImage:
    """One image as it is stored: its bytes, or the file that holds them. Label -1: no class."""

    name: str
    source: bytes | Path
    caption: str
    label: int

    def read(self) -> bytes:
        """The encoded bytes; raises OSError if the file cannot be read."""
        return self.source.read_bytes() if isinstance(self.source, Path) else self.source


@dataclass(frozen=True)
class Listing:
    """What a source holds: items, the classes that labels index, and what is named but cannot be an item."""

    origin: str
    items: Sequence[EncodedImage]
    class_names: tuple[str, ...]
    bad: tuple[BadItem, ...] = ()


def class_caption(name: str) -> str:
    """The caption of an image that has only a class: "a photo of an airplane"."""
    word = name.replace("_", " ")
    return f"a photo of {'an' if word[:1].lower() in 'aeiou' else 'a'} {word}"


def list_path(path: str | Path) -> Listing:
    """The images at a path: a Parquet file, a folder of them, or a folder of images.

    Of several Parquet files those named train* count, if there are any. Raises DataError if nothing is there.
    """
    path = Path(path)
    if not path.exists():
        raise DataError(f"data.path={path} does not exist; give a Parquet file or a folder of images")
    if path.is_file():
        return list_parquet([path])
    files = sorted(path.rglob("*.parquet"))
    if files:
        return list_parquet([file for file in files if file.name.startswith("train")] or files)
    return list_folder(path)


def list_parquet(files: Sequence[Path]) -> Listing:
    """Images in Parquet files, as Hugging Face lays them out: `img` or `image`, `label` or `fine_label`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    origin = ", ".join(str(file) for file in files)
    tables = []
    for file in files:
        try:
            tables.append(pq.read_table(file))
        except (pa.ArrowInvalid, OSError) as error:
            raise DataError(f"{file} is not a readable Parquet file: {error}") from None
    table = pa.concat_tables(tables, promote_options="default")
    image = _column(table.column_names, IMAGE_COLUMNS, origin)
    label = _column(table.column_names, LABEL_COLUMNS, origin)
    metadata = (tables[0].schema.metadata or {}).get(b"huggingface", b"{}")
    features = json.loads(metadata).get("info", {}).get("features", {})
    return _from_columns(
        origin,
        table.column(image).to_pylist(),
        table.column(label).to_pylist(),
        features.get(label, {}).get("names"),
    )


def list_hub(name: str, split: str = "train") -> Listing:
    """Images of a Hugging Face data set, from its cache or the network."""
    try:
        import datasets
    except ImportError:
        raise DataError(
            f"loading {name!r} by name needs the package datasets: pip install 'diffract[hf]'; or download "
            "its Parquet file and set data.path=<file>"
        ) from None
    try:
        table = datasets.load_dataset(name, split=split)
    except Exception as error:  # whatever the hub's client raises offline: the answer is the same
        raise DataError(
            f"cannot load the data set {name!r} ({type(error).__name__}: {error}); without a network, copy "
            f"its {split} Parquet file (huggingface.co/datasets/{name}) here and set data.path=<file>"
        ) from error
    image = _column(table.column_names, IMAGE_COLUMNS, name)
    label = _column(table.column_names, LABEL_COLUMNS, name)
    names = getattr(table.features[label], "names", None)
    table = table.cast_column(image, datasets.Image(decode=False))
    return _from_columns(name, table[image], table[label], names)


def _column(present: Sequence[str], wanted: Sequence[str], origin: str) -> str:
    for name in wanted:
        if name in present:
            return name
    raise DataError(f"{origin} has no column {' or '.join(wanted)}; its columns are {', '.join(present)}")


def _from_columns(
    origin: str,
    images: Sequence[Mapping[str, Any] | None],
    labels: Sequence[int | None],
    names: Sequence[str] | None,
) -> Listing:
    count = max((label for label in labels if label is not None), default=-1) + 1
    if names is None:
        names = CIFAR10_CLASSES if count == 10 else [f"class {k}" for k in range(count)]
    items, bad = [], []
    for row, (image, label) in enumerate(zip(images, labels, strict=True)):
        cell = image or {}
        title = f"row {row}" + (f" ({cell['path']})" if cell.get("path") else "")
        if label is None or not 0 <= label < len(names):
            bad.append(BadItem(title, f"label {label} is not one of the {len(names)} classes"))
        else:
            items.append(EncodedImage(title, cell.get("bytes") or b"", class_caption(names[label]), label))
    return Listing(origin, items, tuple(names), tuple(bad))


def list_folder(folder: Path) -> Listing:
    """All images below a folder, in the order of their names.

    The subfolder that an image lies in, if any, is its class. Its caption is the `text` of its `file_name` in
    `metadata.csv` or `metadata.jsonl`, else the `<name>.txt` beside it, else its class, else "".
    """
    files = sorted(
        file
        for file in folder.rglob("*")
        if file.suffix.lower() in SUFFIXES and file.is_file() and not file.name.startswith(".")
    )
    if not files:
        raise DataError(
            f"{folder} holds no images ({', '.join(sorted(SUFFIXES))}) and no Parquet file; data.path is a "
            "Parquet file or a folder of images, whose subfolders are classes"
        )
    texts = _metadata(folder)
    names = {file: file.relative_to(folder).as_posix() for file in files}
    classes = {file: name.rpartition("/")[0] for file, name in names.items()}
    class_names = sorted({name for name in classes.values() if name})
    index = {name: k for k, name in enumerate(class_names)}
    items = []
    for file in files:
        text, beside = texts.pop(names[file], None), file.with_suffix(".txt")
        if text is None and beside.is_file():
            text = beside.read_text(encoding="utf-8", errors="replace").strip()
        if text is None:
            text = class_caption(classes[file].rpartition("/")[2]) if classes[file] else ""
        items.append(EncodedImage(names[file], file, text, index.get(classes[file], -1)))
    bad = tuple(BadItem(name, "named in the metadata, but there is no such image") for name in texts)
    return Listing(str(folder), items, tuple(class_names), bad)


def class_folder(name: str) -> Path:
    """The subfolder of the images of a class, the folder itself for no class.

    Raises:
        DataError: a folder of that name would lie elsewhere.
    """
    folder = Path(name)
    if folder.is_absolute() or ".." in folder.parts:
        raise DataError(f"the class {name!r} cannot be the name of a folder, as a data set of classes needs it")
    return folder


def write_captions(folder: Path, files: Sequence[Path], texts: Sequence[str]) -> Path:
    """The captions of images in a folder as its metadata.csv."""
    lines = io.StringIO(newline="")
    rows = csv.writer(lines)
    rows.writerow(["file_name", "text"])
    rows.writerows((file.relative_to(folder).as_posix(), text) for file, text in zip(files, texts, strict=True))
    write_text(folder / "metadata.csv", lines.getvalue())
    return folder / "metadata.csv"


def _metadata(folder: Path) -> dict[str, str]:
    """The captions of metadata.csv or metadata.jsonl by file name; none if there is neither."""
    table, lines = folder / "metadata.csv", folder / "metadata.jsonl"
    if table.is_file():
        with table.open(newline="", encoding="utf-8-sig") as file:
            return _texts(list(csv.DictReader(file)), table)
    if lines.is_file():
        try:
            rows = [json.loads(line) for line in lines.read_text(encoding="utf-8").splitlines() if line.strip()]
        except json.JSONDecodeError as error:
            raise DataError(f"{lines}: a line is not JSON ({error})") from None
        return _texts(rows, lines)
    return {}


def _texts(rows: Sequence[Mapping[str, str]], file: Path) -> dict[str, str]:
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, Mapping) or row.get("file_name") is None or row.get("text") is None:
            raise DataError(f"{file}: entry {number} lacks 'file_name' or 'text'; it is {row}")
    return {row["file_name"]: row["text"] for row in rows}
