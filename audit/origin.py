"""The origin of a write: a request's address, browser and ID, or the process if there is no request.

Services know who acts, but not from where. So audit.middleware puts a request's origin into a context variable. Without
a request, the origin is taken from the process's command line.
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
    """Where a write comes from. The client chooses `user_agent` and may choose `request_id`; do not trust them."""

    # `request`, or the process: `manage.py grant_credits`.
    source: str
    address: str | None = None
    user_agent: str | None = None
    request_id: str | None = None


_origin: Final[ContextVar[Origin | None]] = ContextVar("origin", default=None)


def current() -> Origin:
    """The origin of the current request, or of this process outside of a request."""
    return _origin.get() or Origin(_process(sys.argv))


@contextmanager
def of_request(*, address: str, user_agent: str, request_id: str) -> Iterator[None]:
    """Use this request as the origin of all writes in the `with` block.

    Args:
        address: as rest.middleware found it.
        user_agent: any text.
        request_id: any text.
    """
    token = _origin.set(Origin(REQUEST, *(_tidy(text) for text in (address, user_agent, request_id))))
    try:
        yield
    finally:
        _origin.reset(token)


def _process(command_line: list[str]) -> str:
    """`manage.py grant_credits`; for other programs only the name, because their arguments may contain anything."""
    program = Path(command_line[0]).name if command_line else ""
    words = [program, *command_line[1:2]] if program == "manage.py" else [program]
    return _tidy(" ".join(words)) or "process"


def _tidy(text: str) -> str | None:
    # A header may contain characters that PostgreSQL refuses (NUL), and may have any length.
    return "".join(one for one in text[: 2 * LONGEST] if one.isprintable())[:LONGEST] or None
