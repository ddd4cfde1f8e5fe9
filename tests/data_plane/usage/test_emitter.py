"""Holds: data_plane.usage.emitter, data_plane.usage.spool

The emitter: what was recorded arrives once, and costs no request anything, whatever Redis does.
"""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from redis import Redis
from redis.asyncio import Redis as AsyncRedis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from data_plane.usage.emitter import UsageEmitter
from gateway_core import ids
from gateway_core.envelopes import DocumentKeys, generate_document_key
from gateway_core.snapshot import Keys
from gateway_core.usage_events import BATCH_FIELD, UsageEvent, open_batch
from tests.events import an_event, text_id
from tests.patience import eventually, stretched
from tests.servers import FaultyRedis

KEYS = Keys("gw")
DOCUMENT_KEY = generate_document_key()
DOCUMENT_KEYS = DocumentKeys.parse(DOCUMENT_KEY)
ACCOUNT = text_id(ids.Prefix.ACCOUNT)

Make = Callable[..., UsageEmitter]


@pytest.fixture
async def make_emitter(redis_url: str) -> AsyncIterator[Make]:
    made: list[UsageEmitter] = []

    def make(url: str = redis_url, **options: Any) -> UsageEmitter:
        client = AsyncRedis.from_url(url, socket_timeout=0.5, retry=Retry(NoBackoff(), 0))
        emitter = UsageEmitter(client, KEYS, DOCUMENT_KEYS, worker="w_1", **options)
        made.append(emitter)
        return emitter

    yield make
    for emitter in made:
        await emitter.close(within=0.1)


def arrived(redis: "Redis") -> list[UsageEvent]:
    entries: Any = redis.xrange(KEYS.usage)
    return [
        event for _, fields in entries for event in open_batch(KEYS, DOCUMENT_KEYS, fields[BATCH_FIELD.encode()]).events
    ]


def files(directory: Path) -> list[Path]:
    return list(directory.iterdir())


def tear(directory: Path) -> None:
    for path in files(directory):
        path.write_bytes(b'\n{"id": "aigue_' + path.read_bytes() + b"\n\x00\xff")


def record_and_die(arguments: list[str]) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", RECORDS_AND_WAITS, *arguments],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
    ) as worker:
        assert worker.stdout is not None
        assert worker.stdout.readline() == b"recorded\n"
        worker.send_signal(signal.SIGKILL)


async def test_what_is_recorded_arrives_in_order_and_within_the_second(redis: "Redis", make_emitter: Make) -> None:
    emitter = make_emitter()
    emitter.start()
    events = [an_event(ACCOUNT, attempt=1 + index % 3) for index in range(450)]

    for event in events:
        emitter.record(event)

    await eventually(lambda: len(arrived(redis)) == 450)
    assert arrived(redis) == events
    assert redis.xlen(KEYS.usage) == 3
    # An event has arrived before its sender reads that it has.
    await eventually(lambda: emitter.counts == (450, 0, 0, 0))


async def test_a_redis_that_is_away_costs_nothing_and_gets_everything_later(
    redis_server: Callable[..., FaultyRedis], make_emitter: Make
) -> None:
    server = redis_server()
    emitter = make_emitter(server.url)
    emitter.start()
    server.pause()
    began = time.perf_counter()
    for _ in range(1000):
        emitter.record(an_event(ACCOUNT))
    assert time.perf_counter() - began < stretched(0.5)

    await asyncio.sleep(1.2)
    server.resume()

    with Redis.from_url(server.url) as client:
        await eventually(lambda: len({event.id for event in arrived(client)}) == 1000)
    await eventually(lambda: emitter.counts == (1000, 0, 0, 0))


async def test_a_full_queue_drops_the_new_and_counts_them(make_emitter: Make) -> None:
    emitter = make_emitter("redis://127.0.0.1:1", queue_limit=10)
    emitter.start()

    for _ in range(15):
        emitter.record(an_event(ACCOUNT))

    assert emitter.counts == (0, 10, 5, 0)


async def test_a_stream_that_nobody_reads_is_not_filled_further(redis: "Redis", make_emitter: Make) -> None:
    emitter = make_emitter(stream_limit=2)
    emitter.start()
    for size in (1, 2, 3):
        emitter.record(an_event(ACCOUNT))
        await eventually(lambda size=size: emitter.counts == (min(size, 2), max(size - 2, 0), 0, 0))  # type: ignore[misc]
    # Long enough for another try.
    await asyncio.sleep(0.3)

    assert redis.xlen(KEYS.usage) == 2
    assert emitter.counts == (2, 1, 0, 0)

    redis.delete(KEYS.usage)

    await eventually(lambda: emitter.counts == (3, 0, 0, 0))


