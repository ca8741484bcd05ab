"""A small made language whose sentences are right or wrong: what is true of numbers, in words.

    three plus four is seven             eleven is less than twenty two
    ninety minus eighty nine is one      sixteen is even

A corpus is all true sentences about the numbers from 0 to some largest one, each as likely, so that the entropy of a
sentence is the logarithm of their number.
"""

from __future__ import annotations

import functools
import re
from typing import NamedTuple

ONES = [
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
]
TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
SUM = re.compile(r"^(?P<a>.+) (?P<how>plus|minus) (?P<b>.+) is (?P<c>.+)$")
COMPARISON = re.compile(r"^(?P<a>.+) is (?P<how>less) than (?P<b>.+)$")
PARITY = re.compile(r"^(?P<a>.+) is (?P<how>even|odd)$")


class Verdict(NamedTuple):
    """Whether a text is a sentence of the language, and whether it is true; what is no sentence is not true."""

    grammatical: bool
    true: bool


def words(number: int) -> str:
    """A number from 0 to 99: "forty two"."""
    if number < 20:
        return ONES[number]
    tens, ones = divmod(number, 10)
    return TENS[tens - 2] + (f" {ONES[ones]}" if ones else "")


@functools.cache
def numbers() -> dict[str, int]:
    """Each number's words, and the number."""
    return {words(n): n for n in range(100)}


def sentences(largest: int) -> list[str]:
    """All true sentences about the numbers from 0 to `largest`, in order.

    Raises:
        ValueError: there are no words for such numbers.
    """
    if not 2 <= largest <= 99:
        raise ValueError(f"the largest number is from 2 to 99, not {largest}")
    pairs = [(a, b) for a in range(largest + 1) for b in range(largest + 1)]
    made = [f"{words(a)} plus {words(b)} is {words(a + b)}" for a, b in pairs if a + b <= largest]
    made += [f"{words(a)} minus {words(b)} is {words(a - b)}" for a, b in pairs if a >= b]
    made += [f"{words(a)} is less than {words(b)}" for a, b in pairs if a < b]
    return made + [f"{words(a)} is {'odd' if a % 2 else 'even'}" for a in range(largest + 1)]


def judge(text: str) -> Verdict:
    """Whether a text is a sentence, of whatever numbers up to 99, and true."""
    found = SUM.match(text) or COMPARISON.match(text) or PARITY.match(text)
    said = {} if found is None else found.groupdict()
    values = [numbers().get(said[key], -1) for key in "abc" if key in said]
    if not said or -1 in values:
        return Verdict(False, False)
    a, b, c = (*values, 0, 0)[:3]
    true = {"plus": a + b == c, "minus": a - b == c, "less": a < b, "even": a % 2 == 0, "odd": a % 2 == 1}
    return Verdict(True, true[said["how"]])


def operands(text: str) -> list[str]:
    """The three numbers of a sum as they are written; none of what is no sum."""
    found = SUM.match(text)
    return [] if found is None else [found[key] for key in "abc"]
