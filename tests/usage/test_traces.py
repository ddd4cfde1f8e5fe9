"""Holds: usage.traces, usage.views

`/usage/requests/{requestId}`: how one request went.
"""

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from accounts.models import Account
from accounts.principals import Principal
from gateway_core import ids
from gateway_core.traces import PassedOver, Trace
from gateway_core.usage_events import UsageEvent
from tests.events import an_event, text_id
from tests.fixtures import Api
from tests.usage.conftest import Emit

AT = datetime.now(UTC).replace(microsecond=250_000) - timedelta(minutes=1)
REQUESTED = round(AT.timestamp() * 1_000_000)
CONFIGURATION = text_id(ids.Prefix.CONFIGURATION)
KEY = text_id(ids.Prefix.PROVIDER_KEY)
ACCESS_KEY = text_id(ids.Prefix.ACCESS_KEY)


def traced(account: Account, number: int = 1, *, after_ms: int = 0, requested_at: int = REQUESTED, **given: Any) -> Any:
    """An attempt of a worker of this release."""
    words = {"completion": "succeeded", "retry_action": "succeeded", "served": True} | given.pop("words", {})
    values: dict[str, Any] = {
        "at": requested_at + after_ms * 1000,
        "request_id": "req_one",
        "access_key": ACCESS_KEY,
        "attempt": number,
        "requested_at": requested_at,
        "trace": Trace(
            snapshot_version=7, configuration=CONFIGURATION, credentials_from="router.rules[0].steps[0]", **words
        ),
    }
    return an_event(account, **(values | given))


def failed(account: Account, number: int = 1, *, action: str = "next_key", **given: Any) -> UsageEvent:
    words = {"completion": "failed", "retry_action": action, "served": False} | given.pop("words", {})
    event: UsageEvent = traced(
        account, number, **({"is_final": False, "is_error": True, "status": 503, "words": words} | given)
    )
    return event


def trace_of(api: Api, request_id: str = "req_one") -> Any:
    answer = api.get(f"/usage/requests/{request_id}")
    assert answer.status_code == 200, answer.content
    return answer.json()


def test_a_request_shows_its_attempts_and_what_decided_them(account: Account, api: Api, emit: Emit) -> None:
    passed = (
        PassedOver(provider="openai", model="gpt-4o", provider_key=KEY, reason="cooling", cause="key_refused", since=9),
        PassedOver(model="gpt-9", reason="model_unknown"),
    )
    first = failed(account, duration_ms=300, first_byte_ms=40, words={"passed_over": passed})
    second = traced(account, 2, after_ms=310, duration_ms=900, first_byte_ms=80)
    emit([second, first])

    shown = trace_of(api)

    assert [attempt["event"].pop("id") for attempt in shown["attempts"]] == [first.id, second.id]
    events = [attempt.pop("event") for attempt in shown["attempts"]]
    assert [(one["attemptNumber"], one["statusCode"], one["latencyMs"]) for one in events] == [
        (1, 503, 300),
        (2, 200, 1210),
    ]
    assert shown == {
        "requestId": "req_one",
        "uri": "http://testserver/usage/requests/req_one",
        "accessKeyId": ACCESS_KEY,
        "requestedModel": "gpt-4o",
        "requestedAt": AT.isoformat().replace("+00:00", "Z"),
        "snapshotVersion": 7,
        "accessKeyConfigurationId": CONFIGURATION,
        "attempts": [
            {
                "served": False,
                "completion": "failed",
                "retryAction": "next_key",
                "upstreamDurationMs": 300,
                "firstByteMs": 40,
                "credentialsFrom": "router.rules[0].steps[0]",
            },
            {
                "served": True,
                "completion": "succeeded",
                "retryAction": "succeeded",
                "upstreamDurationMs": 900,
                "firstByteMs": 80,
                "credentialsFrom": "router.rules[0].steps[0]",
            },
        ],
        "passedOver": [
            {
                "beforeAttempt": 1,
                "provider": "openai",
                "model": "gpt-4o",
                "providerKeyId": KEY,
                "reason": "cooling",
                "cause": "key_refused",
                "since": "1970-01-01T00:00:00.000009Z",
            },
            {"beforeAttempt": 1, "model": "gpt-9", "reason": "model_unknown"},
        ],
    }


