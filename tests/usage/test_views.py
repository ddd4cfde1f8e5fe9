"""Holds: usage.views

`/usage`, `/usage/overview` and `/credits` on the wire.
"""

import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.models import Account
from accounts.principals import Principal
from gateway_core import base64url, ids
from gateway_core.usage_events import UsageEvent
from providers.models import Provider
from tests.events import an_event, text_id
from tests.fixtures import Api
from tests.usage.conftest import Emit
from usage import ledger, partitions
from usage.models import Period

PAST = "2020-01-01T00:00:00Z"


def wire(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def usage(api: Api, **query: Any) -> Any:
    answer = api.get(f"/usage?{urlencode({'startTime': PAST, **query})}")
    assert answer.status_code == 200, answer.content
    return answer.json()


def overview(api: Api, **query: Any) -> Any:
    answer = api.get(f"/usage/overview?{urlencode({'startTime': PAST, **query})}")
    assert answer.status_code == 200, answer.content
    return answer.json()


def shown_ids(body: Any) -> list[str]:
    return [event["id"] for event in body["aiGatewayUsage"]]


# ── /usage ──


def test_an_event_looks_as_the_contract_says(account: Account, api: Api, emit: Emit) -> None:
    at = datetime.now(UTC).replace(microsecond=123456) - timedelta(minutes=1)
    event = an_event(account, at=at, stop_reason="stop", cache_read_tokens=10, reasoning_tokens=3)
    emit([event])

    body = usage(api)

    assert body == {
        "aiGatewayUsage": [
            {
                "id": event.id,
                "eventTime": wire(at),
                "requestId": "req-1",
                "accessKeyId": event.access_key,
                "provider": "openai",
                "providerDisplayName": "OpenAI",
                "model": "gpt-4o",
                "modelDisplayName": "gpt 4o",
                "attemptNumber": 1,
                "isFinalAttempt": True,
                "statusCode": 200,
                "timedOut": False,
                "isError": False,
                "isStreaming": False,
                "stopReason": "stop",
                "inputTokens": 1000,
                "outputTokens": 100,
                "cacheReadTokens": 10,
                "reasoningTokens": 3,
                "totalCost": "0.00349",
                "keySource": "ngrok",
            }
        ],
        "uri": f"http://testserver/usage?{urlencode({'startTime': PAST})}",
        "nextPageUri": None,
    }


def test_an_event_of_a_worker_that_says_so_has_its_times(account: Account, api: Api, emit: Emit) -> None:
    at = datetime.now(UTC).replace(microsecond=500_000) - timedelta(minutes=1)
    requested_at = round(at.timestamp() * 1_000_000) - 250_000
    emit([an_event(account, at=at, requested_at=requested_at, duration_ms=1200, first_byte_ms=0)])

    (event,) = usage(api)["aiGatewayUsage"]

    assert (event["latencyMs"], event["firstByteMs"]) == (1450, 0)


def test_an_event_says_what_else_its_price_depends_on(account: Account, api: Api, emit: Emit) -> None:
    emit([an_event(account, model="gpt-audio", output_audio_tokens=60, service_tier="flex", usage_estimated=True)])

    (event,) = usage(api)["aiGatewayUsage"]

    assert (event["kinds"], event["serviceTier"], event["usageEstimated"]) == ({"outputAudioTokens": 60}, "flex", True)


def test_an_own_key_is_named_by_its_id_and_mask(account: Account, api: Api, emit: Emit) -> None:
    key = text_id(ids.Prefix.PROVIDER_KEY)
    emit([an_event(account, key_source="user", provider_key=key, mask="sk-proj-ab***wxyz")])

    (event,) = usage(api)["aiGatewayUsage"]

    assert event["keySource"] == "user"
    assert event["providerKeyId"] == key
    assert event["providerKeyDisplayName"] == "sk-proj-ab***wxyz"


def test_a_custom_provider_without_credentials_is_the_users_own_and_names_no_key(
    account: Account, principal: Principal, api: Api, emit: Emit
) -> None:
    Provider.objects.create(
        account=account, slug="my-ollama", name="Under the desk", base_url="x", created_by="", last_updated_by=""
    )
    emit([an_event(account, provider="my-ollama", model="llama3.2", key_source="none")])

    (event,) = usage(api)["aiGatewayUsage"]

    assert event["keySource"] == "user"
    assert {"providerKeyId", "providerKeyDisplayName"}.isdisjoint(event)
    assert (event["providerDisplayName"], event["modelDisplayName"]) == ("Under the desk", "llama3.2")
    assert event["totalCost"] == "0.00000"


def test_a_provider_that_is_gone_keeps_the_name_of_the_event(account: Account, api: Api, emit: Emit) -> None:
    emit([an_event(account, provider="long-gone", model="m", key_source="none")])

    assert usage(api)["aiGatewayUsage"][0]["providerDisplayName"] == "long-gone"


def test_only_final_attempts_are_listed_unless_asked_for(account: Account, api: Api, emit: Emit) -> None:
    at = timezone.now() - timedelta(minutes=1)
    first = an_event(account, at=at, is_final=False)
    last = an_event(account, at=at + timedelta(seconds=1), attempt=2)
    emit([first, last])

    assert shown_ids(usage(api)) == shown_ids(usage(api, includeRetries="false")) == [last.id]
    assert shown_ids(usage(api, includeRetries="true")) == [last.id, first.id]


def test_both_bounds_are_included(account: Account, api: Api, emit: Emit) -> None:
    at = datetime.now(UTC) - timedelta(hours=1)
    events = [an_event(account, at=at + timedelta(microseconds=step)) for step in (-1, 0, 1, 2)]
    emit(events)

    found = usage(api, startTime=wire(at), endTime=wire(at + timedelta(microseconds=1)))

    assert shown_ids(found) == [events[2].id, events[1].id]


def test_an_offset_is_understood_even_with_its_plus_unescaped(account: Account, api: Api, emit: Emit) -> None:
    at = datetime.now(UTC) - timedelta(hours=1)
    event = an_event(account, at=at)
    emit([event])
    local = (at + timedelta(hours=2)).replace(tzinfo=None).isoformat()

    answer = api.get(f"/usage?startTime={local}+02:00&endTime={local}%2B02:00")

    assert shown_ids(answer.json()) == [event.id]


def test_events_of_one_access_key(account: Account, api: Api, emit: Emit) -> None:
    mine, other = an_event(account), an_event(account)
    emit([mine, other])

    assert shown_ids(usage(api, accessKeyId=mine.access_key)) == [mine.id]
    assert shown_ids(usage(api, accessKeyId=text_id(ids.Prefix.ACCESS_KEY))) == []


def test_another_accounts_usage_does_not_exist(
    account: Account, api: Api, charlie: tuple[Account, Principal, Api], emit: Emit
) -> None:
    event = an_event(account)
    emit([event])
    ledger.grant(account=account, cents=500, category="purchase")
    stranger = charlie[2]

    assert shown_ids(usage(stranger)) == shown_ids(usage(stranger, accessKeyId=event.access_key)) == []
    assert overview(stranger)["buckets"] == []
    assert stranger.get("/credits/balance").json() == {"balanceCents": 0}
    assert len(stranger.get("/credits/transactions").json()["items"]) == 1


@pytest.mark.parametrize("same_time", [False, True])
def test_pages_hold_every_event_once_newest_first(account: Account, api: Api, emit: Emit, same_time: bool) -> None:
    at = datetime.now(UTC) - timedelta(hours=1)
    events = [an_event(account, at=at + timedelta(seconds=0 if same_time else step)) for step in range(23)]
    random.Random(5).shuffle(events)
    emit(events)

    found: list[str] = []
    uri = f"http://testserver/usage?{urlencode({'startTime': PAST, 'limit': 5, 'includeRetries': 'true'})}"
    pages = 0
    while uri:
        body = api.get(uri).json()
        assert body["uri"] == uri
        found += shown_ids(body)
        pages += 1
        uri = body["nextPageUri"]
        if uri:
            query = parse_qs(urlsplit(uri).query)
            assert (query["limit"], query["includeRetries"]) == (["5"], ["true"])

    assert pages == 5
    assert found == [event.id for event in sorted(events, key=lambda one: (one.time, one.id), reverse=True)]


def test_events_that_come_while_a_client_pages_change_no_page(account: Account, api: Api, emit: Emit) -> None:
    at = datetime.now(UTC) - timedelta(hours=1)
    old = [an_event(account, at=at + timedelta(seconds=step)) for step in range(4)]
    emit(old)
    first = usage(api, limit=2)
    emit([an_event(account)])

    assert shown_ids(api.get(first["nextPageUri"]).json()) == [old[1].id, old[0].id]


def cursor_of(raw: bytes) -> str:
    return base64url.encode(raw)


BAD_QUERIES = [
    {"startTime": None},
    {"startTime": ""},
    {"startTime": "yesterday"},
    {"startTime": "2026-01-01"},
    {"startTime": "2026-01-01T00:00:00"},
    {"startTime": "2026-13-01T00:00:00Z"},
    {"startTime": "1767225600"},
    {"startTime": "0001-01-01T00:00:00+14:00"},
    {"endTime": "tomorrow"},
    {"endTime": "2019-01-01T00:00:00Z"},
]
BAD_USAGE_QUERIES = [
    *BAD_QUERIES,
    {"limit": "0"},
    {"limit": "101"},
    {"limit": "many"},
    {"limit": "-1"},
    {"includeRetries": "yes"},
    {"includeRetries": ""},
    {"accessKeyId": "aigk_nothing"},
    {"accessKeyId": "aigpk_01h455vb4pex5vsknk084sn02q"},
    {"cursor": ""},
    {"cursor": "x"},
    {"cursor": "\x00" * 32},
    {"cursor": "A" * 32 + "="},
    {"cursor": cursor_of(b"\xff" * 24)},
    {"cursor": cursor_of(b"\x01" * 24)},
    {"cursor": cursor_of(b"\x00" * 23)},
    {"cursor": cursor_of((2**48 * 1000 - 1).to_bytes(8, "big") + b"\xff" * 16)},
]


@pytest.mark.parametrize("query", BAD_USAGE_QUERIES)
def test_a_bad_query_is_400_and_names_the_parameter(api: Api, query: dict[str, str | None]) -> None:
    ((name, _),) = query.items()
    given = {key: value for key, value in {"startTime": PAST, **query}.items() if value is not None}

    answer = api.get(f"/usage?{urlencode(given)}")

    assert answer.status_code == 400, answer.content
    assert answer.json()["errorCode"] == "query_invalid"
    assert list(answer.json()["details"]) == [name]


@pytest.mark.parametrize("query", [*BAD_QUERIES, {"groupBy": "model"}, {"groupBy": ""}, {"groupBy": "Provider"}])
def test_a_bad_overview_query_is_400_and_names_the_parameter(api: Api, query: dict[str, str | None]) -> None:
    ((name, _),) = query.items()
    given = {key: value for key, value in {"startTime": PAST, **query}.items() if value is not None}

    answer = api.get(f"/usage/overview?{urlencode(given)}")

    assert answer.status_code == 400
    assert list(answer.json()["details"]) == [name]


@pytest.mark.parametrize("path", ["/usage", "/usage/overview"])
def test_a_parameter_given_twice_is_400(api: Api, path: str) -> None:
    assert api.get(f"{path}?startTime={PAST}&startTime={PAST}").status_code == 400


@pytest.mark.parametrize(
    "path",
    [f"/usage?startTime={PAST}", f"/usage/overview?startTime={PAST}", "/credits/balance", "/credits/transactions"],
)
def test_head_tells_what_get_would(api: Api, path: str) -> None:
    answer = api.request("HEAD", path)

    assert answer.status_code == 200
    assert answer.content == b""
    assert api.request("DELETE", path.partition("?")[0]).status_code == 405
    assert Api().get(path).status_code == 401


def test_a_page_reads_one_range_of_an_index(account: Account, api: Api, emit: Emit) -> None:
    emit([an_event(account)])

    with CaptureQueriesContext(connection) as queries:
        usage(api)

    (statement,) = [query["sql"] for query in queries if "usage_event" in query["sql"]]
    assert "OFFSET" not in statement
    assert "COUNT" not in statement


def test_attempts_that_were_not_final_are_not_read_for_a_page_of_final_ones(account: Account, api: Api) -> None:
    partitions.make_ahead()
    key = ids.new_id()
    with connection.cursor() as cursor:
        cursor.execute(MANY_RETRIES, [account.id, key])
        cursor.execute(MANY_RETRIES, [ids.new_id(), ids.new_id()])  # a neighbour's
        cursor.execute("ANALYZE usage_event")
    with CaptureQueriesContext(connection) as queries:
        assert len(usage(api)["aiGatewayUsage"]) == 10
        assert len(usage(api, accessKeyId=ids.to_text(ids.Prefix.ACCESS_KEY, key))["aiGatewayUsage"]) == 10

    for statement in [query["sql"] for query in queries if "usage_event" in query["sql"]]:
        with connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}")
            plan = cursor.fetchone()[0]
        scans = [node for node in nodes_of(plan[0]["Plan"]) if node["Node Type"].endswith("Scan")]
        assert sum(node.get("Rows Removed by Filter", 0) for node in scans) == 0, plan
        assert sum(node["Actual Rows"] for node in scans) <= 20, plan


