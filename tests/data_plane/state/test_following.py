"""Holds: data_plane.state.following, data_plane.state.loading, data_plane.state.store

The change follower: what it holds is one state after the other, and nobody waits for Redis who need not.
"""

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_plane.state.documents import DocumentReader
from data_plane.state.store import WorkerState
from gateway_core import envelopes, snapshot
from gateway_core.envelopes import DocumentKeys, Purpose
from gateway_core.snapshot import (
    ChangeDocument,
    ConfigurationDocument,
    Keys,
    Rule,
    Step,
    TokenDocument,
)
from local.stand_in import StandIn
from tests import tiers
from tests.patience import eventually
from tests.workers import Running, SnapshotWriter, Tenant, name_of

GOOD = "sk-good-0123456789abcdefghij"
READS = ("get", "mget", "hget", "hgetall", "exists", "hmget")


def calls(writer: SnapshotWriter) -> dict[str, int]:
    """How often each command was called on this Redis."""
    return {name.removeprefix("cmdstat_"): facts["calls"] for name, facts in writer.redis.info("commandstats").items()}


async def test_no_request_makes_a_redis_call_once_its_account_and_token_are_held(
    worker: Running, writer: SnapshotWriter, alice: Tenant
):
    alice.keys(GOOD)
    token = alice.token()
    assert await worker.client.status(token) == 200
    writer.redis.config_resetstat()

    for _ in range(10):
        found = await asyncio.gather(*(worker.client.status(token) for _ in range(50)))
        assert found == [200] * 50

    # What is left is the follower's own: a look at the epoch and a report each second or two.
    made = calls(writer)
    assert not {name for name in ("get", "mget", "hgetall", "multi") if made.get(name)}
    assert sum(made.values()) < 100


async def test_a_new_token_of_a_held_account_needs_no_redis_call(
    worker: Running, writer: SnapshotWriter, alice: Tenant
):
    alice.keys(GOOD)
    assert await worker.client.status(alice.token()) == 200
    new = alice.token()
    await eventually(lambda: name_of(new).removeprefix("token:") in worker.store.tokens)
    writer.redis.config_resetstat()

    assert await worker.client.status(new) == 200
    assert "get" not in calls(writer)


async def test_requests_that_show_a_new_token_at_once_wait_for_one_load(
    worker: Running, writer: SnapshotWriter, alice: Tenant
):
    alice.keys(GOOD)
    token = alice.token()
    writer.redis.config_resetstat()

    found = await asyncio.gather(*(worker.client.status(token) for _ in range(50)))

    assert found == [200] * 50
    assert calls(writer)["get"] == 1
    assert calls(writer)["hgetall"] == 1


async def test_an_unknown_token_asks_redis_once(worker: Running, writer: SnapshotWriter, alice: Tenant):
    token = alice.token(publish=False)
    writer.redis.config_resetstat()

    for _ in range(20):
        assert await worker.client.status(token) == 401

    assert calls(writer)["get"] == 1


async def test_a_request_that_leaves_takes_no_load_with_it(worker: Running, alice: Tenant, charlie: Tenant):
    """Half of the callers hang up while their token is loaded; no other gets a stranger's answer."""
    alice.keys("sk-alice-0123456789abcdefgh")
    charlie.keys("sk-charlie-0123456789abcdef")
    tokens = [tenant.token() for tenant in (alice, charlie) for _ in range(40)]
    started = [asyncio.create_task(worker.client.chat(token)) for token in tokens]
    await asyncio.sleep(0.005)
    for call in started[::2]:
        call.cancel()
    left = [call for call in started if not call.cancelled()]
    done = await asyncio.gather(*left, return_exceptions=True)

    assert all(isinstance(answer, asyncio.CancelledError) or answer.status == 200 for answer in done)
    for token in tokens:
        tenant = alice if tokens.index(token) < 40 else charlie
        assert await worker.client.status(token) == 200
        digest = name_of(token).removeprefix("token:")
        assert worker.store.tokens[digest].account.id == tenant.id


async def test_who_waits_for_a_load_does_not_lose_it_by_anothers_leaving(
    worker: Running, alice: Tenant, monkeypatch: pytest.MonkeyPatch
):
    alice.keys(GOOD)
    token = alice.token()
    reader = worker.worker.follower.reader
    original = reader.read_together

    async def read_slowly(*args: Any) -> Any:
        await asyncio.sleep(0.3)
        return await original(*args)

    monkeypatch.setattr(reader, "read_together", read_slowly)
    started = [asyncio.create_task(worker.client.chat(token)) for _ in range(20)]
    await asyncio.sleep(0.15)
    for call in started[::2]:
        call.cancel()

    staying = await asyncio.gather(*started[1::2])

    assert [answer.status for answer in staying] == [200] * 10