async def test_an_event_that_breaks_a_bound_takes_no_other_with_it(redis: "Redis", make_emitter: Make) -> None:
    emitter = make_emitter()
    emitter.start()

    emitter.record(an_event(ACCOUNT, input_tokens=-1))
    emitter.record(an_event("ac_nobody"))
    emitter.record(an_event(ACCOUNT))

    await eventually(lambda: emitter.counts == (2, 0, 0, 1))
    assert [(one.input_tokens, one.usage_estimated) for one in arrived(redis)] == [(0, True), (1000, False)]


async def test_closing_sends_what_is_left(redis: "Redis", make_emitter: Make) -> None:
    emitter = make_emitter()
    emitter.start()
    for _ in range(250):
        emitter.record(an_event(ACCOUNT))

    await emitter.close()

    assert len(arrived(redis)) == 250


async def test_the_spool_holds_nothing_that_redis_has(redis: "Redis", make_emitter: Make, tmp_path: Path) -> None:
    emitter = make_emitter(spool=tmp_path / "spool")
    emitter.start()
    for _ in range(5000):
        emitter.record(an_event(ACCOUNT))
    await eventually(lambda: emitter.counts.sent == 5000)

    assert sum(path.stat().st_size for path in files(tmp_path / "spool")) == 0
    await emitter.close()
    assert files(tmp_path / "spool") == []


async def test_what_could_not_be_sent_is_sent_by_the_next_worker(
    redis: "Redis", make_emitter: Make, tmp_path: Path
) -> None:
    gone = make_emitter("redis://127.0.0.1:1", spool=tmp_path)
    gone.start()
    events = [an_event(ACCOUNT) for _ in range(2500)]
    for event in events:
        gone.record(event)
    await gone.close(within=0.1)

    successor = make_emitter(spool=tmp_path)
    successor.start()
    late = an_event(ACCOUNT)
    successor.record(late)

    await eventually(lambda: successor.counts.sent == 2501)
    assert sorted(event.id for event in arrived(redis)) == sorted(event.id for event in [*events, late])
    await successor.close()
    assert files(tmp_path) == []


async def test_a_torn_line_in_the_spool_spoils_only_itself(redis: "Redis", make_emitter: Make, tmp_path: Path) -> None:
    gone = make_emitter("redis://127.0.0.1:1", spool=tmp_path)
    gone.start()
    kept = an_event(ACCOUNT)
    gone.record(kept)
    await gone.close(within=0.1)
    tear(tmp_path)

    successor = make_emitter(spool=tmp_path)
    successor.start()

    await eventually(lambda: files(tmp_path) == [])
    assert arrived(redis) == [kept]


async def test_the_spool_of_a_living_worker_is_left_alone(make_emitter: Make, tmp_path: Path) -> None:
    living = make_emitter("redis://127.0.0.1:1", spool=tmp_path)
    living.start()
    living.record(an_event(ACCOUNT))

    other = make_emitter(spool=tmp_path)
    other.start()

    assert other.counts.waiting == 0
    assert len(files(tmp_path)) == 1


async def test_a_disk_that_takes_nothing_costs_no_event(redis: "Redis", make_emitter: Make, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    emitter = make_emitter(spool=tmp_path / "file" / "spool")
    emitter.start()

    emitter.record(an_event(ACCOUNT))

    await eventually(lambda: len(arrived(redis)) == 1)


RECORDS_AND_WAITS = """
import asyncio, sys
from pathlib import Path
from redis.asyncio import Redis
from data_plane.usage.emitter import UsageEmitter
from gateway_core.envelopes import DocumentKeys
from gateway_core.snapshot import Keys
import msgspec
from gateway_core.usage_events import UsageEvent

async def main(url, spool, key, events):
    emitter = UsageEmitter(Redis.from_url(url), Keys("gw"), DocumentKeys.parse(key), worker="w_gone", spool=Path(spool))
    emitter.start()
    for event in msgspec.json.decode(events, type=list[UsageEvent]):
        emitter.record(event)
    print("recorded", flush=True)
    await asyncio.sleep(60)

asyncio.run(main(*sys.argv[1:]))
"""


async def test_a_worker_killed_right_after_recording_loses_nothing(
    redis: "Redis", redis_url: str, make_emitter: Make, tmp_path: Path
) -> None:
    events = [an_event(ACCOUNT) for _ in range(50)]
    arguments = [redis_url, str(tmp_path), DOCUMENT_KEY, msgspec.json.encode(events).decode()]
    record_and_die(arguments)

    successor = make_emitter(spool=tmp_path)
    successor.start()

    await eventually(lambda: {event.id for event in arrived(redis)} == {event.id for event in events})
