"""Holds: usage.ingest

Ingest: each event counts once, and only what a worker really told.
"""

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from django.db import connection
from django.db.models import Sum
from django.utils import timezone
from redis import Redis

from access_keys.models import AccessKey
from accounts.models import Account
from accounts.principals import Principal
from gateway_core import ids
from gateway_core.envelopes import DocumentKeys, Purpose, generate_document_key
from gateway_core.snapshot import Keys
from gateway_core.traces import PassedOver, Trace
from gateway_core.usage_events import BATCH_FIELD, OTHER_COUNTS, UsageBatch, UsageEvent
from provider_keys import services as provider_keys
from provider_keys.models import ProviderKey
from provider_keys.values import PlainValue
from snapshots.redis_client import document_keys, keys
from tests.events import an_event, seal_batch, sealed, send, text_id
from tests.usage.conftest import Emit
from usage import ingest as ingest_room
from usage.ingest import GROUP, Ingest
from usage.models import Event, LedgerEntry, Rollup


def pending(redis: "Redis") -> int:
    summary: Any = redis.xpending(keys().usage, GROUP)
    return int(summary["pending"])


def sums(**of: Any) -> tuple[Decimal, int, int]:
    """Cost, requests and errors of the rollups of one kind."""
    rows = Rollup.objects.filter(**of)
    return (
        sum((row.cost for row in rows), Decimal(0)),
        sum(row.requests for row in rows),
        sum(row.errors for row in rows),
    )


def test_an_event_arrives_as_it_was_told(account: Account, emit: Emit) -> None:
    event = an_event(
        account,
        key_source="user",
        provider_key=text_id(ids.Prefix.PROVIDER_KEY),
        mask="sk-abc***wxyz",
        attempt=3,
        status=429,
        is_final=False,
        timed_out=True,
        is_error=True,
        is_streaming=True,
        stop_reason="length",
        cache_read_tokens=7,
        cache_write_tokens=2,
        reasoning_tokens=5,
        cache_write_1h_tokens=1,
        input_audio_tokens=4,
        web_searches=2,
        service_tier="flex",
        usage_estimated=True,
        duration_ms=1234,
        first_byte_ms=56,
        requested_at=1_700_000_000_000_001,
        trace=Trace(
            completion="failed",
            retry_action="next_key",
            snapshot_version=2**53 - 1,
            configuration=text_id(ids.Prefix.CONFIGURATION),
            credentials_from="router.rules[0].steps[1]",
            passed_over=(PassedOver(model='"ü\\', reason="model_unknown"),),
        ),
    )

    assert emit([event]) == 1

    row = Event.objects.get()
    told = msgspec.structs.asdict(event)
    for name in ("id", "time", "account", "access_key", "provider_key", "meant_status", "requested_at", "trace"):
        del told[name]
    # These go to Redis (usage.limit_rounds).
    del told["counted"], told["counted_by"]
    assert row.kinds == {"cacheWrite1hTokens": 1, "inputAudioTokens": 4, "webSearches": 2}
    for name in OTHER_COUNTS:
        del told[name]
    assert {name: getattr(row, name) for name in told} == told
    assert row.text_id == event.id
    assert row.requested_at == datetime(2023, 11, 14, 22, 13, 20, 1, UTC)
    assert msgspec.convert(row.trace, Trace) == event.trace
    assert row.event_time == datetime.fromtimestamp(0, UTC) + timedelta(microseconds=event.time)
    assert ids.to_text(ids.Prefix.ACCOUNT, row.account_id) == event.account
    assert ids.to_text(ids.Prefix.ACCESS_KEY, row.access_key_id) == event.access_key
    assert row.provider_key_id is not None
    assert ids.to_text(ids.Prefix.PROVIDER_KEY, row.provider_key_id) == event.provider_key


def test_an_event_costs_its_list_price(account: Account, emit: Emit) -> None:
    emit([an_event(account, input_tokens=1000, output_tokens=100)])

    assert Event.objects.get().cost == Decimal("0.0035")


def test_sums_count_attempts_by_cost_and_final_ones_by_number(account: Account, emit: Emit) -> None:
    at = timezone.now().replace(minute=30) - timedelta(hours=30)
    emit(
        [
            an_event(account, at=at, is_final=False, is_error=True),
            an_event(account, at=at, attempt=2, is_error=True),
            an_event(account, at=at + timedelta(hours=1), provider="anthropic", model="claude-sonnet-4-5"),
        ]
    )

    assert sums(dimension="p", span="h", group_key="openai") == (Decimal("0.0070"), 1, 1)
    assert sums(dimension="p", span="d") == (Decimal("0.0115"), 2, 1)
    assert sums(dimension="k", span="d") == sums(dimension="k", span="h") == (Decimal("0.0115"), 2, 1)