# 3,000 attempts of a minute, ten of them final.
MANY_RETRIES = """
INSERT INTO usage_event (id, event_time, account_id, access_key_id, attempt, is_final, status, input_tokens,
    output_tokens, cache_read_tokens, cache_write_tokens, reasoning_tokens, cost, charge, duration_ms, timed_out,
    is_error, is_streaming, key_source, request_id, provider, model, requested_model, stop_reason)
SELECT gen_random_uuid(), now() - make_interval(secs => n / 50.0), %s, %s, 1, n %% 300 = 0, 500, 0, 0, 0, 0, 0, 0, 0, 1,
    false, true, false, 'user', 'r', 'openai', 'gpt-4o', 'gpt-4o', ''
FROM generate_series(1, 3000) n
"""


def nodes_of(plan: Any) -> Iterator[Any]:
    yield plan
    for inner in plan.get("Plans", ()):
        yield from nodes_of(inner)


# ── /usage/overview ──


def brute_force(events: Sequence[UsageEvent], start: datetime, end: datetime | None, by: str) -> list[tuple[Any, ...]]:
    costs: dict[tuple[str, str], Decimal] = defaultdict(Decimal)
    counts: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
    for event in events:
        moment = datetime.fromtimestamp(event.time // 1_000_000, UTC) + timedelta(microseconds=event.time % 1_000_000)
        if moment < start or (end is not None and moment > end):
            continue
        key = event.provider if by == "provider" else event.access_key
        bucket = f"{moment:%Y-%m-%d}T00:00:00Z", key
        costs[bucket] += Decimal("2.5") * event.input_tokens / 10**6 + Decimal(10) * event.output_tokens / 10**6
        counts[bucket][0] += event.is_final
        counts[bucket][1] += event.is_final and event.is_error
    return [
        (day, key, str(costs[day, key].quantize(Decimal("0.00001"))), *counts[day, key]) for day, key in sorted(costs)
    ]


def test_an_overview_is_exact_wherever_its_bounds_cut(account: Account, api: Api, emit: Emit) -> None:
    chance = random.Random(7)
    now = datetime.now(UTC)
    keys = [text_id(ids.Prefix.ACCESS_KEY) for _ in range(3)]
    edges = [now - timedelta(days=3) + timedelta(hours=step) for step in range(70)]
    moments = [
        *(now - timedelta(seconds=chance.uniform(1, 4 * 86_400)) for _ in range(400)),
        *(
            edge.replace(minute=0, second=0, microsecond=0) + timedelta(microseconds=chance.randint(-1, 1))
            for edge in edges
        ),
    ]
    events = [
        an_event(
            account,
            at=moment,
            access_key=chance.choice(keys),
            provider=chance.choice(["openai", "openai", "openai"]),
            is_final=chance.random() < 0.7,
            is_error=chance.random() < 0.3,
            input_tokens=chance.randint(1, 10_000),
        )
        for moment in moments
    ]
    emit(events)
    bounds: list[tuple[datetime, datetime | None]] = [(now - timedelta(days=30), None), (now - timedelta(days=30), now)]
    for _ in range(60):
        low, high = sorted(chance.choice(moments) + timedelta(microseconds=chance.randint(-1, 1)) for _ in range(2))
        bounds += [(low, high), (low, None), (low, low)]
    for _ in range(20):
        whole = chance.choice(edges).replace(minute=0, second=0, microsecond=0)
        bounds += [(whole, whole + timedelta(hours=chance.randint(0, 40))), (whole.replace(hour=0), whole)]

    for by in ("provider", "accessKey"):
        for start, end in bounds:
            query = {"startTime": wire(start), "groupBy": by} | ({"endTime": wire(end)} if end else {})
            body = overview(api, **query)

            buckets = [tuple(bucket.values()) for bucket in body["buckets"]]
            assert buckets == brute_force(events, start, end, by), (start, end, by)
            assert body["totals"]["requests"] == sum(bucket[3] for bucket in buckets)
            assert body["totals"]["errors"] == sum(bucket[4] for bucket in buckets)


def test_an_overview_looks_as_the_contract_says(account: Account, api: Api, emit: Emit) -> None:
    at = datetime.now(UTC) - timedelta(days=2)
    emit(
        [
            an_event(account, at=at),
            an_event(account, at=at, provider="anthropic", model="claude-sonnet-4-5", is_error=True),
        ]
    )
    day = f"{at:%Y-%m-%d}T00:00:00Z"

    assert overview(api) == {
        "uri": f"http://testserver/usage/overview?{urlencode({'startTime': PAST})}",
        "buckets": [
            {"bucketStart": day, "groupKey": "anthropic", "cost": "0.00450", "requests": 1, "errors": 1},
            {"bucketStart": day, "groupKey": "openai", "cost": "0.00350", "requests": 1, "errors": 0},
        ],
        "totals": {"cost": "0.00800", "requests": 2, "errors": 1},
    }


def test_an_overview_of_nothing_is_empty(api: Api) -> None:
    for query in ({}, {"startTime": "9999-12-31T23:59:59Z"}, {"endTime": "9999-12-31T23:59:59.999999Z"}):
        body = overview(api, **query)

        assert body["buckets"] == []
        assert body["totals"] == {"cost": "0.00000", "requests": 0, "errors": 0}
    assert overview(api, startTime="0001-01-01T00:00:00Z")["buckets"] == []


# ── /credits ──


def test_the_balance_is_whole_cents_and_never_too_many(account: Account, api: Api, emit: Emit) -> None:
    assert api.get("/credits/balance").json() == {"balanceCents": 0}
    ledger.grant(account=account, cents=500, category="purchase")
    emit([an_event(account)])

    assert api.get("/credits/balance").json() == {"balanceCents": 499}


def test_transactions_look_as_the_contract_says(account: Account, api: Api, emit: Emit) -> None:
    expires = datetime(2099, 1, 1, tzinfo=UTC)
    bought = ledger.grant(account=account, cents=500, category="purchase")
    given = ledger.grant(account=account, cents=100, category="promotional", expires_at=expires)
    emit([an_event(account, input_tokens=1_000_000, output_tokens=0)])

    preview, *grants = api.get("/credits/transactions").json()["items"]

    now = datetime.now(UTC)
    month = datetime(now.year, now.month, 1, tzinfo=UTC)
    assert preview.pop("createdAt") >= wire(now - timedelta(seconds=30))
    assert preview == {
        "type": "usageInvoicePreview",
        "periodStart": wire(month),
        "periodEnd": wire((month + timedelta(days=32)).replace(day=1)),
        "totalCents": 250,
        "appliedCreditsCents": 250,
        "amountDueCents": 0,
        "amountPaidCents": 0,
        "amountRemainingCents": 0,
    }
    assert grants == [
        {
            "type": "credits",
            "amountCents": 100,
            "category": "promotional",
            "expiresAt": "2099-01-01T00:00:00Z",
            "createdAt": wire(given.created_at),
        },
        {
            "type": "credits",
            "amountCents": 500,
            "category": "purchase",
            "expiresAt": None,
            "createdAt": wire(bought.created_at),
        },
    ]


def test_a_closed_month_is_an_invoice_without_a_document(account: Account, api: Api) -> None:
    Period.objects.create(
        account=account, start=datetime(2026, 1, 1, tzinfo=UTC), charged=Decimal("12.6"), applied=10, paid=1
    )

    invoice = api.get("/credits/transactions").json()["items"][1]

    assert invoice == {
        "type": "usageInvoice",
        "createdAt": "2026-02-01T00:00:00Z",
        "periodStart": "2026-01-01T00:00:00Z",
        "periodEnd": "2026-02-01T00:00:00Z",
        "invoiceUrl": None,
        "totalCents": 13,
        "appliedCreditsCents": 10,
        "amountDueCents": 3,
        "amountPaidCents": 1,
        "amountRemainingCents": 2,
    }
