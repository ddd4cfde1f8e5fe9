"""What an attempt's end means for the plan, and what its upstream says about it.

Source: contract, section 9; docs/decisions/0085-failures-in-disguise.md.
"""

import email.utils
import math
import re
import time
from enum import Enum
from typing import Final, NamedTuple

from data_plane.forwarding.answers import Answer
from data_plane.forwarding.headers import Headers, downstream
from gateway_core.failover import FAILOVER_STATUSES
from gateway_core.redaction import redact

_OK: Final = range(200, 300)
_REFUSED: Final = range(400, 500)
_LISTED_ATTEMPTS: Final = 20
_LONGEST_RETRY: Final = 3600.0
_LONGEST_REASON: Final = 300
_SPACE: Final = re.compile(r"[\x00-\x20\x7f-\xa0\u2028\u2029]+")
_RATE_LIMIT_LEADS: Final = (b"x-ratelimit-", b"ratelimit", b"anthropic-ratelimit-")
_UNAUTHORIZED: Final = 401
# The statuses by which a key is refused: trying again with the same keys mends nothing.
KEY_STATUSES: Final = frozenset({_UNAUTHORIZED, 402, 403})


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


class Said(NamedTuple):
    """What an upstream says of a failure, as far as it may be passed on."""

    # One line, bounded, without secrets; empty where there is none.
    reason: str = ""
    # Seconds that it asks to wait.
    wait: float | None = None
    # Its rate-limit headers.
    limits: Headers = []


class AttemptFailed(Exception):
    """An attempt is over without an answer."""

    def __init__(self, status: str, *, means: int = 0, said: Said | None = None) -> None:
        """
        Args:
            status: the upstream's, or a word for what happened.
            means: the status that the upstream's answer means; 0 where there was no answer.
            said: what the upstream says of it.
        """
        super().__init__(status)
        self.status = status
        self.means = means
        self.said = said or Said()


class NotSent(AttemptFailed):
    """Nothing was sent: the reason lies in this worker, or in what it holds."""


class KeyUnusable(NotSent):
    """This attempt's provider key cannot be opened here."""


class RequestRefused(AttemptFailed):
    """The upstream takes the key and not the request; another candidate may take it."""


class KeptElsewhere(AttemptFailed):
    """The request goes on from an object that this key does not know; another key may have made it."""


class Failure(NamedTuple):
    """An attempt that gave no answer, as the caller may see it. `status`, `means`, `said`: as in `AttemptFailed`."""

    provider: str
    model: str
    mask: str
    status: str
    means: int
    said: Said


def wait_of(response: Answer) -> float | None:
    """The seconds that an answer asks to wait, above 0 and up to 3600; None if it does not say.

    Read are `retry-after-ms`, and `Retry-After` as a number, with or without a fraction, or as a date.

    Source: RFC 9110, section 10.2.3; the packages of OpenAI and Anthropic read the same.
    """
    seconds = _number(response.header(b"retry-after-ms").decode("latin-1")) / 1000
    if math.isnan(seconds):
        text = response.header(b"retry-after").decode("latin-1").strip()
        seconds = _number(text)
        if math.isnan(seconds):
            try:
                seconds = max(1.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
            except (ValueError, OverflowError):
                return None
    return max(0.001, min(seconds, _LONGEST_RETRY))


def _number(text: str) -> float:
    text = text.strip().removesuffix("s")
    return float(text) if re.fullmatch(r"[0-9]{1,12}(?:\.[0-9]{1,12})?", text, re.ASCII) else math.nan


def limits_of(response: Answer) -> Headers:
    """An answer's rate-limit headers."""
    return [header for header in downstream(response.headers) if header[0].startswith(_RATE_LIMIT_LEADS)]


def cleaned(message: str) -> str:
    """An upstream's message as a caller may see it: one line, bounded, without what looks like a secret.

    Args:
        message: of an answer that is guarded (data_plane.forwarding.guarding): the shown secret is not in it.
    """
    line = redact(_SPACE.sub(" ", message[: 4 * _LONGEST_REASON]).strip())
    return line if len(line) <= _LONGEST_REASON else line[:_LONGEST_REASON].rstrip() + "…"


def listed_failures(lead: str | None, failures: list[Failure]) -> str:
    """A message that lists the failed attempts, at most 20 of them, after its first sentence `lead`.

    The upstream's reason stands before the list where all attempts have the same, else beside each.
    """
    reasons = {one.said.reason for one in failures}
    shared = reasons.pop() if len(reasons) == 1 else ""
    listed = [_listed(one, with_reason=not shared) for one in failures[:_LISTED_ATTEMPTS]]
    if len(failures) > _LISTED_ATTEMPTS:
        listed.append(f"and {len(failures) - _LISTED_ATTEMPTS} more")
    said = f" The upstream says: {shared.rstrip('.')}." if shared else ""
    return f"{lead}{said} {'; '.join(listed)}."


def _listed(one: Failure, *, with_reason: bool) -> str:
    reason = f" ({one.said.reason})" if with_reason and one.said.reason else ""
    return f"{one.provider}:{one.model} with {one.mask}: {one.status}{reason}"


def shortest_wait(failures: list[Failure]) -> float | None:
    """The shortest time that an upstream asked to wait, of those where waiting may help."""
    return min(
        (one.said.wait for one in failures if one.said.wait is not None and one.means not in KEY_STATUSES), default=None
    )
