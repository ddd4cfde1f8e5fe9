"""Holds: gateway_core.usage_events

Usage events and batches: what counts as one.
"""

import time
import uuid
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_core import ids
from gateway_core.envelopes import DocumentKeys, generate_document_key
from gateway_core.snapshot import Keys
from gateway_core.traces import MOST_PASSED_OVER, PassedOver, Trace
from gateway_core.usage_events import (
    MAX_BATCH_BYTES,
    MAX_EVENTS,
    BatchRefused,
    UsageBatch,
    UsageEvent,
    event_id,
    fit,
    fit_name,
    open_batch,
    seal_events,
    time_of,
    within_bounds,
)
from tests.events import seal_batch

KEYS = Keys("gw")
DOCUMENT_KEYS = DocumentKeys.parse(generate_document_key())
NOW = time.time_ns() // 1000


def text_id(prefix: ids.Prefix) -> str:
    return ids.to_text(prefix, ids.new_id())


def an_event(**given: object) -> UsageEvent:
    values = {
        "id": event_id(NOW),
        "time": NOW,
        "requestId": "r",
        "account": text_id(ids.Prefix.ACCOUNT),
        "accessKey": text_id(ids.Prefix.ACCESS_KEY),
        "provider": "openai",
        "model": "m",
        "requestedModel": "m",
        "attempt": 1,
        "isFinal": True,
        "keySource": "ngrok",
    }
    return msgspec.convert(values | given, UsageEvent)


@given(st.integers(0, 2**48 * 1000 - 1))
def test_an_id_is_a_uuid7_of_its_time(moment: int) -> None:
    value = ids.from_text(ids.Prefix.USAGE_EVENT, event_id(moment))

    assert (value.version, value.variant) == (7, uuid.RFC_4122)
    assert time_of(value) == moment // 1000
    assert msgspec.convert({**msgspec.to_builtins(an_event()), "id": event_id(moment), "time": moment}, UsageEvent)


@given(st.integers(0, 2**47 * 1000), st.integers(1, 10**9))
def test_ids_sort_by_time_to_the_microsecond(moment: int, later: int) -> None:
    assert event_id(moment) < event_id(moment + later)


def test_no_two_ids_of_one_moment_are_equal() -> None:
    assert len({event_id(NOW) for _ in range(20_000)}) == 20_000


@pytest.mark.parametrize(
    "given",
    [
        {"id": "aigue_01h455vb4pex5vsknk084sn02q"},
        {"id": event_id(NOW + 1000)},
        {"id": event_id(NOW).replace("aigue", "aigk")},
        {"time": -1},
        {"account": "ac_1"},
        {"account": text_id(ids.Prefix.USER)},
        {"requestId": ""},
        {"requestId": "a" * 256},
        {"requestId": "a\nb"},
        {"model": "a\x00"},
        {"attempt": 0},
        {"attempt": True},
        {"status": 1000},
        {"inputTokens": -1},
        {"inputTokens": 10**9 + 1},
        {"inputTokens": 1.5},
        {"keySource": "stolen"},
        {"keySource": "user"},
        {"providerKey": text_id(ids.Prefix.PROVIDER_KEY)},
        {"keySource": "none", "providerKey": text_id(ids.Prefix.PROVIDER_KEY)},
        {"mask": "\x9f"},
    ],
)
def test_an_event_out_of_bounds_is_none(given: dict[str, object]) -> None:
    with pytest.raises(msgspec.ValidationError):
        an_event(**given)


def test_a_batch_arrives_as_it_was_sealed() -> None:
    events = tuple(an_event(model="ü" * 255) for _ in range(MAX_EVENTS))

    sealed = seal_batch(KEYS, DOCUMENT_KEYS, UsageBatch("w", events), version=NOW)

    assert open_batch(KEYS, DOCUMENT_KEYS, sealed) == UsageBatch("w", events)
    encoded = [msgspec.json.encode(event) for event in events]
    assert open_batch(KEYS, DOCUMENT_KEYS, seal_events(KEYS, DOCUMENT_KEYS, "w", encoded, version=NOW)).events == events


