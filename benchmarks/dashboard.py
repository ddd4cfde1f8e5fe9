"""How long each page of the dashboard takes in a large account: `make bench-dashboard`.

python -m benchmarks.dashboard [--access-keys 100000] [--configurations 1000] [--events 1000000]

Fills one account by COPY on throw-away servers and opens every page as its owner, with the code that serves the page.
Prints a table for docs/performance.md: the queries, the median time and the longest time of 15.
"""

import argparse
import logging
import os
import random
import re
import statistics
import time
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import psutil

from gateway_core import envelopes, sealing
from local.embedded import PostgresServer, RedisServer

DAYS: Final = 30
ROUNDS: Final = 15
# So many access keys have traffic. Most of it is of the first one.
BUSY_KEYS: Final = 5_000
AUDIT_EVENTS: Final = 100_000
PROVIDERS: Final = ("openai", "openai", "openai", "anthropic", "anthropic", "google", "groq")


def main() -> None:
    """Start the servers, fill the account, and print the measurements."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--access-keys", type=int, default=100_000)
    parser.add_argument("--configurations", type=int, default=1_000)
    parser.add_argument("--events", type=int, default=1_000_000)
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
        logging.disable(logging.WARNING)
        from django.core.management import call_command
        from django.db import connection

        call_command("migrate", verbosity=0)
        fill(options.access_keys, options.configurations, options.events)
        measure()
        connection.close()
        connection.close_pool()  # type: ignore[attr-defined]


def fill(access_keys: int, configurations: int, events: int) -> None:
    """Make one account with these numbers of objects."""
    from django.db import connection

    from accounts import services
    from accounts.principals import Principal
    from configurations.models import Configuration, RoutedKey
    from gateway_core import ids
    from provider_keys.services import create_provider_key
    from provider_keys.values import PlainValue

    account = services.create_account(name="Large")
    owner = services.create_user(username="owner", email="", password="x" * 20, account=account, role="owner")
    by = Principal.of(owner)
    keys = [
        create_provider_key(
            account=account,
            by=by,
            provider_id=provider,
            name=f"{provider} {number}",
            value=PlainValue("sk-" + "x" * 40),
        )
        for provider in ("openai", "anthropic", "groq")
        for number in range(10)
    ]
    router = {"rules": [{"provider": "openai", "steps": [{"type": "user", "keys": [{"id": keys[0].text_id}]}]}]}
    made = [
        Configuration(
            account=account, name=f"configuration {number}", router=router, created_by=by.id, last_updated_by=by.id
        )
        for number in range(configurations)
    ]
    Configuration.objects.bulk_create(made, batch_size=500)
    RoutedKey.objects.bulk_create(
        [RoutedKey(configuration=configuration, provider_key=keys[0]) for configuration in made], batch_size=500
    )
    now = datetime.now(UTC)
    identities = [ids.new_id() for _ in range(access_keys)]
    with connection.cursor() as cursor, connection.wrap_database_errors:
        with cursor.copy(
            "COPY access_keys_accesskey (id, account_id, created_at, updated_at, created_by, last_updated_by, name, "
            "digest, key_redacted, last_used, disabled, configuration_id) FROM STDIN"
        ) as copy:
            for number, identity in enumerate(identities):
                used = now - timedelta(minutes=number) if number < BUSY_KEYS else None
                copy.write_row(
                    (identity, account.id, now, now, by.id, by.id, f"app {number}", f"{number:064x}",
                     f"gwk_{number:06d}***wxyz", used, number % 50 == 0, made[number % configurations].id)
                )  # fmt: skip
        with cursor.copy(
            "COPY audit_event (id, account_id, at, principal_kind, principal_id, principal_name, action, object_id, "
            "object_name, changes, source) FROM STDIN"
        ) as copy:
            for number in range(AUDIT_EVENTS):
                copy.write_row(
                    (ids.new_id(), account.id, now, "user", by.id, "owner", "access_key.updated",
                     ids.to_text(ids.Prefix.ACCESS_KEY, identities[number % access_keys]), f"app {number}",
                     '{"name": ["a", "b"]}', "web")
                )  # fmt: skip
    _fill_events(account, identities, events, now)
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE")


def _fill_events(account: Any, identities: list[uuid.UUID], count: int, now: datetime) -> None:
    from django.db import connection, transaction

    from usage import ingest, partitions

    chance = random.Random(3)
    start = now - timedelta(days=DAYS)
    partitions.make([partitions.month_of(start), partitions.month_of(now)])
    step = timedelta(days=DAYS) / count
    began = time.perf_counter()
    with transaction.atomic(), connection.cursor() as cursor:
        with cursor.copy(f"COPY usage_event ({ingest.COLUMNS}) FROM STDIN") as copy:
            for number in range(count):
                moment = start + step * number
                micros = int(moment.timestamp() * 1_000_000)
                identity = uuid.UUID(int=(micros // 1000) << 80 | 7 << 76 | (micros % 1000) << 66 | 2 << 62 | number)
                key = identities[min(int(chance.expovariate(1 / 400)), BUSY_KEYS - 1, len(identities) - 1)]
                is_error = chance.random() < 0.02
                copy.write_row(
                    (identity, moment, account.id, key, None, "0.0035", "0", 1, chance.randint(1, 9999),
                     chance.randint(1, 999), 0, 0, 0, 900, 500 if is_error else 200, True, False, is_error, True,
                     "ngrok", f"req_{number:024x}", chance.choice(PROVIDERS), "gpt-4o", "gpt-4o", "stop", None)
                )  # fmt: skip
        cursor.execute(ingest.SUM_ALL, [start])
    print(f"{count:,} events with their sums: {time.perf_counter() - began:.0f} s")


def measure() -> None:
    """Measure every page that a GET shows, and print the table."""
    from django.db import connection
    from django.test import Client

    from accounts.models import User
    from dashboard.pages import PAGES

    client = Client(headers={"host": "testserver"})
    client.force_login(User.objects.get(username="owner"))
    print("\n| page | queries | median | longest |\n|---|---|---|---|")
    worst = 0.0
    for path in _addresses([page.path for page in PAGES]):
        answer = client.get(f"/dashboard/{path}")
        if answer.status_code != 200:
            continue
        asked = 0

        def count(execute: Any, *call: Any) -> Any:
            nonlocal asked
            asked += 1
            return execute(*call)

        with connection.execute_wrapper(count):
            client.get(f"/dashboard/{path}")
        waits = []
        for _ in range(ROUNDS):
            began = time.perf_counter()
            client.get(f"/dashboard/{path}")
            waits.append((time.perf_counter() - began) * 1000)
        median = statistics.median(waits)
        worst = max(worst, median)
        print(f"| `{_named(path)}` | {asked} | {median:.0f} ms | {max(waits):.0f} ms |", flush=True)
    print(f"\nslowest median: {worst:.0f} ms")


def _named(path: str) -> str:
    """A path without its IDs, which differ in each run."""
    return "/" + re.sub(r"\b(ai)?[a-z]+_[0-9a-z]{26}\b", "…", path)


def _addresses(paths: list[str]) -> list[str]:
    """The addresses to open: each list at its start, deep in it and filtered; and one object of each kind."""
    from access_keys.models import AccessKey
    from accounts.models import Membership
    from configurations.models import Configuration
    from provider_keys.models import ProviderKey
    from usage.models import Event

    found = {
        "access-keys/": AccessKey.objects.order_by("-id")[1000].text_id,
        "configurations/": Configuration.objects.order_by("-id")[500].text_id,
        "providers/keys/": ProviderKey.objects.order_by("id")[0].text_id,
        "activity/": Event.objects.order_by("-event_time")[100].text_id,
        "settings/members/": str(getattr(Membership.objects.get(), "text_id", "")),
    }
    addresses = []
    for path in paths:
        lead = max((one for one in found if path.startswith(one)), key=len, default="")
        address = path.replace("<str:text_id>", found.get(lead, "-")).replace("<str:provider_id>", "openai")
        address = address.replace("<str:kind>", "models").replace("<int:number>", "1")
        if not path.endswith(".csv"):
            addresses.append(address)
    deep = AccessKey.objects.order_by("id")[100].text_id
    return [
        *addresses,
        "?range=30d&by=access-key",
        "?range=24h&by=access-key",
        f"access-keys?before={deep}",
        "access-keys?q=app+99",
        "access-keys?q=nothing+has+this+name",
        "access-keys?state=disabled",
        "activity?range=30d&provider=nobody",
        "activity?range=30d&outcome=error",
        "activity?range=30d&access_key=app+7",
        "audit?kind=provider_key",
        "audit?kind=credits",
        "search?q=app+999",
    ]


if __name__ == "__main__":
    main()
