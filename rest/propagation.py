"""The headers that report on the data plane in an answer to a write: the snapshot version, and the workers that use it.

`Prefer: wait=N` makes a write wait until every worker has applied it (contract, section 8). This room writes the
headers; the room `snapshots` knows the publications and the workers.

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
# A write that revokes access (of an app, or of an old upstream key) waits this long by default.
UNASKED_SECONDS: Final = 1
# At most this many requests of a process may wait for their whole time: half of its threads in the Procfile.
MOST_WAITERS: Final = 4

_TOKEN: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105 -- "token" in the sense of RFC 9110, not a secret
_QUOTED: Final = r'"(?:[^"\\]|\\.)*"'
# An unclosed quote runs to the end of the header. Backtracking instead would take quadratic time.
_ELEMENT: Final = re.compile(r'(?:[^",]|"(?:[^"\\]|\\.)*(?:"|\\?\Z))+', re.DOTALL)
_PREFERENCE: Final = re.compile(rf"[ \t]*({_TOKEN})(?:[ \t]*=[ \t]*({_TOKEN}|{_QUOTED}))?[ \t]*(?:;.*)?", re.DOTALL)
_SECONDS: Final = re.compile(r'"?([0-9]{1,19})"?', re.ASCII)


@dataclass(frozen=True)
class WriteStatus:
    """What is known about a write when it is answered."""

    # The lowest version of the account's snapshot that contains the write; None if it is unknown.
    version: int | None
    # (workers that have applied it, all workers in the count); None if the request did not wait, or it is unknown.
    applied: tuple[int, int] | None = None


class Publications(Protocol):
    """What this room needs from the room that publishes."""

    def begin(self) -> None:
        """Forget the writes of the thread's previous request."""

    def status_of_write(self, request: Request, *, seconds: int) -> WriteStatus:
        """Report on the last write of the request.

        Args:
            request: a request that succeeded.
            seconds: wait at most this long for the workers; 0 does not wait.
        """


PUBLICATIONS: Final[Port[Publications]] = Port("the reports on publications")


def begin() -> None:
    """Call this at the beginning of each request: it forgets the writes of the thread's previous request."""
    PUBLICATIONS.get().begin()


def add_headers(request: Request, response: Response, *, is_awaited: bool) -> None:
    """Add the headers to the answer to a write. An error here is only logged, because the write has succeeded.

    Args:
        request: its `Prefer` header is read.
        response: the answer that gets the headers.
        is_awaited: whether this write waits UNASKED_SECONDS if the client states no preference.
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
    """For how many seconds the client wants to wait, at most 10; None if it states no such preference.

    A malformed preference is ignored. If there are several, the first counts.

    Source: RFC 7240, sections 2 and 4.3.
    """
    for element in _ELEMENT.findall(header):
        found = _PREFERENCE.fullmatch(element)
        if found is not None and found[1].lower() == "wait":
            seconds = _SECONDS.fullmatch(found[2] or "")
            return min(int(seconds[1]), MOST_SECONDS) if seconds else None
    return None
