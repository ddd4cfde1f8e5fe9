"""Holds: data_plane.usage.event_check

The worker's check of its own events: it lets through what the control plane takes, and nothing that it refuses.
"""

from typing import Any

import msgspec
import pytest

from data_plane.usage.event_check import valid_events
from gateway_core import ids
from gateway_core.traces import PassedOver, Trace
from gateway_core.usage_events import MAX_COUNT, UsageEvent, event_id
from tests.workers import new_id

NOW = 1_790_000_000_000_000


def an_event(**changes: Any) -> bytes:
    event = UsageEvent(
        id=event_id(NOW),
        time=NOW,
        request_id="req_1",
        account=new_id(ids.Prefix.ACCOUNT),
        access_key=new_id(ids.Prefix.ACCESS_KEY),
        provider="openai",
        model="gpt-4o",
        requested_model="gpt-4o",
        attempt=1,
        is_final=True,
        key_source="none",
        trace=Trace(
            completion="succeeded",
            retry_action="succeeded",
            served=True,
            passed_over=(PassedOver(provider="groq", model="llama", reason="cooling"),),
        ),
    )
    return msgspec.json.encode({**msgspec.to_builtins(event), **changes})


GOOD = [
    an_event(),
    an_event(model="Größe \U0001f600 \\ \" '"),
    an_event(keySource="user", providerKey=new_id(ids.Prefix.PROVIDER_KEY), mask="sk-***", serviceTier="flex"),
    an_event(inputTokens=MAX_COUNT, firstByteMs=3, trace=None),
]
MENDABLE = [
    an_event(model="a\nb"),
    an_event(model="a\x7fb"),
    an_event(stopReason="a\x85b"),
    an_event(model=""),
    an_event(requestedModel="x" * 256),
    an_event(inputTokens=MAX_COUNT + 1),
    an_event(outputTokens=-1),
    an_event(status=1000),
    an_event(attempt=0),
    an_event(trace={"completion": "succeeded"}),
    an_event(trace={"completion": "x" * 33, "retryAction": "succeeded", "served": True}),
]
LOST = [
    an_event(keySource="ours"),
    an_event(keySource="user"),
    an_event(time=NOW + 1_000_000),
    an_event(id="aigue_"),
    an_event()[:-1],
    b"",
    b"null",
    b"{}",
]


@pytest.mark.parametrize("event", GOOD)
def test_what_the_control_plane_takes_is_let_through(event: bytes):
    assert msgspec.json.decode(event, type=UsageEvent)
    assert valid_events([event]) == [event]


@pytest.mark.parametrize("event", MENDABLE)
def test_what_is_out_of_bounds_is_mended_and_not_lost(event: bytes):
    with pytest.raises(msgspec.DecodeError):
        msgspec.json.decode(event, type=UsageEvent)

    before, mended, after = valid_events([GOOD[0], event, GOOD[2]])

    assert (before, after) == (GOOD[0], GOOD[2])
    assert msgspec.json.decode(mended, type=UsageEvent).usage_estimated


@pytest.mark.parametrize("event", LOST)
def test_what_the_control_plane_refuses_is_left_out_alone(event: bytes):
    with pytest.raises(msgspec.DecodeError):
        msgspec.json.decode(event, type=UsageEvent)
    assert valid_events([GOOD[0], event, GOOD[2]]) == [GOOD[0], GOOD[2]]