def test_the_longest_events_fit_into_a_batch() -> None:
    longest = "\N{DUCK}" * 255
    event = an_event(
        requestId=longest, provider=longest, model=longest, requestedModel=longest, stopReason=longest, mask=longest
    )

    sealed = seal_batch(KEYS, DOCUMENT_KEYS, UsageBatch("w", (event,) * MAX_EVENTS), version=NOW)

    assert len(sealed) < MAX_BATCH_BYTES


@given(st.binary(max_size=300))
def test_nothing_made_up_is_a_batch(envelope: bytes) -> None:
    with pytest.raises(BatchRefused):
        open_batch(KEYS, DOCUMENT_KEYS, envelope)


@given(st.text(max_size=600))
def test_any_text_is_made_to_fit(text: str) -> None:
    fitting = fit(text)

    assert len(fitting) <= 255
    assert an_event(stopReason=fitting).stop_reason == fitting


def test_a_batch_of_the_longest_events_fits() -> None:
    name = "\U0001f600" * 255
    one = PassedOver(
        provider=fit_name('"' * 200),
        model=fit_name(name),
        provider_key=text_id(ids.Prefix.PROVIDER_KEY),
        reason="surface_not_served",
        cause="x" * 32,
        since=2**53 - 1,
    )
    trace = Trace(
        completion="stream_failed",
        retry_action="managed_fallback",
        served=True,
        snapshot_version=2**53 - 1,
        configuration=text_id(ids.Prefix.CONFIGURATION),
        credentials_from="x" * 96,
        passed_over=(one,) * MOST_PASSED_OVER,
    )
    texts = {"model": name, "requestedModel": name, "stopReason": name, "requestId": "r" * 128, "provider": "p" * 255}
    events = [msgspec.structs.replace(an_event(**texts), trace=trace, requested_at=NOW)] * MAX_EVENTS

    sealed = seal_batch(KEYS, DOCUMENT_KEYS, UsageBatch("w", tuple(events)), version=NOW)

    assert open_batch(KEYS, DOCUMENT_KEYS, sealed).events[0].trace == trace
    assert len(sealed) < MAX_BATCH_BYTES


@given(st.text())
def test_a_foreign_name_fits_into_a_trace(text: str) -> None:
    assert msgspec.convert({"model": fit_name(text), "reason": ""}, PassedOver).model == fit_name(text)


def test_an_event_with_members_of_a_newer_worker_is_read() -> None:
    newer = msgspec.to_builtins(an_event()) | {
        "ofTomorrow": {"x": 1},
        "trace": {"completion": "improved", "retryAction": "asked_a_friend", "ofTomorrow": [1]},
    }

    event = msgspec.convert(newer, UsageEvent)

    assert event.trace is not None
    assert event.trace.completion == "improved"


@pytest.mark.parametrize(
    ("member", "given", "kept"),
    [
        ("attempt", 10_001, 10_000),
        ("attempt", 0, 1),
        ("inputTokens", 2**40, 10**9),
        ("outputTokens", -5, 0),
        ("status", 1200, 999),
        ("model", "x" * 300, "x" * 255),
        ("stopReason", "a\nb", "ab"),
        ("requestId", "\x00r", "r"),
    ],
)
def test_an_event_out_of_bounds_is_mended_and_says_so(member: str, given: Any, kept: Any) -> None:
    event = msgspec.json.decode(msgspec.json.encode(an_event()))

    mended = within_bounds(msgspec.json.encode(event | {member: given}))

    assert mended is not None
    assert msgspec.json.decode(mended) == event | {member: kept, "usageEstimated": True}
    msgspec.json.decode(mended, type=UsageEvent)


@pytest.mark.parametrize("torn", [b"", b'{"id": "aigue_', b"[]", b"{}", b'{"id": 7}'])
def test_what_is_no_event_is_not_mended(torn: bytes) -> None:
    assert within_bounds(torn) is None
