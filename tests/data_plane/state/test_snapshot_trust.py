"""Holds: data_plane.state.store, data_plane.state.follower

Redis is not trusted: what it holds counts only where a holder of a document key put it, and never an older state.

In each test somebody who can write Redis does his worst; it is refused and reported, and the last good one serves on.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest

from gateway_core import envelopes, snapshot, tokens
from gateway_core.envelopes import DocumentKeys, Purpose
from gateway_core.snapshot import ChangeDocument, Rule, Step, TokenDocument
from gateway_core.worker_reports import WorkerReport, open_report
from local.stand_in import StandIn
from tests.patience import PATIENCE, eventually, stretched
from tests.workers import Running, SnapshotWriter, Tenant, name_of

GOOD = "sk-good-0123456789abcdefghij"
OTHER = "sk-other-0123456789abcdefghij"

MakeWorker = Callable[..., Awaitable[Running]]


def rule(*keys: str) -> Rule:
    """Send everything of OpenAI with these keys."""
    return Rule(provider="openai", steps=(Step(type="user", keys=keys),))


async def refused(worker: Running, *, reason: str, location: str = "") -> None:
    """Wait until the worker has reported such a refusal."""
    await eventually(
        lambda: any(reason in one.reason and location in one.location for one in worker.store.last_refusals)
    )


async def test_a_forged_token_document_is_503_and_mints_nothing(
    worker: Running, writer: SnapshotWriter, alice: Tenant, upstream: StandIn
):
    alice.keys(GOOD)
    forger = DocumentKeys.parse(envelopes.generate_document_key())
    token = tokens.generate(tokens.ACCESS_KEY_PREFIX)
    location = writer.names.location(alice.id, name_of(token))
    body = snapshot.encode(alice.token_document())
    writer.redis.set(
        writer.names.token(tokens.digest(token)), forger.sign(Purpose.DOCUMENT, location, writer.next_version(), body)
    )

    answer = await worker.client.chat(token)

    assert (answer.status, answer.code) == (503, "snapshot_unfit")
    assert not upstream.calls
    await refused(worker, reason="No document key", location=tokens.digest(token))


@pytest.mark.parametrize(
    "garbage",
    [b"", b"x", b"1 00000000 0000000000000001 " + b"A" * 43 + b" {}", b"\xff" * 200, b"{}" * 1000],
    ids=lambda raw: repr(raw[:12]),
)
async def test_garbage_in_a_tokens_place_is_503(worker: Running, writer: SnapshotWriter, alice: Tenant, garbage: bytes):
    token = alice.token()
    writer.redis.set(writer.names.token(tokens.digest(token)), garbage)

    assert (await worker.client.chat(token)).code == "snapshot_unfit"


async def test_a_token_document_moved_to_another_token_is_refused(
    worker: Running, writer: SnapshotWriter, alice: Tenant
):
    alice.keys(GOOD)
    real, made_up = alice.token(), tokens.generate(tokens.ACCESS_KEY_PREFIX)
    found = writer.redis.get(writer.names.token(tokens.digest(real)))
    writer.redis.set(writer.names.token(tokens.digest(made_up)), found)

    assert (await worker.client.chat(made_up)).status == 503
    assert (await worker.client.chat(real)).status == 200


async def test_a_provider_key_moved_to_another_row_or_account_is_not_used(
    make_worker: MakeWorker, writer: SnapshotWriter, alice: Tenant, charlie: Tenant, upstream: StandIn
):
    mine, other = alice.keys(GOOD, OTHER)
    foreign = charlie.keys("sk-charlie-0123456789abcdef")[0]
    token = alice.token(configuration=alice.configuration(rule(mine)))
    holder = await make_worker()
    assert await holder.client.status(token) == 200
    fields = writer.names.account(alice.id)

    for found in (
        writer.redis.hget(fields, snapshot.provider_key_document(other)),
        writer.redis.hget(writer.names.account(charlie.id), snapshot.provider_key_document(foreign)),
    ):
        writer.redis.hset(fields, snapshot.provider_key_document(mine), found)
        writer.begin_epoch()
        await eventually(lambda: holder.store.epoch == writer.epoch)
        await refused(holder, reason="MAC does not fit", location=mine)
        fresh = await make_worker()

        assert await holder.client.status(token) == 200
        assert await fresh.client.status(token) == 503

    assert set(upstream.keys) == {GOOD}


async def test_a_sealed_value_in_an_authentic_document_of_another_row_does_not_open(
    worker: Running, alice: Tenant, upstream: StandIn
):
    """Somebody with the document keys (a captured control plane) still cannot lend one row's value to another."""
    mine, other = alice.keys(GOOD, OTHER)
    stolen = alice.key_document(other, OTHER)
    alice.publish({snapshot.provider_key_document(mine): stolen})
    token = alice.token(configuration=alice.configuration(rule(mine)))

    assert (await worker.client.chat(token)).code == "keys_unusable"
    assert not upstream.calls


