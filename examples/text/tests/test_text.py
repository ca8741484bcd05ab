"""Text as a plugin: its rules, its prompts, the kit's checks, and a model that learns."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffract_text.backbone import TextTransformer
from diffract_text.data import LinesData, SumsData, TextData
from diffract_text.grammar import judge, operands, sentences, words
from diffract_text.metrics import distinct, perplexity
from diffract_text.modality import Text
from diffract_text.units import BLANK, OTHER, Units

from experiments.suite import ExperimentSuite
from framework.editing.requests import Inpaint
from framework.errors import DataError, PromptError, UserError
from framework.model import Model, SamplingDefaults
from framework.parametrizations import V
from framework.schedules import Flow
from framework.solvers.categorical.first_hitting import FirstHitting


def modality_of(data: TextData) -> Text:
    return Text(data.all.units.known, data.all.length, data.sizes().tolist(), data.separator)


def model_of(data: TextData) -> Model:
    torch.manual_seed(0)
    modality = modality_of(data)
    network = TextTransformer(len(modality.units.known), width=32, layers=1)
    return Model(modality, network, Flow(), V(), defaults=SamplingDefaults(FirstHitting()))


@pytest.fixture(scope="module")
def small() -> SumsData:
    return SumsData(largest=30)


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("three plus four is seven", (True, True)),
        ("three plus four is eight", (True, False)),
        ("ninety nine minus one is ninety eight", (True, True)),
        ("two is less than twenty two", (True, True)),
        ("thirty is less than twenty two", (True, False)),
        ("two is even", (True, True)),
        ("two is odd", (True, False)),
        ("two is more", (False, False)),
        ("seven seven plus four is seven", (False, False)),
        ("twenty zero is less than thirty", (False, False)),
        ("three plus four", (False, False)),
        ("_ plus four is seven", (False, False)),
    ],
)
def test_the_rules_know_right_from_wrong(text, verdict):
    assert judge(text) == verdict


def test_the_corpus_is_all_true_sentences_once():
    made = sentences(99)
    assert len(made) == len(set(made)) == 5050 + 5050 + 4950 + 100
    assert all(judge(text) == (True, True) for text in made)
    assert [words(n) for n in (0, 19, 20, 42)] == ["zero", "nineteen", "twenty", "forty two"]


def test_held_out_sentences_are_not_trained_on_and_blanks_are_numbers(small):
    held_out = small.reference(10_000, 0)
    assert not set(held_out) & small.trained_on()
    infills = small.infills(10_000, 0)
    assert len(infills) == 3 * sum(bool(operands(text)) for text in held_out) and small.infills(9, 0) == infills[:9]
    for text in infills:
        sums = [full for full in held_out if operands(full) and _fits(text, full)]
        assert sums, f"{text!r} is no held-out sum with blanks"
    assert {text.split().index(BLANK) > 2 for text in infills} == {True, False}, "blanks here and there"


def _fits(blanked: str, full: str) -> bool:
    a, b = blanked.split(), full.split()
    return len(a) == len(b) and all(x in (BLANK, y) for x, y in zip(a, b, strict=True))


class TestToy(ExperimentSuite):
    """The kit, one test a check."""

    experiment = "text/toy"
    overrides = ("data.largest=12", "data.batch_size=16", "backbone.width=32", "backbone.layers=1")
    thorough = True


def test_characters_learn_too():
    data = SumsData(largest=12, separator="", batch_size=16)
    model = model_of(data)
    assert len(model.modality.units.known) < 27 and model.modality.length > 20
    [text] = model.sample("one plus", seed=3).samples
    assert text.startswith("one plus") and BLANK not in text
    few = SumsData(largest=12, train_length=20, validation_length=7)
    assert len(few.trained_on()) == 20 and len(few.reference(100, 0)) == 7


def test_prompts_are_beginnings_and_texts_with_blanks(small):
    modality = modality_of(small)
    [text] = modality.complete(["three plus _ is seven"], 0, [0])
    assert text == "three plus _ is seven"
    drawn = modality.complete(["three plus"] * 200, 0, range(200))
    assert all(text.startswith(f"three plus {BLANK}") for text in drawn)
    assert len({len(text.split()) for text in drawn}) > 2, "lengths are drawn"
    assert drawn == [modality.complete(["three plus"], 0, [i])[0] for i in range(200)], "of each sample by itself"
    given = modality.given(drawn, modality.parse(drawn))
    assert given is not None and given.mask.sum(1).tolist() == [2] * 200
    assert modality.given(modality.complete([""], 0, [0]), modality.parse([""])) is None
    with pytest.raises(PromptError, match="did you mean 'three'"):
        modality.parse(["thre plus"])
    with pytest.raises(PromptError, match="at most"):
        modality.parse(["one " * 20])


def test_what_a_prompt_gives_stays_and_the_rest_is_made(small):
    model = model_of(small)
    made = model.sample("three plus _ is seven", n=4, seed=1).samples
    for text in made:
        units = text.split()
        assert units[:2] + units[3:] == ["three", "plus", "is", "seven"] and units[2] != BLANK
    assert len(set(made)) > 1
    assert model.sample("three plus _ is seven", n=2, seed=1, first=2).samples == made[2:]


def test_a_file_is_changed_in_part(small, tmp_path):
    model, file = model_of(small), tmp_path / "mine.txt"
    file.write_text("three plus four is seven\n")
    tasks = Inpaint(str(file), keep="places=0-2").tasks(model.modality)
    for text in model.sample(n=4, tasks=tasks).samples:
        assert text.split()[:2] == ["three", "plus"] and len(text.split()) == 5
    with pytest.raises(UserError, match="places=A-B"):
        Inpaint(str(file), keep="the first").tasks(model.modality)
    file.write_text("three plus fifteenth\n")
    with pytest.raises(DataError, match="fifteenth"):
        model.modality.read(file)


def test_lines_of_a_file_are_read_in_words_and_in_characters(tmp_path):
    file = tmp_path / "lines.txt"
    file.write_text("".join(f"row {i} of a file\n\n" for i in range(50)))
    items = LinesData(str(file), length=4, vocabulary=6)
    assert items.all.units.known[0] == OTHER and len(items.all.units.known) == 6
    assert max(len(text.split()) for text in items.all.texts) == 4 and len(items.all) == 100
    letters = LinesData(str(file), separator="").all
    assert letters.units.text(letters.units.tokens("row 4")) == "row 4"
    with pytest.raises(DataError, match="no text"):
        file.write_text("\n \n")
        LinesData(str(file)).all  # noqa: B018
    with pytest.raises(DataError, match="cannot be read"):
        LinesData(str(tmp_path / "absent.txt")).all  # noqa: B018


def test_variety_and_perplexity_are_what_they_say():
    assert distinct(["a b a b", "a b"], 2, Units()) == pytest.approx(2 / 4)
    measured = perplexity(np.full(40, 6.0), np.tile([2.0, 4.0], 20), 0)
    assert measured["perplexity"].value == pytest.approx(math.exp(2)) and measured["nats_per_text"].value == 6


def test_a_fresh_model_expects_each_word_alike(small):
    model = model_of(small)
    measured = model.modality.assess(model, small, 0, {})
    low, high = measured["perplexity"].low, measured["perplexity"].high
    classes, texts = len(model.modality.units.known), small.reference(1024, 0)
    lengths = [math.log(small.sizes().sum() / small.sizes()[len(text.split())]) for text in texts]
    expected = classes * math.exp(sum(lengths) / sum(len(text.split()) for text in texts))
    assert low < expected < high
    assert measured["ceiling/nats_per_text"].value == pytest.approx(math.log(len(small.all)))


def test_files_hold_the_texts_and_how_they_were_made(small, tmp_path: Path):
    modality = modality_of(small)
    rows: list[dict[str, Any]] = [{"prompt": "one"}, {"prompt": ""}]
    files = modality.render(["one plus one is two", "one is less than two"], ["one", None], tmp_path, rows)
    assert [file.name for file in files] == ["samples.txt", "samples.jsonl", "sheet.png"]
    assert files[0].read_text().splitlines()[1] == "one is less than two" and '"prompt": "one"' in files[1].read_text()
    assert modality.read(files[0])["size"].tolist() == [5]