async def test_what_is_read_ahead_of_the_follower_waits_for_it(
    worker: Running, alice: Tenant, monkeypatch: pytest.MonkeyPatch
):
    """A token that names a configuration of the same publication, read before the follower has seen either."""
    key = alice.keys(GOOD)[0]
    assert await worker.client.status(alice.token()) == 200
    reader, may_read = worker.worker.follower.reader, asyncio.Event()
    original = reader.read_entries

    async def read_later() -> Any:
        await may_read.wait()
        return await original()

    monkeypatch.setattr(reader, "read_entries", read_later)
    await asyncio.sleep(0.6)
    configuration = alice.configuration(Rule(provider="openai", steps=(Step(type="user", keys=(key,)),)))
    token = alice.token(configuration=configuration)

    asked = asyncio.create_task(worker.client.chat(token))
    await asyncio.sleep(0.3)
    assert not asked.done()
    may_read.set()

    assert (await asked).status == 200


async def test_a_change_of_several_documents_is_one_transition(worker: Running, alice: Tenant, upstream: StandIn):
    """Key, configuration and token change together 200 times; no request finds one of them without the others."""
    token = alice.token()
    alice.keys(GOOD)
    await worker.client.status(token)
    found: list[int] = []
    is_over = False

    async def ask() -> None:
        while not is_over:
            found.append(await worker.client.status(token))

    asking = [asyncio.create_task(ask()) for _ in range(4)]
    last: dict[str, None] = {}
    for number in range(200):
        key, configuration = f"aigpk_01h455vb4pex5vsknk084{number:05d}", f"aigac_01h455vb4pex5vsknk084{number:05d}"
        rule = Rule(provider="openai", steps=(Step(type="user", keys=(key,)),))
        made = {
            snapshot.provider_key_document(key): alice.key_document(key, f"{GOOD}-{number}"),
            snapshot.configuration_document(configuration): ConfigurationDocument(rules=(rule,)),
        }
        document = TokenDocument(
            account=alice.id, access_key="aigk_01h455vb4pex5vsknk084sn02q", configuration=configuration
        )
        position = alice.publish(last | made | {name_of(token): document})
        last = dict.fromkeys(made)
        if number % 20 == 0:
            await worker.reaches(position)
        await asyncio.sleep(0)
    await worker.reaches(position)
    is_over = True
    await asyncio.gather(*asking)

    assert set(found) == {200}
    assert len(found) > 50


async def test_a_change_too_large_to_be_carried_makes_its_holder_read_anew(
    worker: Running, alice: Tenant, upstream: StandIn
):
    key = alice.keys(GOOD)[0]
    token, doomed = alice.token(), alice.token()
    assert await worker.client.status(token) == await worker.client.status(doomed) == 200
    document = alice.key_document(key, "sk-new-0123456789abcdefghij")

    await worker.reaches(
        alice.publish({snapshot.provider_key_document(key): document, name_of(doomed): None}, is_partial=True)
    )
    await eventually(lambda: not worker.store.accounts[alice.id].is_stale)

    assert await worker.client.status(token) == 200
    assert upstream.keys[-1] == "sk-new-0123456789abcdefghij"
    assert await worker.client.status(doomed) == 401


async def test_a_gap_in_the_stream_means_reading_anew_whatever_is_held(
    worker: Running, writer: SnapshotWriter, alice: Tenant, upstream: StandIn
):
    key = alice.keys(GOOD)[0]
    token = alice.token()
    await worker.client.status(token)
    # The rotation's entry is lost before anybody reads it.
    with writer.redis.pipeline() as together:
        version = writer.next_version()
        name = snapshot.provider_key_document(key)
        document = alice.key_document(key, "sk-new-0123456789abcdefghij")
        together.hset(writer.names.account(alice.id), name, writer.sign(alice.id, name, document, version))
        sealed = writer.sign(alice.id, "version", snapshot.VersionDocument(), version)
        together.hset(writer.names.account(alice.id), "version", sealed)
        together.hincrby(writer.names.epoch, "number", 1)
        together.execute()
    writer._versions[alice.id] = version

    await worker.reaches(alice.settings(total_timeout="9s"))
    await eventually(lambda: not worker.store.accounts[alice.id].is_stale)
    await worker.client.status(token)

    assert upstream.keys[-1] == "sk-new-0123456789abcdefghij"
    assert worker.store.accounts[alice.id].snapshot.settings.total_timeout == 9


