"""The report needs nothing else, says what the data say, and is read on a phone as on a desk, in light and in dark."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from framework.errors import DataError
from framework.studies.analysis import COLUMNS, Analysis, analyse
from framework.studies.loaded import load
from framework.studies.report import drawing, results, words, write
from framework.studies.report import sheets as sheet_file
from tests.studies import made
from tests.studies.report_page import CHROMIUM, contrast, elements, measured

PARTS = (
    *(
        "verdicts",
        "pareto",
        "convergence",
        "critical",
        "ranks",
        "area",
        "scores",
        "pairs",
        "samples",
        "pairing",
        "power",
    ),
    *("failures", "protocol", "command", "glossary"),
)
HOSTILE = "<script>alert('{{ 7 * 7 }}')</script> & \"quoted\" \\input{x} | 50 %"


def study(folder: Path, **options: object) -> Path:
    """A small study with fragments to show."""
    made.write(folder, budgets=(4, 8, 16), seeds=(0, 1, 2), n=24, **options)
    for record in (folder / "cells").glob("*.json"):
        shown = record.with_suffix("")
        shown.mkdir()
        (shown / "show.json").write_text(json.dumps(made.show(range(2))))
    return folder


@pytest.fixture(scope="module", autouse=True)
def _fonts_drawn() -> Iterator[None]:
    """PDFs with letters as drawings: cutting fonts to size is most of a report's time, and tested with the drawings."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(drawing._STYLE, "pdf.fonttype", 3)
        yield


@pytest.fixture(scope="module")
def analysis(tmp_path_factory: pytest.TempPathFactory) -> Analysis:
    folder = study(
        tmp_path_factory.mktemp("study"), domains=("pictures", "graphs"), methods=(*made.METHODS[:3], made.METHODS[-1])
    )
    for record in (folder / "cells").glob("*.json"):
        content = json.loads(record.read_text())
        content["reason"] = content["reason"] and HOSTILE
        record.write_text(json.dumps(content))
    for samples in (folder / "cells").glob("*.parquet"):
        pd.read_parquet(samples).assign(prompt=HOSTILE).to_parquet(samples)
    info = json.loads((folder / "study.json").read_text())
    info["name"], info["command"] = HOSTILE, HOSTILE
    info["protocol"]["nested"] = {HOSTILE: [HOSTILE, None]}
    (folder / "study.json").write_text(json.dumps(info))
    return analyse(folder)


@pytest.fixture(scope="module")
def page(analysis: Analysis) -> Path:
    return write(analysis.study.folder, analysis)


