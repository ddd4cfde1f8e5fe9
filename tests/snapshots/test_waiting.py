"""Holds: snapshots.waiting

Who waits for the workers is told what is so, and never that a write has failed. The workers here are reports.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from django.conf import LazySettings
from django.db import connection, transaction
from redis import Redis

from gateway_core import envelopes, ids
from gateway_core.envelopes import DocumentKeys
from gateway_core.worker_reports import ANY_ACCOUNT, MOST_BEHIND, Behind, WorkerReport, behind_of, seal_report
from rest import propagation
from snapshots import waiting
from snapshots.models import Publication
from snapshots.publisher import pause
from snapshots.redis_client import document_keys, inline_store, keys, patient_store
from snapshots.upkeep import Upkeep
from snapshots.workers import forget_silent_workers, read_workers
from tests.fixtures import Api, open_account
from tests.patience import wait_until

pytestmark = pytest.mark.usefixtures("_live")

APPLIED, VERSION, PREFERENCE = "Gateway-Snapshot-Applied", "Gateway-Snapshot-Version", "Preference-Applied"


class Worker:
    """What a worker writes of itself."""

    def __init__(self, redis: "Redis") -> None:
        self.redis: Any = redis
        self.id = ids.to_text(ids.Prefix.WORKER, ids.new_id())

    def report(self, *, signed_with: DocumentKeys | None = None, place: str = "", **facts: Any) -> bytes:
        """Tell of itself, as having applied everything so far unless the facts say otherwise."""
        epoch = inline_store().epoch()
        now = time.time_ns() // 1000
        told = {
            "id": self.id,
            "host": "secret-host",
            "process": 1,
            "started_at": now,
            "heartbeat_at": now,
            "epoch": epoch.id,
            "position": epoch.number,
            **facts,
        }
        envelope = seal_report(keys(), signed_with or document_keys(), WorkerReport(**told))
        self.put(envelope, place=place)
        return envelope

    def put(self, envelope: bytes, *, place: str = "") -> None:
        """Write an envelope in its place."""
        self.redis.hset(keys().workers, place or self.id, envelope)
        self.redis.xadd(keys().acknowledged, {"worker": self.id}, maxlen=1, approximate=False)


@pytest.fixture
def api() -> Api:
    """A client of Alice's account."""
    return open_account("Alice's")[2]


@pytest.fixture
def worker(redis: "Redis") -> Worker:
    """A worker in the count that has applied everything so far."""
    found = Worker(redis)
    found.report()
    return found


@pytest.fixture
def following(redis: "Redis") -> Iterator[Callable[..., None]]:
    """Let workers apply whatever is published: `following(worker, worker)`."""
    is_over = threading.Event()

    with ExitStack() as stack:

        def follow(*workers: Worker) -> None:
            def keep_up() -> None:
                while not is_over.wait(0.005):
                    for one in workers:
                        one.report()

            thread = threading.Thread(target=keep_up)
            thread.start()
            stack.callback(thread.join)

        stack.callback(is_over.set)
        yield follow
        is_over.set()


def test_every_write_tells_the_version_that_has_it(api: Api) -> None:
    made = api.post("/access-keys", {"name": "a"})
    version = Publication.objects.get().version
    assert made[VERSION] == str(version)

    changed = api.patch(made.json()["uri"], {"name": "b"})
    assert int(changed[VERSION]) == Publication.objects.get().version > version

    # Nothing to publish: the account is where it was.
    assert api.patch(made.json()["uri"], {})[VERSION] == changed[VERSION]
    assert api.post("/api-keys", {})[VERSION] == changed[VERSION]
    first = api.post("/access-keys", {}, idempotency_key="k")
    gone = api.delete(made.json()["uri"])
    assert int(gone[VERSION]) > int(first[VERSION]) > int(changed[VERSION])
    # What the thread has written for somebody else is not this request's.
    assert open_account("Bob's")[2].post("/api-keys", {})[VERSION] != gone[VERSION]
    # The answer is the first one, and what it says of now is of now.
    assert api.post("/access-keys", {}, idempotency_key="k")[VERSION] == gone[VERSION]


def test_reads_questions_and_refusals_tell_no_version(api: Api) -> None:
    key = api.post("/access-keys", {}).json()

    for answer in (
        api.get(key["uri"], prefer="wait=1"),
        api.post(f"/access-keys/{key['id']}/explain", {"model": "openai:gpt-4o"}, prefer="wait=1"),
        api.post("/access-keys", {"nam": "a"}, prefer="wait=1"),
        api.delete("/access-keys/aigk_01h455vb4pex5vsknk084sn02q"),
    ):
        assert not {VERSION, APPLIED, PREFERENCE} & set(answer.headers)


