"""Holds: account_settings.limits, account_settings.limit_forms, account_settings.limit_counts

Limits of access keys and of the account: how they are written, shown and published, and what is used of them.
"""

import time
from typing import Any

import pytest
from redis import Redis

from access_keys.models import AccessKey
from access_keys.snapshot_documents import build
from account_settings import snapshot_documents
from accounts.models import Account
from audit.models import Event
from gateway_core.limits import names
from gateway_core.limits.limit import DOLLAR, Measure, Mode, Period, identity
from gateway_core.limits.names import CountName
from gateway_core.limits.windows import window_at
from snapshots.redis_client import keys
from tests.fixtures import Api

pytestmark = pytest.mark.django_db

MONTHLY = {"measure": "cost", "amount": "50.00", "window": "month", "timeZone": "Europe/Berlin"}
AT_ONCE = {"measure": "concurrency", "amount": 4}
A_MINUTE = {"measure": "requests", "amount": 20, "window": "minute", "mode": "observe"}
NIGHT = {
    "measure": "tokens",
    "amount": 1000,
    "window": "day",
    "counts": {"providers": ["openai"], "models": ["gpt-4o"], "keySources": ["user"]},
    "overrides": [{"amount": 9000, "until": "2040-01-01T00:00:00Z", "reason": "the big night"}],
}


def without_state(limits: list[dict[str, Any]]) -> list[dict[str, Any]]:
    state = {"used", "reserved", "remaining", "resetsAt"}
    return [{name: value for name, value in one.items() if name not in state} for one in limits]


def test_a_key_without_limits_does_not_show_the_field(api: Api) -> None:
    made = api.post("/access-keys", {"name": "app"}).json()

    assert "limits" not in made
    assert not {"limits", "accessKeyLimits"} & api.get("/gateway-config").json().keys()


def test_limits_are_read_back_as_they_were_written(api: Api) -> None:
    written = [MONTHLY, AT_ONCE, A_MINUTE, NIGHT]
    made = api.post("/access-keys", {"limits": written}).json()

    assert without_state(made["limits"]) == written
    assert without_state(api.get(f"/access-keys/{made['id']}").json()["limits"]) == written
    (listed,) = api.get("/access-keys").json()["aiGatewayAccessKeys"]
    assert without_state(listed["limits"]) == written
    # As it was read, it may be sent back.
    answer = api.patch(f"/access-keys/{made['id']}", {"limits": listed["limits"]})
    assert answer.status_code == 200
    assert api.patch(f"/access-keys/{made['id']}", {"limits": []}).json()["limits"] == []
    assert "limits" not in api.patch(f"/access-keys/{made['id']}", {"limits": None}).json()


def test_the_accounts_limits_are_read_back_as_they_were_written(api: Api) -> None:
    answer = api.patch("/gateway-config", {"limits": [MONTHLY], "accessKeyLimits": [A_MINUTE]})

    assert answer.status_code == 200
    assert without_state(api.get("/gateway-config").json()["limits"]) == [MONTHLY]
    assert api.get("/gateway-config").json()["accessKeyLimits"] == [A_MINUTE]


