"""Holds: data_plane.state.reading, data_plane.state.following, data_plane.state.bounded_replies

A key of another type, a huge value and an entry that no publication wrote: a worker refuses and reports them, and takes
none for an absence. What it holds serves on.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import psutil
import pytest
from redis import Redis

from data_plane.state.bounded_replies import TOO_LARGE
from data_plane.state.reading import redis_client
from gateway_core.snapshot import MAX_DOCUMENT_BYTES
from tests.patience import eventually
from tests.workers import Running, SnapshotWriter, Tenant, name_of

GOOD = "sk-good-0123456789abcdefghij"
HUGE = b"x" * (MAX_DOCUMENT_BYTES + 2048)


def digest_of(token: str) -> str:
    """A token's digest."""
    return name_of(token).removeprefix("token:")


def of_another_type(writer: SnapshotWriter, key: str) -> None:
    """Replace a key by a list."""
    writer.redis.delete(key)
    writer.redis.rpush(key, "x")


def commands(writer: SnapshotWriter) -> int:
    """How many commands this Redis has taken."""
    return int(writer.redis.info("stats")["total_commands_processed"])


async def test_a_held_token_whose_key_becomes_another_type_is_not_taken_for_deleted(
    worker: Running, writer: SnapshotWriter, alice: Tenant
):
    alice.keys(GOOD)
    token = alice.token()
    assert await worker.client.status(token) == 200

    of_another_type(writer, writer.names.token(digest_of(token)))
    # The account is read again, with its tokens.
    number = alice.publish({}, is_partial=True)
    await worker.reaches(number)
    await eventually(lambda: not worker.worker.follower.loader.account_loads)

    assert await worker.client.status(token) == 200
    assert any("another type" in refusal.reason for refusal in worker.store.last_refusals)


@pytest.mark.parametrize("content", ["another type", "empty", "huge"])
async def test_a_token_that_is_not_held_and_cannot_be_read_is_503_and_not_401(
    worker: Running, writer: SnapshotWriter, alice: Tenant, content: str
):
    alice.keys(GOOD)
    token = alice.token()
    key = writer.names.token(digest_of(token))
    if content == "another type":
        of_another_type(writer, key)
    else:
        writer.redis.set(key, b"" if content == "empty" else HUGE)

    assert await worker.client.status(token) == 503
    assert worker.store.refusals


@pytest.mark.parametrize("name", ["account", "catalog", "epoch", "changes", "workers", "acknowledged", "usage"])
async def test_a_key_of_another_type_costs_no_request_of_a_held_key_and_heals(
    worker: Running, writer: SnapshotWriter, alice: Tenant, name: str
):
    alice.keys(GOOD)
    token = alice.token()
    assert await worker.client.status(token) == 200
    key = writer.names.account(alice.id) if name == "account" else getattr(writer.names, name)
    held = writer.redis.dump(key)

    of_another_type(writer, key)
    for _ in range(20):
        assert await worker.client.status(token) == 200
        await asyncio.sleep(0)
    writer.redis.delete(key)
    if held is not None:
        writer.redis.restore(key, 0, held)

    number = alice.settings(total_timeout="9s")
    await worker.reaches(number)
    await eventually(lambda: worker.worker.follower.is_in_sync)
    assert await worker.client.status(token) == 200
    await eventually(lambda: worker.worker.follower.reporter.is_taken)


@pytest.mark.parametrize("identity", ["{now}-1", "{now}-9", "{next}-0", "{next}-3", "{far}-0"])
async def test_an_entry_that_no_publication_wrote_is_passed_over_without_beginning_again(
    worker: Running, writer: SnapshotWriter, alice: Tenant, identity: str
):
    alice.keys(GOOD)
    token = alice.token()
    assert await worker.client.status(token) == 200
    now = int(writer.redis.hget(writer.names.epoch, "number"))
    await worker.reaches(now)
    follower = worker.worker.follower
    began = follower.store._starts

    forged = {"account": alice.id, "change": b"x"}
    writer.redis.xadd(writer.names.changes, forged, id=identity.format(now=now, next=now + 1, far=now + 1000))
    before = commands(writer)
    for _ in range(20):
        await asyncio.sleep(0.02)
        assert await worker.client.status(token) == 200
    assert commands(writer) - before < 60
    assert (follower.store.position, follower.store._starts, follower.is_in_sync) == (now, began, True)

    # What the relay does.
    if not identity.startswith("{now}"):
        writer.redis.delete(writer.names.changes)
    await worker.reaches(alice.settings(total_timeout="9s"))
    assert follower.store._starts == began


async def test_entries_that_were_lost_with_the_stream_are_noticed(
    worker: Running, writer: SnapshotWriter, alice: Tenant
):
    alice.keys(GOOD)
    token = alice.token()
    assert await worker.client.status(token) == 200
    number = int(writer.redis.hget(writer.names.epoch, "number"))
    await worker.reaches(number)

    # As if a publication's entry was removed before the worker read it.
    writer.redis.pipeline().hset(writer.names.epoch, "number", number + 1).delete(writer.names.changes).execute()

    await worker.reaches(number + 1)
    assert await worker.client.status(token) == 200


async def test_huge_entries_and_documents_are_refused_in_bounded_memory(
    worker: Running, writer: SnapshotWriter, alice: Tenant
):
    alice.keys(GOOD)
    token = alice.token()
    assert await worker.client.status(token) == 200
    size = 40 * 1024 * 1024
    before = psutil.Process().memory_info().rss

    for _ in range(3):
        writer.add_entry(alice.id, bytes(size))
    writer.redis.hset(writer.names.account(alice.id), "settings", bytes(size))
    number = alice.publish({}, is_partial=True)
    await worker.reaches(number)
    await eventually(lambda: not worker.worker.follower.loader.account_loads)

    # This process also made what it sends.
    assert psutil.Process().memory_info().rss - before < 3 * size
    assert await worker.client.status(token) == 200
    assert any("larger than a worker reads" in refusal.reason for refusal in worker.store.last_refusals)


@pytest.mark.parametrize("pieces", [1, 20])
async def test_a_reply_is_read_to_its_end_whatever_is_left_out(redis: Redis, redis_url: str, pieces: int):
    fields: Any = {f"field-{piece:02}": bytes(MAX_DOCUMENT_BYTES) for piece in range(pieces)}
    redis.hset("h", mapping=fields | {"huge": HUGE, "small": b"1"})
    client = redis_client(redis_url)
    try:
        found = await client.hgetall("h")
        assert found[b"huge"] is TOO_LARGE
        assert len(found) == pieces + 2
        # 64 MiB are the bound of a reply.
        assert sum(value is not TOO_LARGE for value in found.values()) == (pieces + 1 if pieces == 1 else 16)
        assert await client.get("none") is None
        assert await client.ping()
    finally:
        await client.aclose()


async def test_a_worker_loads_from_a_redis_without_memory(
    make_worker: Callable[..., Any], writer: SnapshotWriter, alice: Tenant
):
    alice.keys(GOOD)
    token = alice.token()
    writer.redis.config_set("maxmemory", "1")
    try:
        worker: Running = await make_worker()
        assert await worker.client.status(token) == 200
        assert not worker.worker.follower.reporter.is_taken
    finally:
        writer.redis.config_set("maxmemory", "0")
    await eventually(lambda: worker.worker.follower.reporter.is_taken)
