"""Holds: gateway_admin.heartbeats

A relay and each periodic task show when they last succeeded.
"""

import threading
from datetime import timedelta
from types import SimpleNamespace

import pytest
from django.conf import settings
from django.db.migrations.recorder import MigrationRecorder
from django.db.models.functions import Now
from django.test.utils import override_settings

from gateway_admin import heartbeats
from gateway_admin.celery import app
from gateway_admin.models import Heartbeat
from gateway_admin.relay import Relay
from snapshots.redis_client import patient_store
from tests.faults.conftest import Program, child
from tests.patience import wait_until

__all__ = ["child"]

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _first(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(heartbeats, "_written", {})


def test_what_never_succeeded_is_silent_since_heartbeats_can_be_stored_and_a_success_ends_that():
    MigrationRecorder.Migration.objects.filter(app="gateway_admin").update(applied=Now() - timedelta(days=2))
    heartbeats.beat("relay.publishing")

    silent = heartbeats.silent_seconds()

    assert silent["relay.publishing"] < 86_400
    assert 172_800 <= silent["relay.chaining"] == silent["usage.ingest"] < 259_200
    assert set(silent) == {*heartbeats.RELAY, *(one["task"] for one in settings.CELERY_BEAT_SCHEDULE.values())}


def test_a_heartbeat_is_written_at_most_once_in_five_seconds(django_assert_num_queries):
    heartbeats.beat("relay.publishing")

    with django_assert_num_queries(0):
        heartbeats.beat("relay.publishing")


def test_every_task_of_the_schedule_exists_and_its_success_counts():
    app.loader.import_default_modules()
    for name in (entry["task"] for entry in settings.CELERY_BEAT_SCHEDULE.values()):
        assert name in app.tasks

    with override_settings(CELERY_BEAT_SCHEDULE={"one": {"task": "usage.ingest"}}):
        for name in ("usage.ingest", "asked.for.once"):
            heartbeats.beat_of_task(sender=SimpleNamespace(name=name), result=None)

    assert list(Heartbeat.objects.values_list("name", flat=True)) == ["usage.ingest"]


@pytest.mark.django_db(transaction=True)
def test_each_thread_of_a_relay_beats(child: Program):
    relay = child("manage.py", "relay")
    wait_until(lambda: Heartbeat.objects.count() == len(heartbeats.RELAY), what="each thread beats")
    relay.close()

    assert set(Heartbeat.objects.values_list("name", flat=True)) == set(heartbeats.RELAY)


@pytest.mark.django_db(transaction=True)
def test_a_thread_whose_look_fails_does_not_beat(monkeypatch: pytest.MonkeyPatch):
    """A process that lives and gets nothing done is silent."""
    stop = threading.Event()
    looks: list[str] = []

    def chain_events(_relay: Relay) -> None:
        looks.append("failed")
        if len(looks) == 3:
            stop.set()
        raise ZeroDivisionError

    monkeypatch.setattr(Relay, "chain_events", chain_events)
    Relay(patient_store(), stop).run()

    beaten = set(Heartbeat.objects.values_list("name", flat=True))
    assert "relay.chaining" not in beaten
    assert "relay.publishing" in beaten
