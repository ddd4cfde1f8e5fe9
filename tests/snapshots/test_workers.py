"""Holds: snapshots.workers

The list of workers: everything about them that an account may know, and nothing of its neighbours or of hosts.
"""

from collections.abc import Callable
from io import StringIO
from typing import Any

import pytest
from django.conf import LazySettings
from django.core.management import CommandError, call_command
from redis import Redis

from accounts.models import Account
from gateway_core.worker_reports import Behind, Refusal
from snapshots.redis_client import inline_store, keys
from tests.fixtures import Api, open_account
from tests.snapshots.test_waiting import Worker

pytestmark = pytest.mark.usefixtures("_live")

NEIGHBOUR = "ac_01h455vb4pex5vsknk084sn02q"


@pytest.fixture
def alices() -> tuple[Account, Api]:
    """Alice's account and a client of it."""
    account, _, api = open_account("Alice's")
    return account, api


def listed(api: Api, query: str = "") -> Any:
    answer = api.get(f"/data-plane/workers{query}")
    assert answer.status_code == 200, answer.content
    return answer.json()


def test_the_workers_are_listed_newest_first_and_paged(alices: tuple[Account, Api], redis: "Redis") -> None:
    _, api = alices
    workers = [Worker(redis) for _ in range(3)]
    for worker in workers:
        worker.report()
    newest_first = [worker.id for worker in reversed(workers)]

    first = listed(api, "?limit=2")
    second = listed(api, first["nextPageUri"].partition("/data-plane/workers")[2])

    assert [one["id"] for one in first["aiGatewayWorkers"]] == newest_first[:2]
    assert [one["id"] for one in second["aiGatewayWorkers"]] == newest_first[2:]
    assert second["nextPageUri"] is None
    assert api.get("/data-plane/workers?beforeId=aigk_01h455vb4pex5vsknk084sn02q").status_code == 400


def test_a_worker_tells_how_far_it_is_and_whether_the_account_is_in_force(
    alices: tuple[Account, Api], redis: "Redis"
) -> None:
    account, api = alices
    api.post("/access-keys", {})
    number = inline_store().epoch().number
    Worker(redis).report(requests=7, is_in_sync=True, in_sync_at=1, release="9.9", staleness=60.0, position=number - 1)
    Worker(redis).report(behind=(Behind(account.text_id, number, number),))
    Worker(redis).report(epoch="another life")
    Worker(redis).report()

    good, elsewhere, refusing, slow = listed(api)["aiGatewayWorkers"]

    assert (slow["lag"], slow["inSync"], slow["requests"], slow["release"]) == (1, True, 7, "9.9")
    assert slow["stalenessLimitSeconds"] == 60
    assert slow["staleSeconds"] > 10**9
    assert (elsewhere["lag"], elsewhere["staleSeconds"]) == (None, None)
    assert 0 <= good["heartbeatAgeSeconds"] < 60
    found = [one["accountApplied"] for one in (good, elsewhere, refusing, slow)]
    assert found == [True, False, False, False]


def test_an_account_sees_the_places_of_its_own_refusals_only_and_never_a_host(
    alices: tuple[Account, Api], redis: "Redis"
) -> None:
    account, api = alices
    places = [
        f"{keys().account(account.text_id)} settings",
        f"{keys().changes} {account.text_id}",
        f"{keys().account(NEIGHBOUR)} settings",
        f"{keys().account(NEIGHBOUR)} {account.text_id}",
        f"{keys().changes} {NEIGHBOUR}",
        f"{keys().token('0' * 64)}",
    ]
    refusals = tuple(Refusal(location=place, reason="why", refused_at=1) for place in places)
    Worker(redis).report(refusals=9, last_refusals=refusals, behind=(Behind(NEIGHBOUR, 1, 2),))

    answer = api.get("/data-plane/workers")

    told = answer.json()["aiGatewayWorkers"][0]["refusals"]
    assert told["count"] == 9
    assert [one.get("location") for one in told["newest"]] == [None, None, None, None, places[1], places[0]]
    assert all(one["reason"] == "why" for one in told["newest"])
    for hidden in (NEIGHBOUR, "secret-host", "0" * 64):
        assert hidden not in answer.content.decode()


def test_without_redis_the_workers_are_unknown_and_that_is_said(
    alices: tuple[Account, Api], settings: LazySettings, assert_refused: Callable[..., Any]
) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    inline_store.cache_clear()

    assert_refused(alices[1].get("/data-plane/workers"), 503, "workers_unknown")


def test_an_operator_lists_workers_with_their_hosts_and_forgets_one(redis: "Redis") -> None:
    kept, gone = Worker(redis), Worker(redis)
    kept.report()
    gone.report(host="old-host")

    call_command("forget_worker", gone.id)

    told = StringIO()
    call_command("workers", stdout=told)
    assert "secret-host" in told.getvalue()
    assert kept.id in told.getvalue()
    assert gone.id not in told.getvalue()
    with pytest.raises(CommandError, match=gone.id):
        call_command("forget_worker", gone.id)
