"""A person's words reach the configuration exactly as they were typed."""

from __future__ import annotations

import pytest

from experiments.configuration import compose
from experiments.words import quoted, readable

PROMPTS = [
    "a red circle",
    "a red circle, left of a blue square",
    "it's big",
    "'tis",
    'a "big" one',
    "a (big) circle",
    "f(x)=y",
    "[a] {b}",
    "a: b",
    "3",
    "true",
    "50 % of $5 & more | less; #1 @home !",
    "ends in \\",
    "\\' \\\\' \\",
    "${oc.env:HOME}",
    "\\${run}",
    "\\\\${run}",
    "a,b",
    "ein grüner Kreis, 日本語",
    " spaces around ",
    "a\ttab",
    "~",
    "*",
]


@pytest.mark.parametrize("prompt", PROMPTS)
def test_prompts_arrive_as_typed(prompt):
    config = compose("sample", [f"prompt={prompt}", f"negative={prompt}"])
    assert (config.prompt, config.negative) == (prompt, prompt)


@pytest.mark.parametrize("prompt", PROMPTS)
def test_quoting_twice_is_quoting_once(prompt):
    once = readable([f"prompt={quoted(prompt)}"])
    assert once == [f"prompt={quoted(prompt)}"]
    assert readable(once) == once


def test_what_was_written_for_hydra_stays():
    for override in [
        "prompt=null",
        "prompt='a, b'",
        'prompt="a, b"',
        "prompt=[a,b]",
        "prompt='a','b'",
        "-m",
        "n=3",
    ]:
        assert readable([override]) == [override]


@pytest.mark.parametrize("path", ["outputs/lr=0.1", "my runs/a (1)", "~/runs/it's", "outputs/a,b=c"])
def test_paths_that_the_grammar_cannot_read_are_quoted(path):
    assert compose("sample", [f"run={path}"]).run == path


def test_plain_paths_keep_their_meaning_in_the_grammar():
    assert readable(["run=outputs/a,outputs/b", "run=outputs/${name}"]) == [
        "run=outputs/a,outputs/b",
        "run=outputs/${name}",
    ]
