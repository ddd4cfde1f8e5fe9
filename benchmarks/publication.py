"""How long a publication takes, and how fast a rebuild is, on throw-away servers of its own.

python -m benchmarks.publication [--publications 1000] [--access-keys 100000] [--accounts 2000]
"""

import argparse
import hashlib
import os
import resource
import statistics
import time
from typing import Any

from gateway_admin.embedded import PostgresServer, RedisServer
from gateway_core import authentication, sealing


def main() -> None:
    """Start servers, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--publications", type=int, default=1000)
    parser.add_argument("--access-keys", type=int, default=100_000)
    parser.add_argument("--accounts", type=int, default=2000)
    options = parser.parse_args()
    with PostgresServer() as postgres, RedisServer() as redis:
        os.environ |= {
            "DJANGO_SETTINGS_MODULE": "gateway_admin.settings",
            "GATEWAY_MODE": "evaluation",
            "DATABASE_URL": postgres.url,
            "REDIS_URL": redis.url,
            "SECRET_KEY": "x" * 48,
            "DOCUMENT_KEYS": authentication.generate_document_key(),
            "SEALING_PUBLIC_KEY": sealing.public_key_of(sealing.generate_private_key()),
        }
        import django

        django.setup()
        from django.core.management import call_command
        from django.db import connection

        call_command("migrate", verbosity=0)
        measure(options)
        connection.close()
        connection.close_pool()  # type: ignore[attr-defined]


def measure(options: argparse.Namespace) -> None:
    """The figures."""
    from django.db import transaction

    from access_keys.models import AccessKey
    from accounts.models import Account
    from snapshots import comparison, outbox, rebuild
    from snapshots.client import patient_store

    store = patient_store()
    rebuild.rebuild(store)
    account = Account.objects.create(name="one")

    def new_key(of: Account, number: int) -> AccessKey:
        digest = hashlib.sha256(f"{of.id}{number}".encode()).hexdigest()
        return AccessKey(account=of, digest=digest, key_redacted="***", created_by="b", last_updated_by="b")

    waits = []
    for number in range(options.publications):
        with transaction.atomic():
            key = new_key(account, -number - 1)
            key.save()
            outbox.record(key)
            # Django calls what was recorded at the block's end: the clock starts just before the commit.
            began = time.perf_counter()
        waits.append(time.perf_counter() - began)
        assert outbox.last_receipt()
    cuts = statistics.quantiles(waits, n=100)
    print(f"commit and publication of one access key: p50 {cuts[49] * 1e3:.1f} ms, p99 {cuts[98] * 1e3:.1f} ms")

    for number in range(0, options.access_keys, 5000):
        AccessKey.objects.bulk_create([new_key(account, each) for each in range(number, number + 5000)])
    told("one account", store, rebuild.rebuild)
    began = time.perf_counter()
    assert not list(comparison.compare(store))
    print(f"deep comparison of it: {time.perf_counter() - began:.1f} s")

    AccessKey.objects.all().delete()
    accounts = Account.objects.bulk_create([Account(name=f"{number}") for number in range(options.accounts)])
    AccessKey.objects.bulk_create([new_key(each, 0) for each in accounts], batch_size=5000)
    told(f"{options.accounts} accounts of one access key", store, rebuild.rebuild)


def told(what: str, store: Any, rebuild: Any) -> None:
    """Rebuild, and print how fast that was and the memory's high-water mark."""
    began = time.perf_counter()
    _, documents = rebuild(store)
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(f"rebuild, {what}: {documents} documents in {seconds:.1f} s, {documents / seconds:.0f}/s, peak {peak} MiB")


if __name__ == "__main__":
    main()