async def test_the_catalog_follows_its_publications(worker: Running, writer: SnapshotWriter, alice: Tenant):
    from gateway_core.catalog import Model, ModelsDocument

    alice.keys(GOOD)
    token = alice.token()
    assert await worker.client.status(token, model="brand-new") == 404

    writer.catalog(ModelsDocument(providers={"openai": (Model(id="brand-new"),)}))
    await eventually(lambda: worker.store.catalog.find("openai", "brand-new"))

    assert await worker.client.status(token, model="brand-new") == 200


# ── the store by itself ──

KEYS = Keys("gw")
DOCUMENT_KEYS = DocumentKeys.parse(envelopes.generate_document_key())
ACCOUNT = "ac_01h455vb4pex5vsknk084sn02q"


def change(version: int, documents: dict[str, bytes | None]) -> bytes:
    body = snapshot.encode(ChangeDocument(documents=documents))
    return DOCUMENT_KEYS.sign(Purpose.CHANGE, KEYS.change(ACCOUNT), version, body)


def settings_envelope(version: int) -> bytes:
    document = snapshot.SettingsDocument(total_timeout=f"{version}s")
    location = KEYS.location(ACCOUNT, "settings")
    return DOCUMENT_KEYS.sign(Purpose.DOCUMENT, location, version, snapshot.encode(document))


@settings(max_examples=tiers.number(40, full=150))
@given(
    st.lists(st.integers(1, 12), min_size=1, max_size=12, unique=True),
    st.integers(0, 12),
    st.integers(0, 12),
    st.booleans(),
)
def test_no_interleaving_of_loads_and_changes_brings_an_old_state_back(
    versions: list[int], begun_after: int, installed_after: int, twice: bool
):
    """A load reads Redis at one position and is installed later; changes come in between, some put back, some twice."""
    store = WorkerState(DocumentReader(KEYS, DOCUMENT_KEYS))
    store.start_at("epoch", 0)
    entries = versions * 2 if twice else versions
    begun_after = min(begun_after, len(entries))
    installed_after = min(max(installed_after, begun_after), len(entries))
    highest = 0
    loading = read = None
    for number in range(len(entries) + 1):
        if number == begun_after:
            loading = store.start_loading()
            # What Redis holds by then: it takes nothing that is not newer.
            read = max(entries[:number], default=0)
        if number == installed_after and loading is not None and read:
            contents, _ = store.reader.contents(ACCOUNT, read, [("settings", settings_envelope(read))])
            assert store.install_account(loading, ACCOUNT, contents)
            store.end_loading(loading)
            highest = max(read, *entries[begun_after:number], 0)
        if number < len(entries):
            version = entries[number]
            store.pass_entry(number + 1, ACCOUNT, change(version, {"settings": settings_envelope(version)}))
            if highest:
                highest = max(highest, version)
        if highest:
            held = store.accounts[ACCOUNT]
            assert held.snapshot.version == highest
            assert held.snapshot.settings.total_timeout == highest


@pytest.mark.parametrize("deleted_first", [True, False])
def test_a_token_that_is_deleted_while_it_is_loaded_stays_deleted(deleted_first: bool):
    store = WorkerState(DocumentReader(KEYS, DOCUMENT_KEYS))
    store.start_at("epoch", 0)
    digest = "0" * 64
    name = snapshot.token_document(digest)
    document = TokenDocument(account=ACCOUNT, access_key="aigk_01h455vb4pex5vsknk084sn02q")
    envelope = DOCUMENT_KEYS.sign(Purpose.DOCUMENT, KEYS.location(ACCOUNT, name), 5, snapshot.encode(document))
    whole, _ = store.reader.contents(ACCOUNT, 5, [("settings", settings_envelope(5))])
    first = store.start_loading()
    store.install_account(first, ACCOUNT, whole)
    store.end_loading(first)
    loading = store.start_loading()
    read = store.reader.document(ACCOUNT, name, envelope)

    if deleted_first:
        store.pass_entry(1, ACCOUNT, change(6, {name: None}))
        store.install_tokens(loading, ACCOUNT, {digest: read})
    else:
        store.install_tokens(loading, ACCOUNT, {digest: read})
        store.pass_entry(1, ACCOUNT, change(6, {name: None}))

    held = store.tokens.get(digest)
    assert held is None or held.document is None
