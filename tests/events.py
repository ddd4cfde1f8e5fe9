"""Usage events as workers make and send them."""

import time
from collections.abc import Iterable
from datetime import datetime
from typing import Any

import msgspec
from redis import Redis

from accounts.models import Account
from gateway_core import ids
from gateway_core.envelopes import DocumentKeys
from gateway_core.snapshot import Keys
from gateway_core.usage_events import BATCH_FIELD, UsageBatch, UsageEvent, event_id, seal_events
from snapshots.redis_client import document_keys, keys


def text_id(prefix: ids.Prefix) -> str:
    """A new ID."""
    return ids.to_text(prefix, ids.new_id())


def an_event(account: Account | str, *, at: datetime | int | None = None, **given: Any) -> UsageEvent:
    """A final attempt of gpt-4o on managed inference that went well, a second ago: 0.0035 dollars."""
    moment = round(at.timestamp() * 1_000_000) if isinstance(at, datetime) else at
    moment = moment if moment is not None else time.time_ns() // 1000 - 1_000_000
    values: dict[str, Any] = {
        "id": event_id(moment),
        "time": moment,
        "request_id": "req-1",
        "account": account if isinstance(account, str) else account.text_id,
        "access_key": text_id(ids.Prefix.ACCESS_KEY),
        "provider": "openai",
        "model": "gpt-4o",
        "requested_model": "gpt-4o",
        "attempt": 1,
        "is_final": True,
        "key_source": "ngrok",
        "status": 200,
        "input_tokens": 1000,
        "output_tokens": 100,
    }
    return UsageEvent(**(values | given))


def seal_batch(keys: Keys, document_keys: DocumentKeys, batch: UsageBatch, *, version: int) -> bytes:
    """The envelope of a batch, as `seal_events` makes it."""
    encoded = [msgspec.json.encode(event) for event in batch.events]
    return seal_events(keys, document_keys, batch.worker, encoded, version=version)


def sealed(events: Iterable[UsageEvent], *, worker: str = "w1") -> bytes:
    """The envelope of one batch, as a worker makes it."""
    batch = UsageBatch(worker, tuple(events))
    return seal_batch(keys(), document_keys(), batch, version=time.time_ns() // 1000)


def send(redis: "Redis", events: Iterable[UsageEvent]) -> None:
    """One batch into the stream."""
    redis.xadd(keys().usage, {BATCH_FIELD: sealed(events)})
