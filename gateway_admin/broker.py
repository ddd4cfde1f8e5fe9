"""Celery's broker in Redis, for a Redis that somebody else may write to.

Each message is signed as a whole, and one that is not is thrown away before Celery sees it. A message that is sent
again starts a task of ours once more, which every task bears. Remote control and events are off
(gateway_admin.settings), so nothing else is read from others.

Source: docs/decisions/0014-rights-in-redis.md.
"""

from queue import Empty
from typing import Any, Final

import structlog
from django.utils.crypto import constant_time_compare, salted_hmac
from kombu.transport import redis
from kombu.utils.json import dumps

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_SALT: Final = "gateway_admin.broker"
_SIGNATURE: Final = "gateway-signature"
# Kombu marks a message that it puts back. Everything else stays as it was signed.
_MARK: Final = "redelivered"


def signature_of(message: dict[str, Any]) -> str:
    """The signature of a message by SECRET_KEY, over its body and its headers."""
    headers = {name: value for name, value in message["headers"].items() if name != _MARK}
    signed = [message["body"], message["content-type"], message["content-encoding"], headers]
    return salted_hmac(_SALT, dumps(signed, sort_keys=True), algorithm="sha256").hexdigest()


class Channel(redis.Channel):
    """A channel that signs what it sends, and outlives what is no message."""

    def _put(self, queue: str, message: dict[str, Any], **options: Any) -> None:
        super()._put(queue, message | {_SIGNATURE: signature_of(message)}, **options)

    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)  # type: ignore[misc]  # kombu's types lack it
        except (ValueError, RecursionError) as fault:
            # It is not JSON, and has been taken from the queue.
            _log_refusal(type(fault).__name__)
            raise Empty from None


class Transport(redis.Transport):
    """Kombu's transport with this channel. It delivers signed messages only."""

    Channel = Channel

    def _deliver(self, message: Any, queue: str | None) -> None:
        try:
            is_ours = constant_time_compare(message[_SIGNATURE], signature_of(message))
        except (AttributeError, KeyError, TypeError, ValueError):
            is_ours = False
        if is_ours:
            super()._deliver(message, queue)
        else:
            _log_refusal("not signed")


def _log_refusal(reason: str) -> None:
    log.error("a message on Celery's queue was thrown away", reason=reason)
