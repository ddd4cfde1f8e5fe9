"""Holds: data_plane.state.reporting, data_plane.state.store

A worker says of a publication that it is applied only where it is in force.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from gateway_core import envelopes, snapshot
from gateway_core.envelopes import DocumentKeys, Purpose
from gateway_core.snapshot import EpochInRedis, Rule, Step
from tests.patience import eventually
from tests.workers import Running, SnapshotWriter, Tenant, name_of

GOOD = "sk-good-0123456789abcdefghij"

MakeWorker = Callable[..., Awaitable[Running]]


def applied(worker: Running, tenant: Tenant, number: int) -> bool:
    """What its next report says of a publication."""
    return worker.worker.follower.report(time.time_ns() // 1000).has_applied(tenant.id, number)


async def holding(worker: Running, *tenants: Tenant) -> str:
    """Let a worker hold accounts; a token of the first."""
    shown = []
    for tenant in tenants:
        tenant.keys(GOOD)
        shown.append(tenant.token())
        assert await worker.client.status(shown[-1]) == 200
    return shown[0]


@pytest.fixture
def hold_up(worker: Running, monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Loads of the worker wait until this is set. Set it first for what has to be loaded before."""
    may_read = asyncio.Event()
    may_read.set()
    reader = worker.worker.follower.reader
    original = reader.read_together

    async def read_later(*args: Any) -> Any:
        await may_read.wait()
        return await original(*args)

    monkeypatch.setattr(reader, "read_together", read_later)
    return may_read


async def test_a_publication_is_applied_when_it_is_passed_and_not_before(worker: Running, alice: Tenant):
    await holding(worker, alice)

    number = alice.settings(total_timeout="9s")
    assert not applied(worker, alice, number + 1)
    await worker.reaches(number)

    assert applied(worker, alice, number)
    assert not applied(worker, alice, number + 1)


async def test_a_change_that_makes_its_holder_read_anew_is_applied_when_that_has_been_done(
    worker: Running, alice: Tenant, charlie: Tenant, hold_up: asyncio.Event
):
    await holding(worker, alice, charlie)
    before = worker.store.position
    hold_up.clear()

    partial = alice.publish({snapshot.SETTINGS_DOCUMENT: snapshot.SettingsDocument()}, is_partial=True)
    after = alice.settings(total_timeout="9s")
    others = charlie.settings(total_timeout="9s")
    await worker.reaches(others)

    assert [applied(worker, alice, number) for number in (before, partial, after)] == [True, False, False]
    assert applied(worker, charlie, others)
    hold_up.set()
    await eventually(lambda: applied(worker, alice, after))
    assert applied(worker, alice, partial)


async def test_nothing_is_applied_in_another_epoch_before_it_was_read_anew(
    worker: Running, writer: SnapshotWriter, alice: Tenant, hold_up: asyncio.Event
):
    await holding(worker, alice)
    number = alice.settings(total_timeout="9s")
    await worker.reaches(number)
    hold_up.clear()

    writer.begin_epoch()
    await eventually(lambda: worker.store.epoch == writer.epoch)

    assert not applied(worker, alice, number)
    hold_up.set()
    await eventually(lambda: applied(worker, alice, number))


async def test_a_document_that_is_not_understood_is_not_applied_and_what_else_is_published_is(
    worker: Running, alice: Tenant
):
    await holding(worker, alice)
    key = alice.keys(GOOD)[0]
    rule = Rule(provider="openai", steps=(Step(type="user", keys=(key,)),))
    name = snapshot.configuration_document("aigac_01h455vb4pex5vsknk084sn02q")

    strange = alice.publish({name: snapshot.ConfigurationDocument(rules=(rule,), must_understand=("newField",))})
    later = alice.settings(total_timeout="9s")
    await worker.reaches(later)
    assert [applied(worker, alice, number) for number in (strange, later)] == [False, True]

    await worker.reaches(alice.publish({name: snapshot.ConfigurationDocument(rules=(rule,))}))
    assert applied(worker, alice, strange)