async def test_a_changed_base_url_is_refused_and_the_last_good_one_serves(
    make_worker: MakeWorker, writer: SnapshotWriter, alice: Tenant, upstream: StandIn
):
    alice.provider("lab", upstream.url)
    token = alice.token()
    worker = await make_worker()
    assert await worker.client.status(token, model="lab:m") == 200
    field = snapshot.provider_document("lab")
    found = writer.redis.hget(writer.names.account(alice.id), field)
    writer.redis.hset(writer.names.account(alice.id), field, found.replace(b"127.0.0.1", b"127.0.0.2"))

    writer.begin_epoch()
    await refused(worker, reason="MAC does not fit", location="provider:lab")

    assert await worker.client.status(token, model="lab:m") == 200
    assert await (await make_worker()).client.status(token, model="lab:m") == 503


async def test_an_old_document_put_back_is_refused(
    make_worker: MakeWorker, writer: SnapshotWriter, alice: Tenant, upstream: StandIn
):
    key = alice.keys("sk-leaked-0123456789abcdefgh")[0]
    token = alice.token(configuration=alice.configuration(rule(key)))
    field, place = snapshot.provider_key_document(key), writer.names.account(alice.id)
    old = writer.redis.hget(place, field)
    alice.rotate(key, GOOD)
    worker = await make_worker()
    assert await worker.client.status(token) == 200

    writer.redis.hset(place, field, old)
    writer.begin_epoch()
    await refused(worker, reason="older than what is held", location=key)

    assert await worker.client.status(token) == 200
    assert set(upstream.keys) == {GOOD}


async def test_a_whole_older_account_put_back_is_refused(
    worker: Running, writer: SnapshotWriter, alice: Tenant, upstream: StandIn
):
    key = alice.keys("sk-leaked-0123456789abcdefgh")[0]
    token = alice.token(configuration=alice.configuration(rule(key)))
    place = writer.names.account(alice.id)
    old = writer.redis.hgetall(place)
    await worker.client.status(token)
    await worker.reaches(alice.rotate(key, GOOD))

    writer.redis.delete(place)
    writer.redis.hset(place, mapping=old)
    writer.begin_epoch()
    await refused(worker, reason="older than what is held", location="version")
    await worker.client.status(token)

    assert upstream.keys[-1] == GOOD


async def test_a_deleted_tokens_document_put_back_stays_deleted(worker: Running, writer: SnapshotWriter, alice: Tenant):
    alice.keys(GOOD)
    token = alice.token()
    place = writer.names.token(tokens.digest(token))
    old = writer.redis.get(place)
    assert await worker.client.status(token) == 200
    await worker.reaches(alice.delete_token(token))

    writer.redis.set(place, old)
    assert await worker.client.status(token) == 401
    writer.begin_epoch()
    await eventually(lambda: worker.store.epoch == writer.epoch and not worker.store.accounts[alice.id].is_stale)

    assert await worker.client.status(token) == 401
    await refused(worker, reason="older than what is held", location=tokens.digest(token))


async def test_an_old_change_put_into_the_stream_again_is_refused(
    worker: Running, writer: SnapshotWriter, alice: Tenant, upstream: StandIn
):
    key = alice.keys("sk-leaked-0123456789abcdefgh")[0]
    token = alice.token(configuration=alice.configuration(rule(key)))
    old = writer.redis.xrange(writer.names.changes)[-3][1][b"change"]
    await worker.client.status(token)
    await worker.reaches(alice.rotate(key, GOOD))

    await worker.reaches(writer.add_entry(alice.id, old))
    await worker.client.status(token)

    await refused(worker, reason="an older change put back")
    assert upstream.keys[-1] == GOOD


@pytest.mark.parametrize(
    "change",
    [b"", b"garbage", b"1 00000000 0000000000000001 " + b"A" * 43 + b" {}"],
    ids=["empty", "garbage", "unsigned"],
)
async def test_a_forged_entry_of_the_stream_is_refused_and_the_next_true_one_applied(
    worker: Running, writer: SnapshotWriter, alice: Tenant, upstream: StandIn, change: bytes
):
    key = alice.keys(GOOD)[0]
    token = alice.token(configuration=alice.configuration(rule(key)))
    assert await worker.client.status(token) == 200

    await worker.reaches(writer.add_entry(alice.id, change))
    assert await worker.client.status(token) == 200
    assert worker.store.refusals == 1

    await worker.reaches(alice.rotate(key, OTHER))
    await eventually(lambda: not worker.store.accounts[alice.id].is_stale)
    assert await worker.client.status(token) == 200
    assert upstream.keys[-1] == OTHER


async def test_an_entry_with_one_forged_document_is_applied_not_at_all_and_read_from_the_hash_instead(
    worker: Running, writer: SnapshotWriter, alice: Tenant, upstream: StandIn
):
    key = alice.keys(GOOD)[0]
    token = alice.token(configuration=alice.configuration(rule(key)))
    await worker.client.status(token)
    version = writer.next_version()
    documents = {snapshot.provider_key_document(key): b"forged", snapshot.SETTINGS_DOCUMENT: None}
    body = snapshot.encode(ChangeDocument(documents=documents))
    envelope = writer.document_keys.sign(Purpose.CHANGE, writer.names.change(alice.id), version, body)

    await worker.reaches(writer.add_entry(alice.id, envelope))

    assert await worker.client.status(token) == 200
    assert worker.store.refusals == 1
    await eventually(lambda: not worker.store.accounts[alice.id].is_stale)


