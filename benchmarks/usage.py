"""How fast usage is written and read, on throw-away servers: `make bench-usage`.

python -m benchmarks.usage [--events 10000000] [--ingest 200000]

First it sends events through Redis and measures their ingest. Then it loads events of 90 days by COPY, half of them of
one account, and measures `/usage` and `/usage/overview` as that account's client sees them.
"""

import argparse
import logging
import os
import random
import statistics
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import urlencode

import psutil

from gateway_core import envelopes, sealing
from local.embedded import PostgresServer, RedisServer

DAYS: Final = 90
ACCOUNTS: Final = 20
ACCESS_KEYS: Final = 50
PROVIDERS: Final = ("openai", "openai", "openai", "anthropic", "anthropic", "google", "groq", "my-ollama")
ROUNDS: Final = 200
CHUNK: Final = 20_000


def main() -> None:
    """Start the servers and print the measurements."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--ingest", type=int, default=200_000)
    options = parser.parse_args()
    memory = psutil.virtual_memory().total / 2**30
    print(f"{os.cpu_count()} cores, {memory:.0f} GiB; load {os.getloadavg()[0]:.1f} before we begin")
    with PostgresServer() as postgres, RedisServer() as redis:
        os.environ |= {
            "DJANGO_SETTINGS_MODULE": "gateway_admin.settings",
            "GATEWAY_MODE": "evaluation",
            "ALLOWED_HOSTS": "testserver",
            "DATABASE_URL": postgres.url,
            "REDIS_URL": redis.url,
            "SECRET_KEY": "x" * 48,
            "DOCUMENT_KEYS": envelopes.generate_document_key(),
            "SEALING_PUBLIC_KEY": sealing.public_key_of(sealing.generate_private_key()),
        }
        import django

        django.setup()
        # Writing the log would count in the measured times.
        logging.disable(logging.WARNING)
        from django.core.management import call_command
        from django.db import connection

        call_command("migrate", verbosity=0)
        measure_ingest(options.ingest)
        load(options.events)
        measure_reading()
        connection.close()
        connection.close_pool()  # type: ignore[attr-defined]


def measure_ingest(count: int) -> None:
    """Measure the rate of ingest: from Redis to committed events, with sums and charges."""
    import msgspec

    from accounts.models import Account
    from gateway_core import ids
    from gateway_core.usage_events import BATCH_FIELD, UsageEvent, event_id, seal_events
    from snapshots.redis_client import document_keys, keys, patient_store
    from usage import ledger
    from usage.ingest import Ingest
    from usage.models import Event

    chance = random.Random(1)
    accounts = [Account.objects.create(name=f"a{number}") for number in range(ACCOUNTS)]
    for account in accounts:
        ledger.grant(account=account, cents=10_000, category="purchase")
    access_keys = {
        account.id: [ids.to_text(ids.Prefix.ACCESS_KEY, ids.new_id()) for _ in range(10)] for account in accounts
    }
    now = time.time_ns() // 1000

    def an_event(number: int) -> UsageEvent:
        moment = now - (count - number) * 250
        account = chance.choice(accounts)
        return UsageEvent(
            id=event_id(moment),
            time=moment,
            request_id=f"req_{number:024x}",
            account=account.text_id,
            access_key=chance.choice(access_keys[account.id]),
            provider="openai",
            model=chance.choice(["gpt-4o", "gpt-4o-mini", "gpt-4.1"]),
            requested_model="gpt-4o",
            attempt=1,
            is_final=True,
            key_source="ngrok",
            status=200,
            stop_reason="stop",
            input_tokens=chance.randint(1, 20_000),
            output_tokens=chance.randint(1, 4000),
            cache_read_tokens=0,
            duration_ms=900,
        )

    redis = patient_store().redis
    for start in range(0, count, 200):
        events = [msgspec.json.encode(an_event(number)) for number in range(start, min(start + 200, count))]
        redis.xadd(keys().usage, {BATCH_FIELD: seal_events(keys(), document_keys(), "w", events, version=now)})
    began, busy = time.perf_counter(), time.process_time()
    added = Ingest(redis).run(seconds=3600)
    took, worked = time.perf_counter() - began, time.process_time() - busy
    assert added == count == Event.objects.count()
    print(
        f"ingest of {count:,} events through Redis, one process: {took:.1f} s, {count / took:,.0f} events/s "
        f"({worked:.1f} s of them in this process)"
    )


def load(count: int) -> None:
    """Load events of the last 90 days by COPY, and make their sums with one statement."""
    from django.db import connection, transaction

    from accounts.models import Account
    from gateway_core import ids
    from usage import ingest, partitions

    account = Account.objects.create(name="large")
    accounts = [account, *(Account.objects.create(name=f"b{number}") for number in range(ACCOUNTS))]
    end = datetime.now(UTC) - timedelta(minutes=1)
    start = end - timedelta(days=DAYS)
    month = partitions.month_of(start)
    while month <= end:
        partitions.make([month])
        month = partitions.following(month)
    began = time.perf_counter()
    rows = _rows(count, accounts, start, end, [str(ids.new_id()) for _ in range(ACCESS_KEYS)])
    with transaction.atomic(), connection.cursor() as cursor:
        with cursor.copy(f"COPY usage_event ({ingest.COLUMNS}) FROM STDIN") as copy:
            for chunk in rows:
                copy.write(chunk)
        copied = time.perf_counter()
        cursor.execute(ingest.SUM_ALL, [start])
    print(f"{count:,} events by COPY: {copied - began:.0f} s; their sums: {time.perf_counter() - copied:.0f} s")
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE usage_event, usage_rollup")
        cursor.execute(
            "SELECT pg_size_pretty(sum(pg_total_relation_size(inhrelid))) FROM pg_inherits "
            "WHERE inhparent = 'usage_event'::regclass"
        )
        (size,) = cursor.fetchone()
        cursor.execute("SELECT count(*), pg_size_pretty(pg_total_relation_size('usage_rollup')) FROM usage_rollup")
        sums, sums_size = cursor.fetchone()
    print(f"on disk: events with indexes {size}, {sums:,} sums {sums_size}")


def _rows(count: int, accounts: list[Any], start: datetime, end: datetime, access_keys: list[str]) -> Iterator[str]:
    """Lines for COPY, in the order of time. Every second line is an event of the first account."""
    chance = random.Random(2)
    first, last = (int(moment.timestamp() * 1_000_000) for moment in (start, end))
    step = (last - first) / count
    tails = []
    for number in range(5000):
        account = accounts[0] if number % 2 else chance.choice(accounts[1:])
        # The last access key of the first account is rare: it has one of 2,500 events of the account.
        key = chance.choice(access_keys[:-1]) if number != 1 else access_keys[-1]
        provider = chance.choice(PROVIDERS)
        is_final = chance.random() < 0.9
        tails.append(
            f"{account.id}\t{key}\t\\N\t{chance.randint(1, 10**9) / 10**12:.12f}\t0\t1\t{chance.randint(1, 9999)}\t"
            f"{chance.randint(1, 999)}\t0\t0\t0\t900\t200\t{is_final}\tf\t{chance.random() < 0.02}\tt\tngrok\t"
            f"req_{number:024x}\t{provider}\tgpt-4o\tgpt-4o\tstop\t\\N\n"
        )
    for begin in range(0, count, CHUNK):
        lines = []
        for number in range(begin, min(begin + CHUNK, count)):
            moment = int(first + number * step)
            # As gateway_core.usage_events.event_id makes them.
            value = (moment // 1000) << 80 | 7 << 76 | (moment % 1000) << 66 | 2 << 62 | number
            identity = uuid.UUID(int=value)
            stamp = datetime.fromtimestamp(moment / 1_000_000, UTC).isoformat()
            lines.append(f"{identity}\t{stamp}\t{tails[chance.randrange(5000)]}")
        yield "".join(lines)


def measure_reading() -> None:
    """Measure the two endpoints as the large account's client sees them."""
    from django.test import Client

    from accounts import services
    from accounts.models import Account
    from accounts.principals import Principal
    from gateway_core import ids

    account = Account.objects.get(name="large")
    issued = services.create_api_key(account=account, by=Principal(ids.to_text(ids.Prefix.USER, ids.new_id())))
    client = Client(headers={"authorization": f"Bearer {issued.token}", "host": "testserver"})

    def get(path: str, **query: Any) -> Any:
        uri = f"{path}?{urlencode(query)}" if query else path
        answer = client.get(uri.removeprefix("http://testserver"))
        assert answer.status_code == 200, answer.content
        return answer.json()

    now = datetime.now(UTC)

    def wire(moment: datetime) -> str:
        return moment.isoformat().replace("+00:00", "Z")

    whole = wire(now - timedelta(days=DAYS + 1))
    cut = {
        "startTime": wire((now - timedelta(days=80)).replace(minute=31, second=7)),
        "endTime": wire((now - timedelta(hours=5)).replace(minute=29, second=59)),
    }
    by_key = get("/usage/overview", startTime=whole, groupBy="accessKey")
    rare = min(by_key["buckets"], key=lambda bucket: bucket["requests"])["groupKey"]
    middle = get("/usage", startTime=whole, endTime=wire(now - timedelta(days=45)))["nextPageUri"]
    print(f"of {get('/usage/overview', startTime=whole)['totals']['requests']:,} requests of one account:")
    for name, ask in (
        ("/usage, the newest 100", lambda: get("/usage", startTime=whole)),
        ("/usage, 100 from the middle by cursor", lambda: get(middle)),
        ("/usage, 100 of a rare access key", lambda: get("/usage", startTime=whole, accessKeyId=rare)),
        ("/usage/overview, everything", lambda: get("/usage/overview", startTime=whole)),
        ("/usage/overview, both bounds within an hour", lambda: get("/usage/overview", **cut)),
        ("/usage/overview, the same by access key", lambda: get("/usage/overview", groupBy="accessKey", **cut)),
        (
            "/usage/overview, the last 24 hours",
            lambda: get("/usage/overview", startTime=wire(datetime.now(UTC) - timedelta(days=1))),
        ),
    ):
        print_times(name, ask)


def print_times(name: str, ask: Callable[[], Any]) -> None:
    """Measure a request many times, and print the figures."""
    ask()
    waits = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        ask()
        waits.append((time.perf_counter() - began) * 1000)
    cuts = statistics.quantiles(waits, n=100)
    print(f"  {name}: p50 {cuts[49]:.1f} ms, p95 {cuts[94]:.1f} ms, longest {max(waits):.1f} ms")


if __name__ == "__main__":
    main()
