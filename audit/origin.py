"""From where a write comes: a request's address, browser and ID, or the process that does it by itself.

Services know who acts and not from where, so the request carries it beside them in a context variable
(audit.middleware). Where there is no request, the process's own command line tells.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Final

REQUEST: Final = "request"
LONGEST: Final = 255


@dataclass(frozen=True)
class Origin:
    """Where a write comes from. Texts are what a client claims, but for the address."""

    # `request`, or the process: `manage.py grant_credits`.
    source: str
    address: str | None = None
    user_agent: str | None = None
    request_id: str | None = None


_origin: Final[ContextVar[Origin | None]] = ContextVar("origin", default=None)


def current() -> Origin:
    """The origin of what is written now."""
    return _origin.get() or Origin(_process(sys.argv))


@contextmanager
def of_request(*, address: str, user_agent: str, request_id: str) -> Iterator[None]:
    """Let everything within come from this request.

    Args:
        address: as rest.middleware settled it.
        user_agent: any text.
        request_id: any text.
    """
    token = _origin.set(Origin(REQUEST, *(_tidy(text) for text in (address, user_agent, request_id))))
    try:
        yield
    finally:
        _origin.reset(token)


def _process(command_line: list[str]) -> str:
    """`manage.py grant_credits`; of other programs the name alone, for their arguments may be anything."""
    program = Path(command_line[0]).name if command_line else ""
    words = [program, *command_line[1:2]] if program == "manage.py" else [program]
    return _tidy(" ".join(words)) or "process"


def _tidy(text: str) -> str | None:
    # A header may hold what no column takes (NUL), and be of any length.
    return "".join(one for one in text[: 2 * LONGEST] if one.isprintable())[:LONGEST] or None
