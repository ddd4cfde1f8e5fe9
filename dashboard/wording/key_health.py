"""How a provider key fares at its upstream, in words: from real traffic, never from a trial of our own."""

from http import HTTPStatus
from typing import Final, NamedTuple

from provider_keys.models import ProviderKey

# What the statuses that failover answers to mean for a key.
_MEANINGS: Final = {
    0: "no answer",
    HTTPStatus.UNAUTHORIZED: "key refused",
    HTTPStatus.PAYMENT_REQUIRED: "no credit there",
    HTTPStatus.FORBIDDEN: "not allowed there",
    HTTPStatus.REQUEST_TIMEOUT: "timed out",
    HTTPStatus.TOO_MANY_REQUESTS: "rate limited",
}
# The upstream said that it does not take the key; the rest may pass by itself.
_BAD: Final = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.PAYMENT_REQUIRED, HTTPStatus.FORBIDDEN})


class Health(NamedTuple):
    """The words, and the kind of badge that they stand in."""

    text: str
    kind: str


def refusal_told(status: int) -> str:
    """`401 key refused`; `no answer` for the status 0."""
    meaning = _MEANINGS.get(status, "upstream trouble")
    return f"{status} {meaning}" if status else meaning


def health_of(provider_key: ProviderKey) -> Health:
    """What the newest traffic tells of the value that the key has now."""
    if provider_key.is_refused:
        status = provider_key.last_refusal_status or 0
        return Health(refusal_told(status).capitalize(), "bad" if status in _BAD else "warning")
    if provider_key.last_success_at is not None:
        return Health("Works", "good")
    return Health("Not tried yet", "neutral")
