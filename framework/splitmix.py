"""SplitMix64's finaliser: a bijection of 64-bit words after which neighbours have nothing in common.

Steele, Lea, Flood: Fast splittable pseudorandom number generators, OOPSLA 2014.
"""

from __future__ import annotations

import numpy as np

GAMMA = 0x9E3779B97F4A7C15  # the odd integer next to 2^64 / golden ratio: how far apart a sequence's words begin
WORD = 2**64 - 1
_SHIFTS, _FACTORS = (30, 27, 31), (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
# Arrays of one, which NumPy applies in half the time of its scalars.
_SHIFT_ARRAYS = tuple(np.array([shift], dtype=np.uint64) for shift in _SHIFTS)
_FACTOR_ARRAYS = tuple(np.array([factor], dtype=np.uint64) for factor in _FACTORS)


def mix(words: np.ndarray) -> np.ndarray:
    """Every word of a uint64 array, in place; products wrap at 2^64, which is what is meant."""
    words ^= words >> _SHIFT_ARRAYS[0]
    words *= _FACTOR_ARRAYS[0]
    words ^= words >> _SHIFT_ARRAYS[1]
    words *= _FACTOR_ARRAYS[1]
    words ^= words >> _SHIFT_ARRAYS[2]
    return words


def mix_word(word: int) -> int:
    """One word, of any size; for a few of them faster than NumPy."""
    word &= WORD
    word = (word ^ word >> _SHIFTS[0]) * _FACTORS[0] & WORD
    word = (word ^ word >> _SHIFTS[1]) * _FACTORS[1] & WORD
    return word ^ word >> _SHIFTS[2]
