"""Times relative to now, and lengths of time, for texts that the server writes."""

from datetime import datetime
from typing import Final

from django.utils import timezone

_SECOND: Final = 1000
_UNITS: Final = (("day", 86_400), ("hour", 3_600), ("minute", 60))


def ago(moment: datetime) -> str:
    """`3 days ago`, `1 hour ago`, `less than a minute ago`."""
    seconds = int((timezone.now() - moment).total_seconds())
    for name, length in _UNITS:
        count = seconds // length
        if count:
            return f"{count} {name}{'' if count == 1 else 's'} ago"
    return "less than a minute ago"


def duration(milliseconds: float) -> str:
    """`3 ms` below a second, else `1.24 s`."""
    return f"{milliseconds:.0f} ms" if milliseconds < _SECOND - 0.5 else f"{milliseconds / _SECOND:.2f} s"