def test_a_write_waits_until_all_workers_have_applied_it(
    api: Api, redis: "Redis", following: Callable[..., None]
) -> None:
    following(Worker(redis), Worker(redis), Worker(redis))

    made = api.post("/access-keys", {}, prefer="wait=10")

    assert (made[APPLIED], made[PREFERENCE]) == ("3/3", "wait=10")


def test_nobody_waits_longer_than_the_contract_allows_and_is_told_so(
    api: Api, worker: Worker, following: Callable[..., None]
) -> None:
    following(worker)

    assert api.post("/access-keys", {}, prefer="wait=3600")[PREFERENCE] == "wait=10"


def test_without_a_wish_a_write_does_not_wait(api: Api, worker: Worker) -> None:
    for header in ({}, {"prefer": "wait=soon"}, {"prefer": "respond-async"}):
        made = api.post("/access-keys", {}, **header)

        assert not {APPLIED, PREFERENCE} & set(made.headers)


def test_what_takes_trust_away_waits_unasked_unless_that_is_switched_off(
    api: Api, worker: Worker, following: Callable[..., None]
) -> None:
    key = api.post("/access-keys", {}).json()["uri"]
    upstream = api.post("/provider-keys", {"providerId": "openai", "name": "n", "value": "sk-0123456789abcdef"})
    rotation = f"/provider-keys/{upstream.json()['id']}/rotate"
    value = {"name": "n", "value": "sk-9876543210abcdef"}

    assert APPLIED not in api.patch(key, {"disabled": True}, prefer="wait=0").headers
    assert api.post(rotation, value, prefer="wait=0")[PREFERENCE] == "wait=0"
    assert APPLIED not in api.patch(key, {"disabled": False}).headers
    following(worker)
    for answer in (api.patch(key, {"disabled": True}), api.post(rotation, value), api.delete(key)):
        assert answer.status_code < 300
        assert answer[APPLIED] == "1/1"
        assert PREFERENCE not in answer.headers


