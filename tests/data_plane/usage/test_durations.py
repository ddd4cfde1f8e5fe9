"""Holds: data_plane.usage.durations

How long upstreams take, in `/metrics`: histograms whose labels are bounded.
"""

from typing import Any

import msgspec
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from data_plane.usage.durations import MOST_NAMED, Durations
from gateway_core.traces import Trace
from local.stand_in import StandIn
from tests.events import an_event
from tests.workers import Client, Tenant

ANSWERED = Trace(completion="succeeded", retry_action="succeeded", served=True)
ACCOUNT = "ac_01h455vb4pex5vsknk084sn02q"


def text_of(durations: Durations) -> str:
    registry = CollectorRegistry()
    registry.register(durations)
    return generate_latest(registry).decode()


def event(**given: Any) -> Any:
    values: dict[str, Any] = {"trace": ANSWERED, "duration_ms": 700, "first_byte_ms": 90} | given
    return an_event(ACCOUNT, **values)


def test_an_attempt_that_answered_is_in_every_bucket_above_its_time() -> None:
    durations = Durations(lambda *_: True)
    for milliseconds in (700, 100, 101, 999_999):
        durations.note(event(duration_ms=milliseconds))

    text = text_of(durations)

    name = 'gateway_attempt_duration_seconds_bucket{le="%s",model="gpt-4o",provider="openai"} %s'
    for bound, count in (("0.1", 1), ("0.25", 2), ("0.5", 2), ("1.0", 3), ("120.0", 3), ("+Inf", 4)):
        assert name % (bound, f"{count}.0") in text
    assert 'gateway_attempt_duration_seconds_sum{model="gpt-4o",provider="openai"} 1000.9' in text
    assert 'gateway_attempt_first_byte_seconds_count{model="gpt-4o",provider="openai"} 4.0' in text


@pytest.mark.parametrize(
    "given",
    [
        {"trace": None},
        {"trace": msgspec.structs.replace(ANSWERED, completion="failed")},
        {"trace": msgspec.structs.replace(ANSWERED, completion="timed_out")},
        {"trace": msgspec.structs.replace(ANSWERED, completion="unknown")},
    ],
)
def test_what_did_not_answer_is_not_counted(given: Any) -> None:
    durations = Durations(lambda *_: True)

    durations.note(event(**given))

    assert "bucket" not in text_of(durations)


def test_an_answer_whose_first_byte_nobody_saw_is_in_one_histogram_alone() -> None:
    durations = Durations(lambda *_: True)

    durations.note(event(first_byte_ms=None))

    assert "gateway_attempt_duration_seconds_count" in text_of(durations)
    assert "gateway_attempt_first_byte_seconds_count" not in text_of(durations)


def test_neither_a_caller_nor_a_tenant_makes_labels() -> None:
    durations = Durations(lambda _, model: model.startswith("known"))
    durations.note(event(provider="my-secret-project", model="known"))
    for number in range(2 * MOST_NAMED):
        durations.note(event(model=f"made-up-{number}"))
        durations.note(event(model=f"known-{number}"))

    text = text_of(durations)

    assert "secret" not in text
    assert "made-up" not in text
    assert 'gateway_attempt_duration_seconds_count{model="other",provider="custom"} 1.0' in text
    series = text.count("gateway_attempt_duration_seconds_count{")
    assert MOST_NAMED <= series <= MOST_NAMED + 3


async def test_a_worker_shows_them(client: Client, alice: Tenant, upstream: StandIn):
    alice.keys("sk-good-0123456789abcdefghij")
    token = alice.token()
    for model in ("openai:gpt-4o", "openai:gpt-4o", "openai:my-fine-tuned"):
        await client.chat(token, model)

    metrics = (await client.get("/metrics")).body.decode()

    for name in ("duration", "first_byte"):
        assert f'gateway_attempt_{name}_seconds_count{{model="gpt-4o",provider="openai"}} 2.0' in metrics
        assert f'gateway_attempt_{name}_seconds_count{{model="other",provider="openai"}} 1.0' in metrics
