"""Holds: access_keys.restoring

A database from a backup: what was revoked since stays revoked, and nothing is guessed.
"""

from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from redis import Redis

from access_keys.models import AccessKey
from access_keys.services import create_access_key, delete_access_key, update_access_key
from audit.models import Event
from snapshots import rebuild
from snapshots.models import Change, Epoch, Publication
from snapshots.publisher import pause
from snapshots.redis_client import inline_store, keys, patient_store

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("_live")]


@pytest.fixture
def _live(transactional_db):
    """A Redis that takes publications."""
    pause.end()
    rebuild.rebuild(patient_store())
    yield
    for cached in (inline_store, patient_store, keys):
        cached.cache_clear()


@pytest.fixture
def restored(account, principal):
    """Access keys in a database as it was before: one that stays, one deleted since, one disabled since."""
    kept, deleted, disabled, off = (create_access_key(account=account, by=principal).access_key for _ in range(4))
    update_access_key(access_key=off, by=principal, disabled=True)
    tables: tuple[Any, ...] = (Publication, Epoch)
    rows = [list(model.objects.all()) for model in tables]
    gone = AccessKey.objects.get(id=deleted.id)
    delete_access_key(access_key=deleted, by=principal)
    update_access_key(access_key=disabled, by=principal, disabled=True)
    create_access_key(account=account, by=principal)
    # Back to then.
    AccessKey.objects.exclude(id__in=[kept.id, disabled.id, off.id]).delete()
    AccessKey.objects.filter(id=disabled.id).update(disabled=False)
    gone.save(force_insert=True)
    for model, then in zip(tables, rows, strict=True):
        model.objects.all().delete()
        model.objects.bulk_create(then)
    Change.objects.all().delete()
    return kept, gone, disabled


def test_what_was_revoked_since_is_listed_and_nothing_is_done(restored, redis: Redis):
    said = StringIO()
    before = {key: redis.dump(key) for key in redis.scan_iter()}

    with pytest.raises(CommandError, match="2 access keys were revoked since"):
        call_command("after_restore", stdout=said)

    kept, gone, disabled = restored
    assert gone.text_id in said.getvalue()
    assert disabled.text_id in said.getvalue()
    assert kept.text_id not in said.getvalue()
    assert not AccessKey.objects.filter(id__in=[gone.id, disabled.id], disabled=True).exists()
    assert {key: redis.dump(key) for key in redis.scan_iter()} == before


def test_applied_it_disables_them_tells_the_audit_and_rebuilds_redis(restored, redis: Redis):
    known = {row.account_id: row.version for row in Publication.objects.all()}
    events = Event.objects.count()

    call_command("after_restore", "--apply", stdout=StringIO())

    kept, gone, disabled = restored
    assert not AccessKey.objects.get(id=kept.id).disabled
    assert AccessKey.objects.filter(id__in=[gone.id, disabled.id], disabled=True).count() == 2
    assert Event.objects.count() == events + 2
    assert all(row.version > known[row.account_id] for row in Publication.objects.all())
    said = StringIO()
    call_command("rebuild_snapshots", "--compare", stdout=said)
    assert "Redis and PostgreSQL agree." in said.getvalue()
    with pytest.raises(CommandError, match="nothing newer"):
        call_command("after_restore")


@pytest.mark.parametrize("harm", ["flush", "unfinished", "rebuilt"])
def test_a_redis_that_has_forgotten_is_no_witness(restored, redis: Redis, harm: str):
    if harm == "flush":
        redis.flushall()
    elif harm == "unfinished":
        redis.hset(keys().epoch, "complete", 0)
    else:
        rebuild.rebuild(patient_store())

    with pytest.raises(CommandError, match="forgotten what was revoked"):
        call_command("after_restore", "--apply")

    assert AccessKey.objects.filter(disabled=True).count() == 1