async def test_a_token_that_is_not_understood_is_not_applied_until_it_is_replaced(worker: Running, alice: Tenant):
    token = await holding(worker, alice)
    document = alice.token_document()

    strange = alice.publish({name_of(token): alice.token_document(must_understand=("onlyAtNight",))})
    await worker.reaches(strange)
    assert not applied(worker, alice, strange)

    await worker.reaches(alice.publish({name_of(token): document}))
    assert applied(worker, alice, strange)


@pytest.mark.parametrize("what", ["document", "token"])
async def test_what_is_refused_while_the_last_good_one_serves_is_not_applied(
    worker: Running, writer: SnapshotWriter, alice: Tenant, what: str
):
    """The entry is refused, and so is what lies in Redis: nothing of the publication is in force."""
    token = await holding(worker, alice)
    forger = DocumentKeys.parse(envelopes.generate_document_key())
    name = name_of(token) if what == "token" else snapshot.SETTINGS_DOCUMENT
    version = writer.next_version()
    body = snapshot.encode(alice.token_document() if what == "token" else snapshot.SettingsDocument())
    forged = forger.sign(Purpose.DOCUMENT, writer.names.location(alice.id, name), version, body)

    number = writer.publish(alice.id, {name: forged})
    await worker.reaches(number)
    await eventually(lambda: not worker.store.accounts[alice.id].is_stale)
    await asyncio.sleep(0.1)

    assert not applied(worker, alice, number)
    assert await worker.client.status(token) == 200
    # The next good one of that name sets it right.
    good = alice.token_document() if what == "token" else snapshot.SettingsDocument()
    await worker.reaches(alice.publish({name: good}))
    assert applied(worker, alice, number)


async def test_a_read_that_a_gap_overtook_counts_for_nothing(
    worker: Running, writer: SnapshotWriter, alice: Tenant, monkeypatch: pytest.MonkeyPatch
):
    """It was read before the entries that the gap swallowed: installed, it would pass for the newest state."""
    await holding(worker, alice)
    follower = worker.worker.follower
    reader = follower.reader
    original, has_read, may_go_on = reader.read_together, asyncio.Event(), asyncio.Event()

    async def go_on_later(*args: Any) -> Any:
        found = await original(*args)
        has_read.set()
        await may_go_on.wait()
        return found

    monkeypatch.setattr(reader, "read_together", go_on_later)
    alice.publish({snapshot.SETTINGS_DOCUMENT: snapshot.SettingsDocument(total_timeout="3s")}, is_partial=True)
    await has_read.wait()
    # The entry of this one is lost before anybody reads it.
    lost = alice.settings(total_timeout="4s")
    writer.redis.xdel(writer.names.changes, f"{lost}-0")
    other = writer.tenant().settings()
    await eventually(lambda: worker.store.position >= other)
    loads = dict(follower.loader.account_loads)
    assert not applied(worker, alice, lost)
    monkeypatch.setattr(reader, "read_together", original)
    may_go_on.set()

    await asyncio.wait(loads.values())
    await eventually(lambda: applied(worker, alice, lost))
    assert worker.store.accounts[alice.id].snapshot.settings.total_timeout == 4


async def test_a_worker_is_in_the_count_before_it_judges_anything(
    make_worker: MakeWorker, writer: SnapshotWriter, monkeypatch: pytest.MonkeyPatch
):
    from data_plane.state.following import Following

    counted: list[bool] = []
    original = Following._synchronise

    def look_first(self: Following, epoch: EpochInRedis) -> None:
        counted.append(bool(writer.redis.hexists(writer.names.workers, self._reporter.worker)))
        original(self, epoch)

    monkeypatch.setattr(Following, "_synchronise", look_first)
    await make_worker()

    assert counted[0]