@pytest.mark.parametrize(
    ("limit", "place"),
    [
        ({}, "measure"),
        ({"measure": "money", "amount": 1, "window": "day"}, "measure"),
        ({"measure": "requests", "window": "day"}, "amount"),
        ({"measure": "requests", "amount": 1}, "window"),
        ({"measure": "requests", "amount": 1, "window": "fortnight"}, "window"),
        ({"measure": "concurrency", "amount": 1, "window": "day"}, "window"),
        ({"measure": "requests", "amount": 0, "window": "day"}, "amount"),
        ({"measure": "requests", "amount": "5", "window": "day"}, "amount"),
        ({"measure": "requests", "amount": True, "window": "day"}, "amount"),
        ({"measure": "requests", "amount": 1_000_001, "window": "minute"}, "amount"),
        ({"measure": "cost", "amount": 5, "window": "day"}, "amount"),
        ({"measure": "cost", "amount": "0", "window": "day"}, "amount"),
        ({"measure": "cost", "amount": "1e3", "window": "day"}, "amount"),
        ({"measure": "cost", "amount": "-1", "window": "day"}, "amount"),
        ({"measure": "cost", "amount": "NaN", "window": "day"}, "amount"),
        ({"measure": "cost", "amount": "1.000001", "window": "day"}, "amount"),
        ({"measure": "cost", "amount": "1000001", "window": "day"}, "amount"),
        ({"measure": "cost", "amount": "1", "window": "day", "timeZone": "Mars/Base"}, "timeZone"),
        ({"measure": "cost", "amount": "1", "window": "hour", "timeZone": "Europe/Berlin"}, "timeZone"),
        ({"measure": "cost", "amount": "1", "window": "day", "mode": "warn"}, "mode"),
        ({"measure": "cost", "amount": "1", "window": "day", "counts": {"providers": []}}, "counts.providers"),
        (
            {"measure": "cost", "amount": "1", "window": "day", "counts": {"keySources": ["none"]}},
            "counts.keySources[0]",
        ),
        ({"measure": "cost", "amount": "1", "window": "day", "colour": 1}, "colour"),
        (
            {
                "measure": "cost",
                "amount": "1",
                "window": "day",
                "overrides": [{"amount": 5, "until": "2040-01-01T00:00:00Z", "reason": "x"}],
            },
            "overrides[0].amount",
        ),
        ({"measure": "cost", "amount": "1", "window": "day", "overrides": [{"amount": "5"}]}, "overrides[0].until"),
    ],
)
def test_a_limit_whose_members_do_not_go_together_is_refused_at_its_path(api: Api, limit: Any, place: str) -> None:
    refused = api.post("/access-keys", {"limits": [AT_ONCE, limit]})

    assert refused.status_code == 422
    assert f"limits[1].{place}" in refused.json()["details"]
    assert api.patch("/gateway-config", {"accessKeyLimits": [limit]}).status_code == 422


def test_two_limits_that_count_the_same_and_more_than_ten_are_refused(api: Api) -> None:
    twice = api.post("/access-keys", {"limits": [MONTHLY, {**MONTHLY, "amount": "7"}]})
    assert (twice.status_code, list(twice.json()["details"])) == (422, ["limits[1].measure"])
    many = [{"measure": "requests", "amount": 1, "window": "day", "counts": {"models": [str(n)]}} for n in range(11)]
    assert api.post("/access-keys", {"limits": many}).status_code == 422
    assert api.post("/access-keys", {"limits": many[:10]}).status_code == 201


def test_a_workers_document_has_the_limits_and_must_be_understood(api: Api, account: Account) -> None:
    plain = AccessKey.objects.get(digest=_digest(api.post("/access-keys", {}).json()["token"]))
    limited = AccessKey.objects.get(digest=_digest(api.post("/access-keys", {"limits": [MONTHLY]}).json()["token"]))

    assert build(account, plain).limits is None
    assert not build(account, plain).must_understand
    document = build(account, limited)
    assert document.must_understand == ("limits",)
    (limit,) = document.limits or ()
    assert (limit.measure, limit.amount, limit.period, limit.time_zone, limit.mode, limit.since) == (
        Measure.COST,
        50 * DOLLAR,
        Period.MONTH,
        "Europe/Berlin",
        Mode.ENFORCE,
        0,
    )
    api.patch("/gateway-config", {"limits": [NIGHT]})
    settings = snapshot_documents.build(account)
    assert settings is not None
    assert settings.limits[0].overrides[0].amount == 9000
    assert settings.limits[0].since > 0


def _digest(token: str) -> str:
    from gateway_core import tokens

    return tokens.digest(token)


def test_counting_goes_on_when_an_amount_changes_and_begins_when_a_limit_does(api: Api) -> None:
    made = api.post("/access-keys", {"limits": [MONTHLY]}).json()
    api.patch(f"/access-keys/{made['id']}", {"limits": [{**MONTHLY, "amount": "70"}, A_MINUTE]})

    stored = AccessKey.objects.get(digest=_digest(made["token"])).limits

    assert [one["since"] > 0 for one in stored] == [False, True]


def test_a_change_of_limits_is_audited_with_the_reason_of_an_override(api: Api) -> None:
    made = api.post("/access-keys", {"limits": [MONTHLY]}).json()
    api.patch(f"/access-keys/{made['id']}", {"limits": [NIGHT]})

    event = Event.objects.order_by("-id").first()

    assert event is not None
    assert "the big night" in str(event.changes)