def test_sums_count_the_tokens_of_all_attempts(account: Account, emit: Emit) -> None:
    emit([an_event(account, input_tokens=1000, output_tokens=100, is_final=False)])
    emit([an_event(account, input_tokens=500, output_tokens=7, attempt=2)])

    for dimension in ("p", "k"):
        found = Rollup.objects.filter(dimension=dimension, span="d").aggregate(
            Sum("input_tokens"), Sum("output_tokens")
        )
        assert found == {"input_tokens__sum": 1500, "output_tokens__sum": 107}


def test_an_event_told_twice_counts_once(account: Account, emit: Emit, redis: "Redis", ingest: Ingest) -> None:
    events = [an_event(account) for _ in range(20)]
    assert emit(events) == 20
    before = list(Rollup.objects.order_by("pk").values()), list(LedgerEntry.objects.values())

    send(redis, events)
    send(redis, [*events[:3], *events[:3]])
    assert ingest.run(seconds=30) == 0

    assert Event.objects.count() == 20
    assert (list(Rollup.objects.order_by("pk").values()), list(LedgerEntry.objects.values())) == before


def test_an_event_told_twice_within_a_batch_counts_once(account: Account, emit: Emit) -> None:
    event = an_event(account)

    assert emit([event, event]) == 1
    assert sums(dimension="p", span="d")[1] == 1


