"""Names that look like an unknown one, found by the pairs of letters that they share.

Comparing an unknown name with each known one takes tens of milliseconds, and anybody may ask for any name. So the pairs
of the known names are indexed once, and only the few that share most of them are compared.
"""

import difflib
from collections import Counter
from collections.abc import Iterable
from typing import Final

_COMPARED_FROM: Final = 100  # only the first 100 characters of an unknown name are looked at
_MOST_PAIRS: Final = 24
_MOST_COMPARED: Final = 12


class NameIndex:
    """Known names, ready to be asked for those that look like another."""

    def __init__(self, names: Iterable[str]) -> None:
        """
        Args:
            names: without case, each once. Of two that look alike, the first is suggested first.
        """
        self._names = tuple(names)
        self._lengths: list[int] = []
        self._having: dict[str, list[int]] = {}
        # One name at a time: the pairs of all of them take 4 MiB.
        for place, name in enumerate(self._names):
            found = _pairs(name)
            self._lengths.append(len(found))
            for pair in found:
                self._having.setdefault(pair, []).append(place)

    def nearest(self, name: str, *, cutoff: float) -> list[str]:
        """Up to three known names that look like this one, the nearest first.

        Args:
            name: any text.
            cutoff: how alike they must be, from 0 to 1 (difflib's ratio).
        """
        asked = name[:_COMPARED_FROM].casefold()
        # Rare pairs say most, and have the shortest lists.
        known = sorted(
            (pair for pair in _pairs(asked) if pair in self._having), key=lambda pair: len(self._having[pair])
        )
        shared: Counter[int] = Counter()
        for pair in known[:_MOST_PAIRS]:
            shared.update(self._having[pair])
        compared = min(len(known), _MOST_PAIRS)
        ranked = sorted(
            shared, key=lambda place: (-shared[place] / (self._lengths[place] + compared), place)
        )[:_MOST_COMPARED]  # fmt: skip
        return difflib.get_close_matches(asked, [self._names[place] for place in ranked], n=3, cutoff=cutoff)


def _pairs(name: str) -> set[str]:
    """The pairs of letters and digits in a name; marks between them do not count."""
    letters = "".join(filter(str.isalnum, name))
    return {letters[place : place + 2] for place in range(len(letters) - 1)} or {letters}
