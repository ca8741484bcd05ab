"""Names and numbers as a reader wants them, and places for labels that do not overlap."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

BETWEEN = " · "  # parts of a method's name
MINUS, NARROW = "\N{MINUS SIGN}", "\N{THIN SPACE}"
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def short_names(methods: Iterable[str]) -> dict[str, str]:
    """Methods' names without the parts that all of them share: a common grid need not be said at each line."""
    methods = list(dict.fromkeys(methods))
    parts = {method: method.split(BETWEEN) for method in methods}
    shared = set.intersection(*(set(part) for part in parts.values())) if len(parts) > 1 else set()
    kept = {method: BETWEEN.join(p for p in part if p not in shared) for method, part in parts.items()}
    return kept if all(kept.values()) and len(set(kept.values())) == len(kept) else {m: m for m in methods}


def number(value: float, digits: int = 3) -> str:
    """A number with `digits` significant ones, readable: 0.0123, 45.1, 1.2 × 10⁻⁵; an en dash where there is none."""
    if value is None or not math.isfinite(value):
        return "\N{EN DASH}" if value is None or math.isnan(value) else ("∞" if value > 0 else f"{MINUS}∞")
    if value == 0:
        return "0"
    if not 1e-3 <= abs(value) < 1e5:
        mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
        return f"{mantissa}{NARROW}×{NARROW}10{str(int(exponent)).translate(_RAISED)}".replace("-", MINUS)
    places = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:,.{places}f}".replace("-", MINUS)


def triple(value: float, low: float, high: float) -> tuple[str, str, str]:
    """A value and the ends of its interval, all with the places that the interval's width gives meaning to.

    Two significant digits of the half width are kept: 0.8123 [0.79, 0.83] is shown as 0.812 [0.794, 0.831].
    """
    half = (high - low) / 2
    if not math.isfinite(half) or half <= 0 or not math.isfinite(value):
        return number(value), number(low), number(high)
    top = max(abs(value), abs(low), abs(high))
    if not 1e-3 <= top < 1e5:
        exponent = math.floor(math.log10(top))
        scaled = [x / 10**exponent for x in (value, low, high)]
        places = _places(half / 10**exponent)
        tail = f"{NARROW}×{NARROW}10{str(exponent).translate(_RAISED)}"
        shown = [f"{x:.{places}f}".replace("-", MINUS) for x in scaled]
        return shown[0] + tail, shown[1] + tail, shown[2] + tail
    places = _places(half)
    shown = [f"{x:,.{places}f}".replace("-", MINUS) for x in (value, low, high)]
    return shown[0], shown[1], shown[2]


def percent(share: float) -> str:
    """A probability in whole percent; what is not quite 0 or 1 does not become it."""
    if not math.isfinite(share):
        return "\N{EN DASH}"
    if 0 < share < 0.01:
        return f"<{NARROW}1{NARROW}%"
    if 0.99 < share < 1:
        return f">{NARROW}99{NARROW}%"
    return f"{round(100 * share)}{NARROW}%"


def probability(p: float) -> str:
    """A p-value; small ones are bounded, since their digits mean nothing."""
    return "\N{EN DASH}" if not math.isfinite(p) else "< 0.001" if p < 1e-3 else f"{p:.3f}"


def power_of_ten(value: float) -> str:
    """A tick of a logarithmic axis: 0.01, 1, 100, 10⁻⁴."""
    exponent = math.log10(value)
    if abs(exponent - round(exponent)) > 1e-6:
        return f"{value:g}"
    return f"{value:g}" if -2 <= exponent <= 4 else "10" + str(round(exponent)).translate(_RAISED)


def listed(words: Sequence[str], most: int = 12) -> str:
    """Words as in a sentence: "a, b and c"; of many the first ones and how many more there are."""
    if len(words) > most:
        return f"{', '.join(words[:most])} and {len(words) - most} more"
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]])) if words else ""


def spread(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Places as near as can be (in squares) to the wanted ones, `gap` apart and within [low, high], order kept.

    With y_i = x_i - i gap the gaps become "not decreasing", which is isotonic regression: neighbours that
    disagree are pooled at their mean. There must be room: (len - 1) gap <= high - low.
    """
    order = np.argsort(wanted, kind="stable")
    pools: list[list[float]] = []  # sum, count
    for rank, i in enumerate(order):
        pools.append([wanted[i] - rank * gap, 1])
        while len(pools) > 1 and pools[-2][0] / pools[-2][1] > pools[-1][0] / pools[-1][1]:
            total, count = pools.pop()
            pools[-1][0] += total
            pools[-1][1] += count
    flat = np.repeat([total / count for total, count in pools], [int(count) for _, count in pools])
    flat = np.clip(flat, low, high - (len(wanted) - 1) * gap)
    places = np.empty(len(wanted))
    places[order] = flat + gap * np.arange(len(wanted))
    return [float(place) for place in places]


def _places(half: float) -> int:
    return int(np.clip(1 - math.floor(math.log10(half)), 0, 6))