def test_one_id_counts_once_even_if_the_rest_differs(account: Account, other_account: Account, emit: Emit) -> None:
    event = an_event(account)
    later = msgspec.structs.replace(event, time=event.time // 1000 * 1000 + (event.time + 1) % 1000)
    another = msgspec.structs.replace(event, account=other_account.text_id, input_tokens=5)

    assert emit([event, later, another]) == 1


def test_events_of_several_months_find_their_partitions(account: Account, emit: Emit) -> None:
    now = timezone.now()

    assert emit([an_event(account, at=now - timedelta(days=days)) for days in (0, 10, 20, 30)]) == 4

    with connection.cursor() as cursor:
        cursor.execute("SELECT DISTINCT tableoid::regclass::text FROM usage_event")
        assert {name for (name,) in cursor.fetchall()} == {
            (now - timedelta(days=days)).strftime("usage_event_%Y_%m") for days in (0, 10, 20, 30)
        }


def forged(events: list[UsageEvent]) -> bytes:
    stranger = DocumentKeys.parse(generate_document_key())
    return seal_batch(keys(), stranger, UsageBatch("w", tuple(events)), version=1)


def elsewhere(events: list[UsageEvent]) -> bytes:
    return seal_batch(Keys("other"), document_keys(), UsageBatch("w", tuple(events)), version=1)


def for_another_purpose(events: list[UsageEvent]) -> bytes:
    body = msgspec.json.encode(UsageBatch("w", tuple(events)))
    return document_keys().sign(Purpose.WORKER, f"{keys().usage}\n{BATCH_FIELD}", 1, body)


def altered(events: list[UsageEvent]) -> bytes:
    return sealed(events).replace(b'"inputTokens":1000', b'"inputTokens":9000')


def signed_body(body: bytes) -> bytes:
    return document_keys().sign(Purpose.USAGE, f"{keys().usage}\n{BATCH_FIELD}", 1, body)


def of_another_time(events: list[UsageEvent]) -> bytes:
    body = msgspec.json.encode(UsageBatch("w", tuple(events)))
    told, other = (f'"time":{events[0].time - ago}'.encode() for ago in (0, 40 * 86_400_000_000))
    assert told in body
    return signed_body(body.replace(told, other))


@pytest.mark.parametrize(
    "make",
    [
        forged,
        elsewhere,
        for_another_purpose,
        altered,
        lambda events: sealed(events)[:-1],
        lambda _: b"",
        lambda _: b"\xff" * 200,
        lambda _: signed_body(b""),
        lambda _: signed_body(b"[" * 100_000),
        lambda _: signed_body(b'{"worker": "w", "events": []}'),
        lambda events: sealed(msgspec.structs.replace(event, input_tokens=-1) for event in events),
        lambda events: sealed(msgspec.structs.replace(event, output_tokens=10**10) for event in events),
        lambda events: sealed(msgspec.structs.replace(event, model="a\x00b") for event in events),
        lambda events: sealed(msgspec.structs.replace(event, status=-1) for event in events),
        lambda events: sealed(msgspec.structs.replace(event, attempt=0) for event in events),
        lambda events: sealed(msgspec.structs.replace(event, key_source="free") for event in events),
        lambda events: sealed(msgspec.structs.replace(event, mask="x" * 300) for event in events),
        # An ID of another time would let the same ID into two partitions.
        of_another_time,
        lambda events: sealed(events * 201),
    ],
)
def test_a_batch_that_no_worker_could_have_told_changes_nothing(
    account: Account, redis: "Redis", ingest: Ingest, make: Callable[[list[UsageEvent]], bytes]
) -> None:
    good = an_event(account)
    redis.xadd(keys().usage, {BATCH_FIELD: make([an_event(account)])})
    redis.xadd(keys().usage, {"something": "else"})
    send(redis, [good])

    assert ingest.run(seconds=30) == 1

    assert [row.text_id for row in Event.objects.all()] == [good.id]
    assert redis.xlen(keys().usage) == pending(redis) == 0


@pytest.mark.parametrize("age", [timedelta(days=32), timedelta(days=400), -timedelta(minutes=11), -timedelta(days=40)])
def test_events_that_are_too_old_or_not_yet_due_are_refused(account: Account, emit: Emit, age: timedelta) -> None:
    assert emit([an_event(account, at=timezone.now() - age), an_event(account)]) == 1


def test_usage_of_an_account_that_is_gone_is_left_out(account: Account, emit: Emit) -> None:
    assert emit([an_event(text_id(ids.Prefix.ACCOUNT)), an_event(account)]) == 1


def test_what_another_consumer_left_is_taken_over(
    account: Account, redis: "Redis", monkeypatch: pytest.MonkeyPatch
) -> None:
    send(redis, [an_event(account)])
    redis.xgroup_create(keys().usage, GROUP, id="0")
    redis.xreadgroup(GROUP, "a-dead-one", {keys().usage: ">"})
    monkeypatch.setattr(ingest_room, "CLAIM_MILLISECONDS", 50)
    assert Ingest(redis).run(seconds=5) == 0
    time.sleep(0.1)

    assert Ingest(redis).run(seconds=5) == 1

    assert pending(redis) == 0


def test_a_pending_entry_that_was_trimmed_is_given_up(
    account: Account, redis: "Redis", monkeypatch: pytest.MonkeyPatch
) -> None:
    send(redis, [an_event(account)])
    redis.xgroup_create(keys().usage, GROUP, id="0")
    redis.xreadgroup(GROUP, "a-dead-one", {keys().usage: ">"})
    redis.xtrim(keys().usage, maxlen=0)
    send(redis, [an_event(account)])
    monkeypatch.setattr(ingest_room, "CLAIM_MILLISECONDS", 0)

    assert Ingest(redis).run(seconds=5) == 1

    assert pending(redis) == 0


def test_a_redis_that_was_emptied_is_read_on(account: Account, redis: "Redis", emit: Emit) -> None:
    emit([an_event(account)])
    redis.flushall()

    assert emit([an_event(account)]) == 1


def test_consumers_of_processes_that_ended_are_forgotten(
    account: Account, redis: "Redis", emit: Emit, monkeypatch: pytest.MonkeyPatch
) -> None:
    emit([an_event(account)])
    send(redis, [an_event(account)])
    redis.xreadgroup(GROUP, "holds-something", {keys().usage: ">"})
    monkeypatch.setattr(ingest_room, "_FORGET_MILLISECONDS", -1)

    ingest_room.forget_consumers(redis)

    consumers: Any = redis.xinfo_consumers(keys().usage, GROUP)
    assert [one["name"] for one in consumers] == [b"holds-something"]


@pytest.mark.django_db(transaction=True)
def test_an_event_that_cannot_be_written_holds_up_no_other(
    account: Account, redis: "Redis", ingest: Ingest, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = an_event(account, provider="bad", key_source="none")
    events = [an_event(account) for _ in range(6)]
    # Decoding refuses whatever the table would; a cost beyond its column stands for what decoding might miss.
    monkeypatch.setattr(
        ingest_room, "cost_of", lambda event: Decimal(10) ** 20 if event.provider == "bad" else Decimal(1)
    )
    send(redis, [*events[:3], bad, events[3]])
    send(redis, events[4:])

    assert ingest.run(seconds=30) == 6

    assert sorted(row.text_id for row in Event.objects.all()) == sorted(event.id for event in events)
    assert redis.xlen(keys().usage) == pending(redis) == 0


# ── lastUsed ──


@pytest.fixture
def access_key(account: Account) -> AccessKey:
    return AccessKey.objects.create(
        account=account, digest="0" * 64, key_redacted="", created_by="", last_updated_by=""
    )


@pytest.fixture
def provider_key(account: Account) -> ProviderKey:
    return ProviderKey.objects.create(
        account=account, name="k", provider="openai", sealed=b"", fingerprint="", created_by="", last_updated_by=""
    )


def test_keys_tell_when_they_were_last_used(
    account: Account, emit: Emit, access_key: AccessKey, provider_key: ProviderKey
) -> None:
    updated_at = access_key.updated_at
    first = timezone.now() - timedelta(minutes=5)

    def use(at: datetime) -> tuple[datetime | None, datetime | None]:
        emit(
            [
                an_event(
                    account,
                    at=at,
                    access_key=access_key.text_id,
                    key_source="user",
                    provider_key=provider_key.text_id,
                    mask="***",
                )
            ]
        )
        access_key.refresh_from_db()
        provider_key.refresh_from_db()
        return access_key.last_used, provider_key.last_used

    assert use(first) == (first, first)
    # At most one write a minute, and never backwards.
    assert use(first + timedelta(seconds=59)) == (first, first)
    assert use(first - timedelta(hours=1)) == (first, first)
    later = first + timedelta(seconds=61)
    assert use(later) == (later, later)
    assert access_key.updated_at == updated_at


def test_a_provider_key_tells_how_its_present_value_fares(
    account: Account, principal: Principal, emit: Emit, provider_key: ProviderKey
) -> None:
    ProviderKey.objects.filter(id=provider_key.id).update(key_redacted="old***")
    start = timezone.now() - timedelta(minutes=5)

    def told(second: int, status: int, mask: str = "old***", **given: Any) -> tuple[Any, ...]:
        at = start + timedelta(seconds=second)
        given = {"is_error": status not in range(200, 300)} | given
        key = {"key_source": "user", "provider_key": provider_key.text_id, "mask": mask}
        emit([an_event(account, at=at, status=status, **key, **given)])
        provider_key.refresh_from_db()
        ages = [
            moment and (moment - start).total_seconds()
            for moment in (provider_key.last_success_at, provider_key.last_refusal_at)
        ]
        return (*ages, provider_key.last_refusal_status, provider_key.is_refused)

    assert told(0, 200) == (0, None, None, False)
    assert told(1, 400) == (0, None, None, False), "the request was at fault"
    assert told(2, 0, is_error=False) == (0, None, None, False), "the caller left"
    assert told(3, 200) == (0, None, None, False), "once a minute"
    assert told(4, 401) == (0, 4, 401, True), "a change for the worse shows at once"
    assert told(5, 401) == (0, 4, 401, True)
    assert told(6, 429) == (0, 6, 429, True)
    assert told(5, 500) == (0, 6, 429, True), "never backwards"
    assert told(7, 200) == (7, 6, 429, False)
    assert told(70, 0) == (7, 70, 0, True)
    assert told(140, 400, meant_status=402) == (7, 140, 402, True), "by its dialect an empty balance"
    assert told(210, 200, is_error=True, meant_status=502) == (7, 210, 502, True), "an error under 200"

    value = PlainValue("sk-" + "n" * 40)
    provider_keys.rotate_provider_key(provider_key=provider_key, by=principal, name="k", value=value)
    assert told(211, 401) == (None, None, None, False), "of the value before"
    assert told(212, 200, value.mask) == (212, None, None, False)


def test_another_accounts_key_is_not_touched(other_account: Account, emit: Emit, access_key: AccessKey) -> None:
    emit([an_event(other_account, access_key=access_key.text_id)])

    access_key.refresh_from_db()
    assert access_key.last_used is None


@pytest.mark.django_db(transaction=True)
def test_a_key_that_somebody_works_on_does_not_hold_usage_up(
    account: Account, redis: "Redis", access_key: AccessKey
) -> None:
    is_locked, may_end = threading.Event(), threading.Event()

    def hold() -> None:
        from django.db import transaction

        with transaction.atomic():
            AccessKey.objects.select_for_update().get(id=access_key.id)
            is_locked.set()
            may_end.wait(30)
        connection.close()

    holder = threading.Thread(target=hold)
    holder.start()
    try:
        assert is_locked.wait(10)
        send(redis, [an_event(account, access_key=access_key.text_id)])

        assert Ingest(redis).run(seconds=10) == 1
    finally:
        may_end.set()
        holder.join()
    access_key.refresh_from_db()
    assert access_key.last_used is None