def test_of_requests_with_one_id_the_newest_is_shown_and_nothing_of_the_others(
    account: Account, api: Api, emit: Emit
) -> None:
    later = REQUESTED + 1
    events = [
        failed(account),
        failed(account, requested_at=later, after_ms=1),
        traced(account, 2, after_ms=2),
        traced(account, 2, after_ms=5, requested_at=later),
        # Another access key's, of the same moment.
        traced(account, 3, after_ms=3, requested_at=later, access_key=text_id(ids.Prefix.ACCESS_KEY)),
    ]
    random.Random(3).shuffle(events)
    emit(events)

    shown = trace_of(api)

    assert [attempt["event"]["attemptNumber"] for attempt in shown["attempts"]] == [1, 2]
    assert {attempt["event"]["latencyMs"] for attempt in shown["attempts"]} == {1, 5}


@pytest.mark.parametrize(
    ("given", "completion", "served"),
    [
        ({}, "unknown", True),
        ({"is_error": True, "status": 500}, "failed", False),
        ({"is_error": True, "status": 0, "timed_out": True}, "timed_out", False),
    ],
)
def test_of_an_older_workers_attempt_only_what_its_event_says_is_shown(
    account: Account, api: Api, emit: Emit, given: Any, completion: str, served: bool
) -> None:
    emit([an_event(account, request_id="req_one", **given)])

    shown = trace_of(api)

    (attempt,) = shown["attempts"]
    assert (attempt["completion"], attempt["served"]) == (completion, served)
    assert {"retryAction", "credentialsFrom", "firstByteMs"}.isdisjoint(attempt)
    assert {"snapshotVersion", "requestedAt", "accessKeyConfigurationId"}.isdisjoint(shown)
    assert shown["passedOver"] == []


def test_a_word_of_a_newer_worker_is_not_shown_as_one_of_ours(account: Account, api: Api, emit: Emit) -> None:
    emit([traced(account, words={"completion": "improved", "retry_action": "asked_a_friend"})])

    (attempt,) = trace_of(api)["attempts"]

    assert attempt["completion"] == "unknown"
    assert "retryAction" not in attempt


@pytest.mark.parametrize("request_id", ["req_two", "%00", "%FF", "a" * 5000, "req_one%20", "REQ_ONE"])
def test_an_id_of_no_request_is_not_found(account: Account, api: Api, emit: Emit, request_id: str) -> None:
    emit([traced(account)])

    assert api.get(f"/usage/requests/{request_id}").status_code == 404


def test_another_accounts_request_does_not_exist_and_hides_none_of_ours(
    account: Account, api: Api, charlie: tuple[Account, Principal, Api], emit: Emit
) -> None:
    theirs, _, stranger = charlie
    emit([traced(account)])

    assert stranger.get("/usage/requests/req_one").status_code == 404

    emit([traced(theirs, after_ms=900, requested_model="theirs")])

    assert trace_of(api)["requestedModel"] == "gpt-4o"
    assert trace_of(stranger)["requestedModel"] == "theirs"


def test_a_trace_costs_the_same_queries_however_many_attempts_it_has(account: Account, api: Api, emit: Emit) -> None:
    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            trace_of(api)
        return len(captured)

    emit([traced(account)])
    # Notes that the API key was used.
    trace_of(api)
    few = queries()
    many = [failed(account, number, after_ms=number) for number in range(2, 130)]
    emit([*many, *(traced(account, 1, requested_at=REQUESTED - 2 - step) for step in range(100))])

    assert queries() == few <= 6
    assert [one["event"]["attemptNumber"] for one in trace_of(api)["attempts"]] == list(range(1, 101))
