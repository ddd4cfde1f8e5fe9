"""Holds: data_plane.forwarding.cooling_report, data_plane.state.reporting

Which keys cool stands in the worker's report and in its metrics.
"""

import time

import msgspec
from redis import Redis

from data_plane.forwarding.cooling import MOST_PLACES, Cooling, Place
from data_plane.forwarding.cooling_report import cooling_keys
from gateway_core.snapshot import Rule, Step
from gateway_core.worker_reports import CoolingKey, WorkerReport, open_report
from local.stand_in import StandIn
from tests.patience import eventually
from tests.workers import Running, SnapshotWriter, Tenant

BAD = "sk-demo-401-0123456789abcdef"
GOOD = "sk-good-0123456789abcdefghij"


async def test_a_key_that_cools_is_reported_until_it_is_rotated(
    worker: Running, alice: Tenant, upstream: StandIn, writer: SnapshotWriter, redis: "Redis"
):
    bad, good = alice.keys(BAD, GOOD)
    rule = Rule(provider="openai", steps=(Step(type="user", keys=(bad, good)),))
    token = alice.token(configuration=alice.configuration(rule))
    began = time.time_ns() // 1000
    await worker.client.chat(token)

    def reported() -> tuple[CoolingKey, ...]:
        name = worker.worker.follower.id
        envelope = redis.hget(writer.names.workers, name)
        assert isinstance(envelope, bytes)
        return open_report(writer.names, writer.document_keys, name, envelope).cooling

    await eventually(lambda: reported() != ())
    (key,) = reported()
    assert (key.account, key.provider, key.provider_key, key.model) == (alice.id, "openai", bad, "gpt-4o")
    assert key.cause == "key_refused"
    assert began - 1_000_000 < key.since < time.time_ns() // 1000
    assert 299_000_000 < key.until - key.since < 301_000_000
    assert 'gateway_keys_cooling{cause="key_refused"} 1.0' in (await worker.client.get("/metrics")).body.decode()

    await worker.reaches(alice.rotate(bad, "sk-new-0123456789abcdefghij"))
    await worker.client.chat(token)
    await eventually(lambda: reported() == ())
    assert 'gateway_keys_cooling{cause="key_refused"} 0.0' in (await worker.client.get("/metrics")).body.decode()


def test_a_report_is_bounded_and_no_account_takes_the_room_of_the_others() -> None:
    cooling = Cooling(time.monotonic)
    for account in range(40):
        for model in range(MOST_PLACES):
            place = Place("p" * 300, None, "\u0001€" * 300 + str(model))
            cooling.of(f"ac_{account}").failed(place, None, means=401, wait=None)

    found = cooling_keys(cooling)

    assert len(found) == 64
    assert {key.account for key in found} == {f"ac_{account}" for account in range(8)}
    report = {"id": "w", "host": "h", "process": 1, "startedAt": 1, "heartbeatAt": 1, "cooling": found}
    encoded = msgspec.json.encode(report)
    assert len(encoded) < 32_000
    assert msgspec.json.decode(encoded, type=WorkerReport).cooling == found