def test_a_worker_that_is_silent_or_has_not_applied_the_write_ends_the_wait_uncounted(
    api: Api, redis: "Redis", following: Callable[..., None]
) -> None:
    good, refusing, elsewhere, silent, gone = (Worker(redis) for _ in range(5))
    me = read_account(api)
    silent.report()
    refusing.report(position=10**9, behind=(Behind(me, 0, 10**9),))
    elsewhere.report(position=10**9, epoch="another life")
    gone.report(heartbeat_at=time.time_ns() // 1000 - 4_000_000, staleness=1.0)
    following(good)

    assert api.post("/access-keys", {}, prefer="wait=1")[APPLIED] == "1/4"


def read_account(api: Api) -> str:
    return str(api.get("/gateway-config").json()["accountId"])


def test_a_worker_that_is_behind_with_another_account_or_another_publication_counts(api: Api, redis: "Redis") -> None:
    me = read_account(api)
    api.post("/access-keys", {})
    number = inline_store().epoch().number
    Worker(redis).report(behind=(Behind("ac_01h455vb4pex5vsknk084sn02q", 0, 10**9),))
    Worker(redis).report(behind=(Behind(me, 0, number - 1),))
    Worker(redis).report(behind=(Behind(ANY_ACCOUNT, 0, number),))

    # Nothing new: it waits for what is there.
    assert api.post("/api-keys", {}, prefer="wait=1")[APPLIED] == "2/3"


def test_more_accounts_than_a_report_holds_are_one_range_for_all() -> None:
    held = {f"ac_{number}": (number, number + 5) for number in range(MOST_BEHIND)}

    assert len(behind_of(held)) == MOST_BEHIND
    assert behind_of({**held, "one more": (3, 900)}) == (Behind(ANY_ACCOUNT, 0, 900),)


def test_what_no_worker_wrote_does_not_count(api: Api, redis: "Redis", worker: Worker) -> None:
    forger = DocumentKeys.parse(envelopes.generate_document_key())
    other, moved = Worker(redis), Worker(redis)
    other.report(position=10**9, signed_with=forger)
    moved.report(place=ids.to_text(ids.Prefix.WORKER, ids.new_id()))
    other.put(b"garbage", place="\xff")

    assert [report.id for report in read_workers().reports] == [worker.id]
    assert len(forget_silent_workers(patient_store())) == 3
    assert redis.hkeys(keys().workers) == [worker.id.encode()]


def test_a_silent_worker_stays_in_the_count_when_redis_loses_everything(redis: "Redis", worker: Worker) -> None:
    upkeep = Upkeep(patient_store(), threading.Event())
    upkeep.reconcile()
    redis.flushall()

    upkeep.reconcile()

    assert inline_store().epoch().is_complete
    assert [report.id for report in read_workers().reports] == [worker.id]


def test_the_relay_takes_out_of_the_count_who_was_silent_for_too_long(redis: "Redis", worker: Worker) -> None:
    Worker(redis).report(heartbeat_at=time.time_ns() // 1000 - 4_000_000, staleness=1.0)

    Upkeep(patient_store(), threading.Event()).forget_silent_workers()

    assert redis.hkeys(keys().workers) == [worker.id.encode()]


def test_an_older_report_put_back_takes_nothing_away_from_who_waits(api: Api, worker: Worker) -> None:
    older = worker.report()
    api.post("/access-keys", {})
    worker.report()
    assert api.post("/api-keys", {}, prefer="wait=1")[APPLIED] == "1/1"

    worker.put(older)

    assert api.post("/api-keys", {}, prefer="wait=1")[APPLIED] == "1/1"


def test_a_write_left_to_the_relay_waits_for_its_publication(
    api: Api, worker: Worker, following: Callable[..., None]
) -> None:
    api.post("/access-keys", {})
    before = Publication.objects.get().version
    following(worker)

    def sweep_later() -> None:
        time.sleep(0.3)
        Upkeep(patient_store(), threading.Event()).sweep()
        connection.close()

    relay = threading.Thread(target=sweep_later)
    pause.begin()
    relay.start()
    made = api.post("/access-keys", {}, prefer="wait=10")
    relay.join()

    assert made[APPLIED] == "1/1"
    assert int(made[VERSION]) == Publication.objects.get().version > before


def test_a_write_that_is_still_left_to_the_relay_tells_the_next_version_and_is_applied_nowhere(
    api: Api, worker: Worker
) -> None:
    api.post("/access-keys", {})
    before = Publication.objects.get().version
    worker.report(position=10**9)

    pause.begin()
    made = api.post("/access-keys", {}, prefer="wait=1")
    replayed = api.post("/api-keys", {})

    assert made.status_code == 201
    assert (made[APPLIED], made[VERSION], replayed[VERSION]) == ("0/1", str(before + 1), str(before + 1))


def test_without_workers_there_is_nobody_to_wait_for(api: Api) -> None:
    assert api.post("/access-keys", {}, prefer="wait=10")[APPLIED] == "0/0"


def test_a_redis_that_dies_ends_a_wait_with_the_count_that_is_known(
    api: Api, settings: LazySettings, worker: Worker
) -> None:
    api.post("/api-keys", {}, prefer="wait=1")
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    inline_store.cache_clear()

    key = api.post("/access-keys", {}, prefer="wait=1")

    assert key.status_code == 201
    assert key[APPLIED] == "0/1"


def test_who_waits_for_a_dead_worker_takes_the_threads_of_nobody_else(api: Api, worker: Worker) -> None:
    """A few wait for their whole time; whoever comes on top for a moment, which is enough while the workers live."""
    worker.report(position=0)
    what = waiting.AwaitedPublication(open_account("Bob's")[0], 1, 10**9)
    waiters = [threading.Thread(target=wait_aside, args=(what,)) for _ in range(propagation.MOST_WAITERS)]
    for waiter in waiters:
        waiter.start()
    wait_until(lambda: len(waiting._watch._waits) >= propagation.MOST_WAITERS, what="all places are taken")

    in_vain = api.post("/access-keys", {}, prefer="wait=5")
    worker.report(position=10**8)
    applied = api.post("/access-keys", {}, prefer="wait=5")

    assert in_vain.status_code == 201
    assert VERSION in in_vain.headers
    assert not {APPLIED, PREFERENCE} & set(in_vain.headers)
    assert applied[APPLIED] == "1/1"
    assert len(waiting._watch._waits) == propagation.MOST_WAITERS
    worker.report(position=10**9)
    for waiter in waiters:
        waiter.join()


def wait_aside(what: waiting.AwaitedPublication) -> None:
    waiting.wait(what, seconds=30)
    connection.close()


def test_who_waits_holds_no_connection_and_no_lock(api: Api, worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the transaction of the Idempotency-Key: the same request sent meanwhile is answered from the record."""
    held: list[bool] = []
    original = waiting._watch.wait

    def look(what: waiting.AwaitedPublication, seconds: float) -> waiting.WaitOutcome:
        held.append(connection.connection is not None)
        if len(held) == 1:
            again = Api(api.token).post("/access-keys", {}, idempotency_key="k", prefer="wait=0")
            assert again.status_code == 201
            held.append(transaction.get_connection().in_atomic_block)
            connection.close()
        return original(what, 0.05)

    monkeypatch.setattr(waiting._watch, "wait", look)

    made = api.post("/access-keys", {}, idempotency_key="k", prefer="wait=5")

    assert made.status_code == 201
    assert held == [False, False]
