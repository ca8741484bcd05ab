"""Conditions: what data and people say becomes what the backbone reads; saying nothing is always possible."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tensordict import TensorDict

from framework.backbones.text import TextEncoder, WordTokenizer
from framework.conditions import ClassCondition, ConditionKind, Fields, TextCondition, Unconditional
from framework.errors import PromptError
from framework.modality import drop

BATCH = {
    "image": torch.zeros(3, 3, 16, 16, dtype=torch.uint8),
    "caption": ["a red circle", "", "a blue square on a grey background"],
    "label": torch.tensor([0, -1, 2]),
}
KINDS: dict[str, ConditionKind] = {
    "text": TextCondition(WordTokenizer()),
    "class": ClassCondition(["circle", "square", "triangle"]),
    "none": Unconditional(),
}


def same(a: TensorDict, b: TensorDict) -> bool:
    return set(a.keys()) == set(b.keys()) and all(torch.equal(a[key], b[key]) for key in a.keys())  # noqa: SIM118


@pytest.mark.parametrize("kind", KINDS)
def test_null_has_the_keys_and_shapes_of_the_condition(kind: str) -> None:
    condition = KINDS[kind].encode(BATCH)
    null = KINDS[kind].null(condition)
    assert condition.batch_size == null.batch_size == torch.Size([3])
    assert {k: (v.shape, v.dtype) for k, v in condition.items()} == {k: (v.shape, v.dtype) for k, v in null.items()}
    assert same(null, KINDS[kind].null(null))
    assert torch.cat([condition, null]).batch_size == torch.Size([6]), "guidance joins the two in one batch"


@pytest.mark.parametrize("kind", KINDS)
def test_the_empty_prompt_is_the_null_condition(kind: str) -> None:
    parsed = KINDS[kind].parse(["", ""])
    assert parsed.batch_size == torch.Size([2])
    assert same(parsed, KINDS[kind].null(parsed))


def test_a_prompt_means_what_the_caption_means() -> None:
    condition = KINDS["text"].encode(BATCH)
    assert same(condition, KINDS["text"].parse(BATCH["caption"]))
    assert condition["tokens"].dtype == torch.int64 and condition["text_mask"].dtype == torch.bool


def test_null_text_has_one_valid_token() -> None:
    condition = KINDS["text"].encode(BATCH)
    assert KINDS["text"].null(condition)["text_mask"].sum(1).tolist() == [1, 1, 1]


def test_an_encoder_is_a_tokenizer() -> None:
    encoder = TextEncoder(width=16, layers=1, buckets=4096)
    assert same(TextCondition(encoder).encode(BATCH), KINDS["text"].encode(BATCH))


def test_text_condition_refuses_numbers() -> None:
    with pytest.raises(ValueError, match="prompt 3 is not a text"):
        KINDS["text"].parse(["a red circle", 3])


def test_images_without_a_label_get_the_null_class() -> None:
    assert KINDS["class"].encode(BATCH)["label"].tolist() == [0, 3, 2]


def test_classes_by_name_index_and_digits() -> None:
    classes = ClassCondition(["circle", "Square", "7"])
    condition = classes.parse(["square", 0, "1", "7", "", 2])
    assert condition["label"].tolist() == [1, 0, 1, 2, 3, 2]
    assert classes.describe(condition) == ["Square", "circle", "Square", "7", "", "7"]


def test_unknown_class_names_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"unknown class 'sqare'; did you mean 'square'\?"):
        KINDS["class"].parse(["sqare"])


@pytest.mark.parametrize("index", [-1, 3, "12"])
def test_index_out_of_range_is_refused(index: int | str) -> None:
    with pytest.raises(ValueError, match=r"classes are 0 to 2|unknown class"):
        KINDS["class"].parse([index])


def test_wrong_labels_in_the_data_are_refused() -> None:
    with pytest.raises(ValueError, match=r"labels \[5\]"):
        KINDS["class"].encode({"label": torch.tensor([1, 5])})


def test_repeated_class_names_are_refused() -> None:
    with pytest.raises(ValueError, match="differ"):
        ClassCondition(["cat", "cat"])


def test_unconditional_refuses_words() -> None:
    with pytest.raises(ValueError, match="'a red circle'"):
        KINDS["none"].parse(["", "a red circle"])


def test_drop_replaces_whole_samples() -> None:
    condition = KINDS["text"].encode(BATCH)
    null = KINDS["text"].null(condition)
    mixed = drop(condition, null, keep=torch.tensor([True, True, False]))
    assert same(mixed[:2], condition[:2]) and same(mixed[2:], null[2:])
    assert same(drop(condition, null, torch.ones(3, dtype=torch.bool)), condition)
    assert same(condition, KINDS["text"].encode(BATCH)), "the condition itself is untouched"
    assert drop(
        Unconditional().encode(BATCH), Unconditional().encode(BATCH), torch.zeros(3, dtype=torch.bool)
    ).is_empty()


def test_drop_reaches_nested_conditions_of_any_rank() -> None:
    inner = TensorDict({"grid": torch.ones(2, 3, 4)}, batch_size=[2])
    condition = TensorDict({"inner": inner, "x": torch.ones(2)}, batch_size=[2])
    mixed = drop(condition, condition.apply(torch.zeros_like), keep=torch.tensor([False, True]))
    assert mixed["inner", "grid"].sum((1, 2)).tolist() == [0, 12] and mixed["x"].tolist() == [0, 1]


FIELDS = Fields({"digit": ["0", "1"], "speaker": ["ann", "bob"]})


def test_fields_are_said_in_words_or_mappings_and_may_be_left_open() -> None:
    parsed = FIELDS.parse(["speaker=bob digit=1", {"digit": "0"}, ""])
    assert parsed["digit"].tolist() == [1, 0, 2] and parsed["speaker"].tolist() == [1, 2, 2]
    assert FIELDS.describe("digit=1, speaker=ann") == "digit 1, speaker ann"
    null = FIELDS.null(parsed)
    assert null["digit"].tolist() == [2] * 3 and null["speaker"].tolist() == [2] * 3


def test_fields_are_encoded_by_column() -> None:
    encoded = FIELDS.encode({"labels": torch.tensor([[1, 0], [-1, 1]])})
    assert encoded["digit"].tolist() == [1, 2] and encoded["speaker"].tolist() == [0, 1]
    with pytest.raises(ValueError, match=r"labels \[2\]"):
        FIELDS.encode({"labels": torch.tensor([[2, 0]])})


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ("seven", "where a field=value belongs"),
        ("digit=9", "unknown class|does not exist"),
        (3, "is no text"),
        ("sperker=ann", "did you mean 'speaker'"),
    ],
)
def test_fields_refuse_what_has_no_meaning(prompt: Any, message: str) -> None:
    with pytest.raises(PromptError, match=message):
        FIELDS.parse([prompt])


def test_a_class_refuses_what_is_neither_name_nor_number() -> None:
    with pytest.raises(PromptError, match="neither the name of a class nor its number"):
        ClassCondition(["a", "b"]).parse([{"a": 1}])  # type: ignore[list-item]
