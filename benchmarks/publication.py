"""The cost of a publication and the speed of a rebuild, on throw-away servers: `make bench-publish`.

python -m benchmarks.publication [--rotations 400] [--access-keys 1000000] [--accounts 10000] [--compare]

Prints the time of one key rotation, from the service call to the publication, alternating between an account of 10 and
one of 10,000 configurations. Prints also the rate of a full rebuild and the memory that Redis needs for it, for one
account of many access keys (each under a configuration) and for many accounts of a few documents.
"""

import argparse
import hashlib
import logging
import os
import resource
import statistics
import time
import uuid
from typing import Any

import psutil

from gateway_core import envelopes, sealing
from local.embedded import PostgresServer, RedisServer

BY = {"created_by": "aigapi_bench", "last_updated_by": "aigapi_bench"}
SMALL, LARGE = 10, 10_000


def main() -> None:
    """Start the servers and print the measurements."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rotations", type=int, default=400, help="in each of the two accounts")
    parser.add_argument("--access-keys", type=int, default=1_000_000)
    parser.add_argument("--accounts", type=int, default=10_000)
    parser.add_argument("--compare", action="store_true", help="time the deep comparison too")
    options = parser.parse_args()
    memory = psutil.virtual_memory().total / 2**30
    print(f"{os.cpu_count()} cores, {memory:.0f} GiB; load {os.getloadavg()[0]:.1f} before we begin")
    with PostgresServer() as postgres, RedisServer() as redis:
        os.environ |= {
            "DJANGO_SETTINGS_MODULE": "gateway_admin.settings",
            "GATEWAY_MODE": "evaluation",
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
        measure(options)
        connection.close()
        connection.close_pool()  # type: ignore[attr-defined]


def measure(options: argparse.Namespace) -> None:
    """Measure rotations and rebuilds, and print the figures."""
    from access_keys.models import AccessKey
    from accounts.models import Account
    from snapshots import rebuild
    from snapshots.redis_client import patient_store

    store = patient_store()
    rebuild.rebuild(store)
    measure_rotations(options.rotations)

    made = Account.objects.bulk_create([Account(name=f"{number}") for number in range(options.accounts)])
    ids = [configure(each, 1)[0] for each in made]
    rows = [an_access_key(each, number, [of]) for each, of in zip(made, ids, strict=True) for number in range(2)]
    AccessKey.objects.bulk_create(rows, batch_size=5000)
    print_rebuild(
        f"{options.accounts:,} accounts of a configuration and two access keys", store, compare=options.compare
    )

    account = Account.objects.get(name=f"{SMALL} configurations")
    configurations = list(account.configuration_set.values_list("id", flat=True))
    for number in range(0, options.access_keys, 5000):
        rows = [an_access_key(account, each, configurations) for each in range(number, number + 5000)]
        AccessKey.objects.bulk_create(rows)
    print_rebuild(f"and one of {options.access_keys:,} access keys", store, compare=options.compare)


def measure_rotations(count: int) -> None:
    """Measure key rotations, alternating between the small and the large account."""
    from accounts.models import Account
    from accounts.principals import Principal
    from provider_keys import services
    from provider_keys.models import ProviderKey
    from provider_keys.values import PlainValue
    from snapshots import outbox
    from snapshots.rebuild import rebuild
    from snapshots.redis_client import patient_store

    by = Principal("aigapi_bench")
    keys: dict[int, ProviderKey] = {}
    for size in (SMALL, LARGE):
        account = Account.objects.create(name=f"{size} configurations")
        keys[size] = services.create_provider_key(
            account=account, by=by, provider_id="openai", name="a", value=PlainValue("sk-0123456789abcdefghijklmnop")
        )
        configure(account, size, keys[size])
    rebuild(patient_store())
    waits: dict[int, list[float]] = {size: [] for size in keys}
    for number in range(count):
        for size, key in keys.items():
            began = time.perf_counter()
            services.rotate_provider_key(
                provider_key=key, by=by, name="a", value=PlainValue(f"sk-{number:06}-0123456789abcdefghij")
            )
            waits[size].append((time.perf_counter() - began) * 1000)
            assert outbox.last_receipt()
    for size, times in waits.items():
        cuts = statistics.quantiles(times, n=100)
        print(f"rotate, committed and published, of {size:,} configurations: p50 {cuts[49]:.2f} ms, p99 {cuts[98]:.1f}")
    ratio = statistics.median(waits[LARGE]) / statistics.median(waits[SMALL])
    print(f"ratio of the medians: {ratio:.2f}")


def configure(account: Any, count: int, key: Any = None) -> list[uuid.UUID]:
    """Make `count` configurations, with a rule for OpenAI where a provider key is given."""
    from configurations.models import Configuration

    step = {"type": "user", "keys": [{"id": key.text_id}]} if key else {"type": "ngrok"}
    router = {"rules": [{"provider": "openai", "steps": [step]}]}
    rows = [Configuration(account=account, name=f"{number}", router=router, **BY) for number in range(count)]
    return [row.id for row in Configuration.objects.bulk_create(rows, batch_size=2000)]


def an_access_key(account: Any, number: int, configurations: list[uuid.UUID]) -> Any:
    """An access key that is not stored yet."""
    from access_keys.models import AccessKey

    digest = hashlib.sha256(f"{account.id}{number}".encode()).hexdigest()
    configuration = configurations[number % len(configurations)]
    return AccessKey(account=account, digest=digest, key_redacted="***", configuration_id=configuration, **BY)


def print_rebuild(what: str, store: Any, *, compare: bool) -> None:
    """Rebuild an empty Redis, and print the rate and the memory of an access key."""
    from gateway_core.redis_rights import literal
    from snapshots import comparison
    from snapshots.rebuild import rebuild
    from snapshots.redis_client import keys

    store.redis.flushall()
    began, busy = time.perf_counter(), time.process_time()
    _, documents = rebuild(store)
    seconds, worked = time.perf_counter() - began, time.process_time() - busy
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(
        f"rebuild, {what}: {documents:,} documents in {seconds:.1f} s, {documents / seconds:,.0f}/s "
        f"({worked:.1f} s of CPU in this process, load {os.getloadavg()[0]:.1f}); peak of this process {peak} MiB"
    )
    tokens = list(store.redis.scan_iter(match=f"{literal(keys().prefix)}token:*", count=10_000))
    with_tokens = store.redis.info("memory")["used_memory"]
    for start in range(0, len(tokens), 10_000):
        store.redis.delete(*tokens[start : start + 10_000])
    used = with_tokens - store.redis.info("memory")["used_memory"]
    print(f"  Redis holds them in {with_tokens / 2**20:.0f} MiB, {used / len(tokens):.0f} bytes for an access key")
    if compare:
        rebuild(store)
        began = time.perf_counter()
        assert not list(comparison.compare(store))
        print(f"  deep comparison: {time.perf_counter() - began:.1f} s, no difference")


if __name__ == "__main__":
    main()
