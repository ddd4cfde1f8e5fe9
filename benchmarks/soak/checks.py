"""What a soak reads from PostgreSQL and Redis, in a process that acts as a part of the control plane."""

import time

from benchmarks.soak.state import Tenant


def open_accounts(count: int) -> list[Tenant]:
    """Make accounts with one API key each."""
    from accounts import services
    from accounts.principals import Principal
    from gateway_core import ids

    by = Principal(ids.to_text(ids.Prefix.USER, ids.new_id()))
    made = []
    for number in range(count):
        account = services.create_account(name=f"account {number}")
        made.append(Tenant(account.text_id, services.create_api_key(account=account, by=by, name="soak").token))
    return made


def forget_worker_of(process: int) -> None:
    """Remove the report of the worker that had this process ID. It is tried again while Redis is away."""
    from redis.exceptions import RedisError

    from snapshots.redis_client import patient_store
    from snapshots.workers import forget_worker, read_workers

    for _ in range(20):
        try:
            gone = [report.id for report in read_workers(patient_store()).reports if report.process == process]
            for worker in gone:
                forget_worker(worker, patient_store())
        except RedisError:
            time.sleep(0.5)
        else:
            return


def missing(request_ids: set[str]) -> int:
    """The number of these requests that have no final attempt in the usage."""
    from django.db import close_old_connections

    from usage.models import Event

    close_old_connections()
    found = set(Event.objects.filter(is_final=True).values_list("request_id", flat=True))
    return len(request_ids - found)


def doubled() -> int:
    """The number of attempts that are in the usage more than once."""
    from django.db import models

    from usage.models import Event

    counted = Event.objects.values("request_id", "attempt").annotate(count=models.Count("id"))
    return counted.filter(count__gt=1).count()


def compared() -> int:
    """The number of documents in which Redis differs from PostgreSQL."""
    from snapshots import comparison
    from snapshots.redis_client import patient_store

    return sum(1 for _ in comparison.compare(patient_store()))
