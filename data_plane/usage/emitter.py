"""Sends an event for each attempt to the control plane, through a stream in Redis. Requests never wait for it.

`record` puts an event into a bounded queue, and into a file if there is a spool; a task sends what is there in signed
batches, at most 200 events or 200 ms late. While Redis is away, or its stream is full because nobody reads it, events
wait; when the queue is full, new ones are dropped and counted.

Call `record` before the last piece of an answer is sent. Then a caller that has the answer also finds the event, even
if this process is killed in the next moment.

Source: docs/decisions/0061-ingest.md.
"""

import asyncio
import time
from collections import deque
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from data_plane.tasks import end
from data_plane.usage.event_check import valid_events
from data_plane.usage.spool import Spool
from gateway_core.envelopes import DocumentKeys
from gateway_core.snapshot import Keys
from gateway_core.usage_events import BATCH_FIELD, MAX_EVENTS, UsageEvent, seal_events

log = structlog.get_logger("data_plane.usage.emitter")

LINGER_SECONDS: Final = 0.2
# Where the stream is long already, waiting a little makes its entries fewer and fuller.
_LONG_LINGER_SECONDS: Final = 2.0
_LONG_STREAM: Final = 1_000
_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 2.0


class Counts(NamedTuple):
    """What became of the events until now."""

    sent: int
    waiting: int
    # Refused because the queue was full.
    dropped: int
    # Malformed because of an error in this worker, and logged.
    invalid: int


class UsageEmitter:
    """Queues and sends the usage events of one worker, on one event loop."""

    def __init__(
        self,
        redis: "Redis",
        keys: Keys,
        document_keys: DocumentKeys,
        *,
        worker: str,
        spool: Path | None = None,
        queue_limit: int = 20_000,
        stream_limit: int = 20_000,
    ) -> None:
        """
        Args:
            redis: a client of the emitter's own, with a time-out on its socket and no retries; closed with it.
            keys: of the deployment.
            document_keys: the first one signs.
            worker: its ID, as the control plane knows it.
            spool: a directory for what is not sent yet; None keeps it in memory alone.
            queue_limit: events that may wait.
            stream_limit: entries of the stream beyond which nothing is added.
        """
        self._redis = redis
        self._keys = keys
        self._document_keys = document_keys
        self._worker = worker
        self._queue_limit = queue_limit
        self._stream_limit = stream_limit
        # Encoded events. What is being sent stays at the left until Redis has it.
        self._queue: deque[bytes] = deque()
        self._spool = _opened(spool)
        self._news = asyncio.Event()
        self._full_batch = asyncio.Event()
        self._is_closing = False
        self._task: asyncio.Task[None] | None = None
        self._stream_length = 0
        self._sent = self._dropped = self._invalid = 0

    def start(self) -> None:
        """Begin to send: first what a worker that was killed has left in the spool. Before any `record`."""
        if self._spool is not None:
            left = self._spool.recover(self._queue_limit)
            # All of them, the torn too: the spool counts what is confirmed.
            self._queue.extendleft(reversed(left))
            if left:
                log.info("usage of a worker that is gone is sent", events=len(left))
                self._news.set()
        self._task = asyncio.create_task(self._send_all())

    def record(self, event: UsageEvent) -> None:
        """Queue an event. Never waits, never raises."""
        if len(self._queue) >= self._queue_limit:
            if not self._dropped:
                log.warning("usage is dropped: nobody has taken it for too long", waiting=len(self._queue))
            self._dropped += 1
            return
        encoded = _encode(event)
        if self._spool is not None:
            self._spool.append(encoded)
        self._queue.append(encoded)
        self._news.set()
        if len(self._queue) >= MAX_EVENTS:
            self._full_batch.set()

    @property
    def counts(self) -> Counts:
        """For metrics and the worker's report."""
        return Counts(self._sent, len(self._queue), self._dropped, self._invalid)

    async def close(self, within: float = 2.0) -> None:
        """Send what is left, for so many seconds; with a spool the next worker sends the rest."""
        if self._is_closing:
            return
        self._is_closing = True
        self._news.set()
        self._full_batch.set()
        if self._task is not None:
            await asyncio.wait([self._task], timeout=within)
            await end([self._task])
        if self._queue and self._spool is None:
            self._dropped += len(self._queue)
            log.warning("usage is lost with the worker", events=len(self._queue))
        if self._spool is not None:
            self._spool.close()
        await self._redis.aclose()

    async def _send_all(self) -> None:
        pause = _FIRST_PAUSE
        while not (self._is_closing and not self._queue):
            await self._next_batch()
            batch = list(islice(self._queue, MAX_EVENTS))
            if not batch:
                continue
            try:
                sent = await self._send(batch)
            except (RedisError, OSError, TimeoutError) as fault:
                log.info("Redis does not take usage; it waits", fault=type(fault).__name__, waiting=len(self._queue))
                sent = None
            if sent is None:
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
                continue
            pause = _FIRST_PAUSE
            for _ in batch:
                self._queue.popleft()
            if self._spool is not None:
                self._spool.confirm(len(batch))
            self._sent += sent
            if sent < len(batch):
                self._invalid += len(batch) - sent
                log.error("usage events are not valid and are dropped", events=len(batch) - sent)

    async def _next_batch(self) -> None:
        """Wait until there is an event, and then a little longer for more."""
        if not self._queue:
            self._news.clear()
            await self._news.wait()
        if len(self._queue) < MAX_EVENTS and not self._is_closing:
            self._full_batch.clear()
            linger = _LONG_LINGER_SECONDS if self._stream_length > _LONG_STREAM else LINGER_SECONDS
            with suppress(TimeoutError):
                async with asyncio.timeout(linger):
                    await self._full_batch.wait()

    async def _send(self, batch: list[bytes]) -> int | None:
        """Send a batch. Return how many events Redis took; None if the stream had no room.

        A stream that nobody reads must not fill Redis, which holds the snapshots too.
        """
        self._stream_length = await self._redis.xlen(self._keys.usage)
        if self._stream_length >= self._stream_limit:
            return None
        events = valid_events(batch)
        if not events:
            return 0
        version = time.time_ns() // 1000
        envelope = seal_events(self._keys, self._document_keys, self._worker, events, version=version)
        fields: Any = {BATCH_FIELD: envelope}
        await self._redis.xadd(self._keys.usage, fields)
        return len(events)


def _opened(directory: Path | None) -> Spool | None:
    if directory is None:
        return None
    try:
        return Spool(directory)
    except OSError as fault:
        log.warning("usage is kept in memory alone: there is no spool", fault=type(fault).__name__)
        return None


_encode: Final = msgspec.json.Encoder().encode
