"""The health of a provider key in words. It comes from real requests; the gateway makes no test requests."""

from http import HTTPStatus
from typing import Final, NamedTuple

from gateway_core.failover import NO_STATUS
from provider_keys.models import ProviderKey

# The texts for the statuses that lead to a failover (gateway_core.failover).
_MEANINGS: Final = {
    NO_STATUS: "no answer",
    HTTPStatus.UNAUTHORIZED: "key refused",
    HTTPStatus.PAYMENT_REQUIRED: "no credit there",
    HTTPStatus.FORBIDDEN: "not allowed there",
    HTTPStatus.REQUEST_TIMEOUT: "timed out",
    HTTPStatus.TOO_MANY_REQUESTS: "rate limited",
}
# With these statuses the upstream refused the key. The other failures may pass by themselves.
_BAD: Final = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.PAYMENT_REQUIRED, HTTPStatus.FORBIDDEN})


class Health(NamedTuple):
    """The text, and the kind of its badge."""

    text: str
    kind: str


def refusal_text(status: int) -> str:
    """`401 key refused`; `no answer` for the status 0."""
    meaning = _MEANINGS.get(status, "upstream trouble")
    return f"{status} {meaning}" if status else meaning


def health_of(provider_key: ProviderKey) -> Health:
    """The health of the key's present value, from its newest requests."""
    if provider_key.is_refused:
        status = provider_key.last_refusal_status or 0
        return Health(refusal_text(status).capitalize(), "bad" if status in _BAD else "warning")
    if provider_key.last_success_at is not None:
        return Health("Works", "good")
    return Health("Not tried yet", "neutral")
