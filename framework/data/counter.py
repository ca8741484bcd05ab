"""Random numbers that are a pure function of where they are used, not of what was drawn before.

The k-th number of item i is mix(s + (i W + k) gamma), with s a hash of the seed and a stream's name, W the
numbers per item, and mix and gamma SplitMix64's (framework/splitmix.py). Item i is therefore the same whatever the
length of the set, the order of reading and the number of workers, and a whole set is one vectorised call.
"""

from __future__ import annotations

import hashlib

import numpy as np
from jaxtyping import Float64, Int

from framework.splitmix import GAMMA, mix


def share(name: str) -> float:
    """A number in [0, 1) that depends on `name` alone: `share(name) < 0.1` always picks the same tenth."""
    digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "little") >> 11) * 2.0**-53


def uniforms(seed: int, stream: str, items: Int[np.ndarray, " n"], width: int) -> Float64[np.ndarray, "n width"]:
    """Uniform numbers in [0, 1): `width` of them for each item of the named stream."""
    digest = hashlib.blake2b(f"{seed}/{stream}".encode(), digest_size=8).digest()
    start = np.uint64(int.from_bytes(digest, "little"))
    counter = np.asarray(items, np.uint64)[:, None] * np.uint64(width) + np.arange(1, width + 1, dtype=np.uint64)
    return (mix(start + counter * np.uint64(GAMMA)) >> np.uint64(11)) * 2.0**-53