@pytest.fixture(scope="module")
def text(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def test_nothing_is_fetched_from_anywhere(text):
    for name, attributes in elements(text).found:
        for attribute in ("src", "srcset", "href", "xlink:href", "action", "poster", "data"):
            if attribute in attributes:
                assert re.match(r"data:|#", attributes[attribute]), (name, attributes)
    assert not re.search(r"@import|url\((?!['\"]?(data:|#))", text)
    assert "default-src 'none'" in text
    assert len(text) < 10_000_000


def test_all_text_of_others_is_escaped(text):
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert(&#39;{{ 7 * 7 }}&#39;)" in text
    assert text.count("<script>") == 1


def test_samples_are_shown_as_the_modality_made_them(text):
    assert made.show([1])[0] in text


def test_every_part_is_there_in_order(text):
    parts = re.findall(r'<section id="([^"]*)">', text)
    assert parts == [*PARTS]
    assert "not applicable" in text


def test_it_can_be_read_without_eyes(text):
    found = elements(text)
    assert found.named("html")[0]["lang"] == "en"
    levels = [int(name[1]) for name, _ in found.found if re.fullmatch("h[1-6]", name)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    assert all(header.get("scope") in ("col", "row") for header in found.named("th"))
    assert all(image.get("alt") for image in found.named("img"))
    pictures = [attributes for attributes in found.named("div", "svg") if attributes.get("role") == "img"]
    assert len(pictures) > 8
    assert all(len(picture["aria-label"]) > 5 for picture in pictures)


def test_ids_are_unique_and_links_lead_somewhere(text):
    found = elements(text)
    ids = [attributes["id"] for _, attributes in found.found if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in found.found:
        for link in (attributes.get("href"), attributes.get("xlink:href")):
            assert link is None or link[1:] in ids
    assert set(re.findall(r"url\(#([^)]*)\)", text)) <= set(ids)


def test_figures_and_tables_are_files_too(analysis, page):
    folder = page.parent
    svg = {path.stem for path in (folder / "figures").glob("*.svg")}
    assert svg == {path.stem for path in (folder / "figures").glob("*.pdf")}
    assert {name.split("-")[0] for name in svg} == {"pareto", "convergence", "critical", "ranks"}
    for name, table in analysis.tables().items():
        read = pd.read_csv(folder / "tables" / f"{name}.csv") if len(table) else None
        assert read is None or (len(read), list(read)) == (len(table), list(table))
    assert set(COLUMNS) < {path.stem for path in (folder / "tables").glob("*.csv")}
    markdown, latex = ({path.stem for path in (folder / "tables").glob(f"*.{kind}")} for kind in ("md", "tex"))
    assert markdown == latex
    assert {"power", "pairing", "failures", "orders", "scores-pictures-accuracy"} <= markdown


def test_equal_methods_are_not_told_apart(tmp_path):
    same = {"pictures": (0.3, 1)}
    methods = [made.MadeMethod(name, "even", same) for name in ("one", "two", "three")]
    folder = made.write(tmp_path, domains=("pictures",), methods=methods, n=24, budgets=(4, 16), failures=False)
    found = analyse(folder)
    names = {method.label: method.solver for method in methods}
    cells = [cell for row in words.winners(found, "pictures", names).rows for cell in row[1:]]
    assert len(cells) == 6
    assert not any(cell.best for cell in cells) and all(cell.interval == "or 2 others" for cell in cells)
    assert "0 have a method that is shown to be better than every other" in " ".join(words.summary(found, names))
    table = results.scores(found, "pictures", found.study.metrics["pictures"][0], names)
    for column in zip(*table.rows, strict=True):
        assert column[0].text in names.values() or [cell.best + cell.tied for cell in column] == [1, 1, 1]


def test_what_is_planted_is_found(tmp_path):
    gaps = {"good": (0.02, 2), "bad": (0.9, 1)}
    methods = [made.MadeMethod(name, "even", {"pictures": gap}) for name, gap in gaps.items()]
    folder = made.write(tmp_path, domains=("pictures",), methods=methods, n=24, budgets=(4, 16), failures=False)
    found = analyse(folder)
    names = {method.label: method.solver for method in methods}
    winners = words.winners(found, "pictures", names).rows
    assert all(cell.text == "good" and cell.best for cell in winners[0][1:])
    assert not any(cell.text == "bad" and cell.best for row in winners for cell in row[1:])
    squares = list(results.matrices(found, "pictures", found.study.metrics["pictures"][0], names))
    assert [[cell.text for cell in row] for row in squares[0].rows] == [["1 good", "", "+"], ["2 bad", "−", ""]]


def test_a_study_that_has_just_begun_has_a_report_which_is_always_the_same(tmp_path):
    folder = study(tmp_path / "begun", domains=("pictures",))
    for record in sorted((folder / "cells").glob("*.json"))[1:]:
        record.unlink()
    found = analyse(folder)
    text = write(folder, found).read_text(encoding="utf-8")
    assert "not run yet" in text
    assert "planned cells are not there yet" in text
    assert write(tmp_path / "again", found).read_text(encoding="utf-8") == text


def test_sheets_keep_within_their_room_and_say_what_is_missing(analysis):
    methods = {method: method for method in analysis.cells["method"].unique()}
    every = sheet_file.collect(analysis, methods)
    assert all(sheet.left_out == 0 and len(sheet.rows) == 4 for sheet in every)
    assert {row.seed for row in every[0].rows} == {0, 1}

    def bytes_of(sheets):
        return sum(len(f.encode()) for s in sheets for row in s.rows for f in row.fragments if f)

    limit = bytes_of(every) // 2
    some = sheet_file.collect(analysis, methods, limit)
    assert 0 < bytes_of(some) <= limit
    assert sum(len(sheet.rows) + sheet.left_out for sheet in some) == sum(len(sheet.rows) for sheet in every)
    middle = [sheet for sheet in some if sheet.budget == 8]
    assert all(sheet.left_out == 0 for sheet in middle)


def test_of_many_methods_some_stand_for_all_from_the_best_to_the_worst(analysis, monkeypatch):
    methods = {method: method for method in analysis.cells["method"].unique()}
    every = sheet_file.collect(analysis, methods)[0]
    assert len(every.methods) > 2 and every.methods_left_out == 0
    monkeypatch.setattr(sheet_file, "COLUMNS", 2)
    some = sheet_file.collect(analysis, methods)[0]
    assert some.methods == (every.methods[0], every.methods[-1]) and some.methods_left_out == len(every.methods) - 2
    assert [row.fragments for row in some.rows] == [(row.fragments[0], row.fragments[-1]) for row in every.rows]


def test_a_damaged_sheet_is_named(tmp_path):
    folder = study(tmp_path / "damaged", domains=("pictures",))
    broken = next((folder / "cells").glob("*/show.json"))
    broken.write_text("[1]")
    with pytest.raises(DataError, match=re.escape(str(broken))):
        sheet_file.collect(_unanalysed(folder), {method.label: method.label for method in made.METHODS})


def test_words_can_be_read_on_both_grounds():
    for place in (0, 1):
        ground = drawing.PALETTE["card"][place]
        assert contrast(drawing.PALETTE["ink"][place], ground) > 7
        assert contrast(drawing.PALETTE["faint"][place], ground) > 4.5
        series = [pair[place] for name, pair in drawing.PALETTE.items() if name.startswith("series")]
        assert len(series) == 7 and all(contrast(colour, ground) > 2 for colour in series)


@pytest.mark.skipif(not CHROMIUM, reason="no Chromium is installed to render the page with")
@pytest.mark.parametrize(("width", "dark"), [(375, True), (1280, False)])
def test_it_fits_a_phone_and_a_desk_in_light_and_dark(page, tmp_path, width, dark):
    found = measured(page, width, dark=dark, folder=tmp_path)
    assert found["inner"] == width
    assert found["scroll"] <= width, found["wide"]
    assert found["wide"] == []
    for pair in ("page", "drawing"):
        assert contrast(*found[pair]) > 7
    assert (contrast(found["page"][1], "#000000") < 1.5) == dark
    assert found["letters"] > 8
    assert found["sortable"] > 20
    assert found["texts"] > 200
    assert found["clipped"] == [] and found["overlapping"] == []


def _unanalysed(folder: Path) -> Analysis:
    empty = pd.DataFrame()
    study = load(folder)
    return Analysis(study, 0.95, 0.02, study.cells, **dict.fromkeys(COLUMNS, empty))
