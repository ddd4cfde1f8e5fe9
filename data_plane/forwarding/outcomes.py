"""What an attempt's end means for the plan, and how attempts that gave no answer are listed for the caller.

Source: contract, section 9.
"""

import email.utils
import time
from enum import Enum
from typing import Final, NamedTuple

from data_plane.forwarding.upstream import Answer
from gateway_core.failover import FAILOVER_STATUSES

_OK: Final = range(200, 300)
_REFUSED: Final = range(400, 500)
_LISTED_ATTEMPTS: Final = 20
_LONGEST_RETRY: Final = 3600


class AttemptOutcome(Enum):
    """What an upstream's status means for the plan."""

    ANSWERED = "answered"
    FAILED = "failed"
    REFUSED = "refused"


def outcome_of(status: int) -> AttemptOutcome:
    """What comes after an answer with this status."""
    if status in _OK:
        return AttemptOutcome.ANSWERED
    return AttemptOutcome.REFUSED if status in _REFUSED and status not in FAILOVER_STATUSES else AttemptOutcome.FAILED


class AttemptFailed(Exception):
    """An attempt is over without an answer. `status`: the upstream's, or a word for what happened."""

    def __init__(self, status: str, retry_after: int | None = None) -> None:
        super().__init__(status)
        self.status = status
        self.retry_after = retry_after


class KeyUnusable(AttemptFailed):
    """This attempt's provider key cannot be opened here."""


class RequestRefused(AttemptFailed):
    """The upstream takes the key and not the request; another candidate may take it."""


class Failure(NamedTuple):
    """An attempt that gave no answer. `status`: the upstream's, or a word for what happened."""

    provider: str
    model: str
    mask: str
    status: str
    retry_after: int | None = None


def retry_after_of(response: Answer) -> int | None:
    """The answer's `Retry-After` (RFC 9110, section 10.2.3) in seconds, 1 to 3600; None if there is none to read."""
    text = response.headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        seconds = int(text[:9])
    else:
        try:
            seconds = round(email.utils.parsedate_to_datetime(text).timestamp() - time.time())
        except (ValueError, OverflowError):
            return None
    return max(1, min(seconds, _LONGEST_RETRY))


def listed_failures(lead: str | None, failures: list[Failure]) -> str:
    """A message that lists the failed attempts, at most 20 of them, after its first sentence `lead`."""
    listed = [f"{one.provider}:{one.model} with {one.mask}: {one.status}" for one in failures[:_LISTED_ATTEMPTS]]
    if len(failures) > _LISTED_ATTEMPTS:
        listed.append(f"and {len(failures) - _LISTED_ATTEMPTS} more")
    return f"{lead} {'; '.join(listed)}."
