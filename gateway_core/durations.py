"""Durations as Go writes them (`30s`, `1m30s`, `1.5h`), the form of `totalTimeout` and `perRequestTimeout`.

The grammar, the rounding and the overflow rules are those of Go's `time.ParseDuration`, digit for digit, so that a text
means here what it means to the clients of the published service. Two rules are narrower: the duration is above zero,
and its text has at most 64 characters.

Source: https://pkg.go.dev/time#ParseDuration and src/time/format.go of Go 1.23.
"""

import re
from typing import Final

_LENGTH_LIMIT: Final = 64  # the longest useful text has about 40 characters; Go has no limit
_MAXIMUM_NS: Final = 2**63 - 1
_NS_PER_SECOND: Final = 10**9
_UNITS_NS: Final = {
    "ns": 1,
    "us": 10**3,
    "\u00b5s": 10**3,  # micro sign
    "\u03bcs": 10**3,  # Greek letter mu
    "ms": 10**6,
    "s": _NS_PER_SECOND,
    "m": 60 * _NS_PER_SECOND,
    "h": 3600 * _NS_PER_SECOND,
}
_PART: Final = re.compile(r"([0-9]*)(?:(\.)([0-9]*))?([^0-9.]*)")


class InvalidDuration(ValueError):
    """This is not a duration such as "30s", "1m30s" or "1.5h"."""


def parse(text: str) -> int:
    """The duration in nanoseconds.

    Args:
        text: decimal numbers, each with a unit (h, m, s, ms, us or µs, ns), with or without a leading "+".

    Returns:
        1 to 2**63 - 1.

    Raises:
        InvalidDuration: the text is not a duration, is not above zero, or is one that Go cannot hold (292 years).
    """
    if not isinstance(text, str) or not text or len(text) > _LENGTH_LIMIT:
        raise InvalidDuration(InvalidDuration.__doc__)
    is_negative = text.startswith("-")
    unsigned = text[1:] if text[0] in "+-" else text
    total = 0 if unsigned == "0" else _sum_of_parts(unsigned)  # Go: zero alone needs no unit
    if is_negative or total == 0:
        raise InvalidDuration("A duration must be greater than zero.")
    if total > _MAXIMUM_NS:
        raise InvalidDuration("A duration can be 292 years at most.")
    return total


def to_seconds(ns: int) -> float:
    """Convert nanoseconds to seconds, the unit of timers."""
    return ns / _NS_PER_SECOND


def _sum_of_parts(text: str) -> int:
    if not text:
        raise InvalidDuration(InvalidDuration.__doc__)
    total = position = 0
    while position < len(text):
        part = _PART.match(text, position)
        if part is None or not (part[1] or part[3]):
            raise InvalidDuration(InvalidDuration.__doc__)
        if not part[4]:
            raise InvalidDuration('Every number of a duration needs a unit: "30s", not "30".')
        unit = _UNITS_NS.get(part[4])
        if unit is None:
            raise InvalidDuration("The units of a duration are h, m, s, ms, us (or µs) and ns.")
        total += int(part[1] or "0") * unit + _fraction_ns(part[3] or "", unit)
        position = part.end()
    return total


def _fraction_ns(digits: str, unit: int) -> int:
    """The fraction's share of the unit, through the same floating-point steps as Go, so that the last digit agrees.

    Digits that no longer fit 63 bits are left out, as in Go's `leadingFraction`.
    """
    fraction, scale = 0, 1.0
    for digit in digits:
        longer = fraction * 10 + int(digit)
        if longer > _MAXIMUM_NS + 1:
            break
        fraction, scale = longer, scale * 10
    return int(float(fraction) * (float(unit) / scale))