def test_a_read_shows_what_is_used_as_redis_counts_it(api: Api, redis: Redis) -> None:
    made = api.post("/access-keys", {"limits": [MONTHLY, AT_ONCE]}).json()
    row = AccessKey.objects.get(digest=_digest(made["token"]))
    monthly, at_once = (build(row.account, row).limits) or ()
    now = time.time_ns() // 1000
    window = window_at(monthly, now)
    redis.hset(keys().epoch, mapping={"id": "e1", "complete": 1, "number": 0})
    redis.hset(names.marker(keys()), mapping={"epoch": "e1", "since": now, "seen": now})
    # Redis has counted since this moment only, and the window began earlier: what was used is not known.
    row.id = row.id
    redis.hset(
        names.count(keys(), CountName(made["id"], identity(monthly), window.start // 1_000_000)),
        mapping={
            "epoch": "e1",
            "opened": 1,
            "base": 12 * DOLLAR,
            "w:worker.1": f"5 {9 * DOLLAR} {2 * DOLLAR} {DOLLAR} {now + 10_000_000}",
            "k:worker.1": DOLLAR // 2,
        },
    )
    redis.hset(
        names.count(keys(), CountName(made["id"], identity(at_once), 0)),
        mapping={"epoch": "e1", "opened": 1, "w:worker.1": f"5 3 0 3 {now + 10_000_000}"},
    )

    shown, places = api.get(f"/access-keys/{made['id']}").json()["limits"]

    assert shown["used"] == "13.50000"
    assert shown["reserved"] == "1.00000"
    assert shown["remaining"] == "35.50000"
    assert shown["resetsAt"].endswith("Z")
    assert (places["used"], places["reserved"], places["remaining"]) == (0, 3, 1)
    assert "resetsAt" not in places
    (listed,) = api.get("/access-keys").json()["aiGatewayAccessKeys"]
    assert listed["limits"][0]["used"] == "13.50000"


def test_what_is_not_known_is_not_shown_as_zero(api: Api, redis: Redis) -> None:
    now = time.time_ns() // 1000
    old = api.patch("/gateway-config", {"limits": [MONTHLY]}).json()["limits"]
    assert without_state(old) == old, "Redis holds no epoch"
    redis.hset(keys().epoch, mapping={"id": "e1", "complete": 1, "number": 0})
    redis.hset(names.marker(keys()), mapping={"epoch": "e1", "since": now, "seen": now})
    (unknown,) = api.get("/gateway-config").json()["limits"]
    assert "used" not in unknown

    new = api.post("/access-keys", {"limits": [MONTHLY]}).json()

    assert new["limits"][0]["used"] == "0.00000"
    assert new["limits"][0]["remaining"] == "50.00000"


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("amount", "\u0665"),
        ("amount", ".5"),
        ("amount", "5."),
        ("amount", "1e2"),
        ("amount", "+5"),
        ("amount", "5.123456"),
    ]
    + [("timeZone", name) for name in ("localtime", "posixrules", "right/UTC", "posix/UTC", "Nowhere/Land")],
)
def test_a_limit_says_the_same_on_every_machine(api, member, value):
    limit = {"measure": "cost", "amount": "50.00", "window": "month"} | {member: value}

    refused = api.post("/access-keys", {"limits": [limit]})

    assert refused.status_code == 422
    assert list(refused.json()["details"]) == [f"limits[0].{member}"]


@pytest.mark.parametrize("name", ["OpenAI", "moonshotai", "aigp_01h455vb4pex5vsknk084sn02q", "not a name"])
def test_a_limit_counts_no_provider_under_a_name_that_no_attempt_has(api, name):
    limit = {"measure": "requests", "amount": 1, "window": "day", "counts": {"providers": ["openai", name]}}

    refused = api.post("/access-keys", {"limits": [limit]})

    assert refused.status_code == 422
    assert list(refused.json()["details"]) == ["limits[0].counts.providers[1]"]


def test_empty_members_of_a_limit_are_read_back(api):
    limit = {"measure": "requests", "amount": 5, "window": "day", "counts": {}, "overrides": []}

    made = api.post("/access-keys", {"limits": [limit]}).json()

    (read,) = api.get(f"/access-keys/{made['id']}").json()["limits"]
    assert {name: read[name] for name in limit} == limit