async def test_a_change_of_another_account_is_none_of_this_one(worker: Running, writer: SnapshotWriter, alice: Tenant):
    token = alice.token()
    alice.keys(GOOD)
    await worker.client.status(token)
    change = writer.redis.xrange(writer.names.changes)[-1][1][b"change"]

    await worker.reaches(writer.add_entry(alice.id[:-1] + "0", change))

    assert await worker.client.status(token) == 200


async def test_a_token_of_another_account_in_a_change_is_refused(
    worker: Running, writer: SnapshotWriter, alice: Tenant, charlie: Tenant
):
    alice.keys(GOOD)
    mine = alice.token()
    await worker.client.status(mine)
    stolen = charlie.token(publish=False)

    await worker.reaches(alice.publish({name_of(stolen): charlie.token_document()}))

    await refused(worker, reason="a token of another account")
    assert await worker.client.status(stolen) != 200


async def test_a_document_newer_than_its_accounts_version_is_refused(
    make_worker: MakeWorker, writer: SnapshotWriter, alice: Tenant
):
    """An old version put back in front of newer documents."""
    key = alice.keys(GOOD)[0]
    token = alice.token(configuration=alice.configuration(rule(key)))
    place = writer.names.account(alice.id)
    old = writer.redis.hget(place, "version")
    alice.rotate(key, OTHER)
    writer.redis.hset(place, "version", old)

    worker = await make_worker()

    assert await worker.client.status(token) == 503
    await refused(worker, reason="newer than the version", location=key)


class Marked(msgspec.Struct, rename="camel"):
    """A token's document of a later release."""

    account: str
    access_key: str
    only_at_night: bool
    must_understand: tuple[str, ...] = ()


@pytest.mark.parametrize(("must_understand", "status"), [((), 200), (("onlyAtNight",), 503)])
async def test_fields_of_a_later_release_are_ignored_unless_they_must_be_understood(
    worker: Running, alice: Tenant, must_understand: tuple[str, ...], status: int
):
    alice.keys(GOOD)
    token = alice.token()
    assert await worker.client.status(token) == 200
    later = Marked(alice.id, "aigk_01h455vb4pex5vsknk084sn02q", only_at_night=True, must_understand=must_understand)

    await worker.reaches(alice.publish({name_of(token): later}))

    assert await worker.client.status(token) == status


async def test_a_malformed_document_is_refused_and_the_last_good_one_serves(
    worker: Running, alice: Tenant, upstream: StandIn
):
    class Broken(msgspec.Struct):
        provider: int = 7

    key = alice.keys(GOOD)[0]
    token = alice.token(configuration=alice.configuration(rule(key)))
    assert await worker.client.status(token) == 200

    await worker.reaches(alice.publish({snapshot.provider_key_document(key): Broken()}))
    await eventually(lambda: not worker.store.accounts[alice.id].is_stale)

    assert await worker.client.status(token) == 200
    await refused(worker, reason="not a ProviderKeyDocument")


async def test_refusals_are_told_in_the_report_without_content(worker: Running, writer: SnapshotWriter, alice: Tenant):
    token = alice.token()
    writer.redis.set(writer.names.token(tokens.digest(token)), b"secret-content")
    await worker.client.status(token)

    report = await report_of(worker, writer, lambda report: report.refusals == 1)

    assert report.last_refusals[0].location == writer.names.token(tokens.digest(token))
    assert "secret-content" not in str(report)
    assert report.last_refusals[0].refused_at > 0


async def report_of(worker: Running, writer: SnapshotWriter, holds: Callable[[Any], bool]) -> WorkerReport:
    """The worker's report, as the control plane verifies it, once something holds of it."""
    name = worker.worker.follower.id
    began = time.monotonic()
    while True:
        found = writer.redis.hget(writer.names.workers, name)
        if found is not None:
            report = open_report(writer.names, writer.document_keys, name, found)
            if holds(report):
                return report
        assert time.monotonic() - began < stretched(PATIENCE)
        await asyncio.sleep(0.02)


async def test_the_report_follows_the_position_at_once_and_leaves_with_the_worker(
    make_worker: MakeWorker, writer: SnapshotWriter, alice: Tenant
):
    worker = await make_worker()
    number = alice.settings(total_timeout="5s")

    report = await report_of(worker, writer, lambda report: report.position >= number)

    assert report.is_in_sync
    assert report.epoch == writer.epoch
    assert writer.redis.ttl(writer.names.workers) == -1
    await worker.worker.follower.close()
    assert writer.redis.hexists(writer.names.workers, worker.worker.follower.id) == 0


def test_the_documents_of_the_tests_are_those_of_the_release():
    assert "only_at_night" not in TokenDocument.__struct_fields__
