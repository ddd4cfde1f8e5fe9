"""What an answer to a write says of the data plane: from which snapshot on the write is in force, and where it is.

`Prefer: wait=N` makes a write wait until every worker has applied it (contract, section 8). This room knows the
headers; the room `snapshots` knows what is published and where it is applied.

Source: RFC 7240; docs/decisions/0053-acknowledgements.md.
"""

import re
from dataclasses import dataclass
from typing import Final, Protocol

import structlog
from rest_framework.request import Request
from rest_framework.response import Response

from gateway_core.ports import Port

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

MOST_SECONDS: Final = 10
# A write that takes trust away from an app or an upstream waits for so long without being asked to.
UNASKED_SECONDS: Final = 1
# How many requests of a process may wait for their whole time: half of the threads that the Procfile gives a process.
MOST_WAITERS: Final = 4

_TOKEN: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105 -- RFC 9110's word for a word
_QUOTED: Final = r'"(?:[^"\\]|\\.)*"'
# A quote that nobody closes goes on to the end: looking for another way would cost the square of the header's length.
_ELEMENT: Final = re.compile(r'(?:[^",]|"(?:[^"\\]|\\.)*(?:"|\\?\Z))+', re.DOTALL)
_PREFERENCE: Final = re.compile(rf"[ \t]*({_TOKEN})(?:[ \t]*=[ \t]*({_TOKEN}|{_QUOTED}))?[ \t]*(?:;.*)?", re.DOTALL)
_SECONDS: Final = re.compile(r'"?([0-9]{1,19})"?', re.ASCII)


@dataclass(frozen=True)
class WriteStatus:
    """What is known of a write when it is answered."""

    # The lowest version of the account's snapshot that has the write; None where nobody could say.
    version: int | None
    # At how many workers it is applied, and of how many; None where nobody waited, or could say.
    applied: tuple[int, int] | None = None


class Publications(Protocol):
    """What this room needs to know of publications."""

    def begin(self) -> None:
        """A request begins: it has written nothing yet."""

    def status_of_write(self, request: Request, *, seconds: int) -> WriteStatus:
        """What is known of what the request has written.

        Args:
            request: one that succeeded.
            seconds: for how long to wait for the workers at most; 0 for not at all.
        """


PUBLICATIONS: Final[Port[Publications]] = Port("what is known of publications")


def begin() -> None:
    """A request begins."""
    PUBLICATIONS.get().begin()


def add_headers(request: Request, response: Response, *, is_awaited: bool) -> None:
    """Put the headers on the answer to a write. A fault here is logged only: the write has succeeded.

    Args:
        request: with its `Prefer`.
        response: the answer; its headers are added to.
        is_awaited: whether this write waits for a moment unasked.
    """
    preferred = preferred_wait(request.META.get("HTTP_PREFER", ""))
    seconds = preferred if preferred is not None else UNASKED_SECONDS if is_awaited else 0
    try:
        status = PUBLICATIONS.get().status_of_write(request, seconds=seconds)
    except Exception:
        log.exception("a write succeeded, but the state of its publication is unknown")
        return
    if status.version is not None:
        response.headers["Gateway-Snapshot-Version"] = str(status.version)
    if status.applied is not None:
        response.headers["Gateway-Snapshot-Applied"] = "{}/{}".format(*status.applied)
    if preferred is not None and (seconds == 0 or status.applied is not None):
        response.headers["Preference-Applied"] = f"wait={seconds}"


def preferred_wait(header: str) -> int | None:
    """For how many seconds the client would wait, 10 at most; None without such a preference.

    What is malformed is as if it were not there, and of several the first counts.

    Source: RFC 7240, sections 2 and 4.3.
    """
    for element in _ELEMENT.findall(header):
        found = _PREFERENCE.fullmatch(element)
        if found is not None and found[1].lower() == "wait":
            seconds = _SECONDS.fullmatch(found[2] or "")
            return min(int(seconds[1]), MOST_SECONDS) if seconds else None
    return None
