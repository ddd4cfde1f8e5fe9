"""Holds: gateway_admin.health

`/healthz` and `/readyz` of the control plane. A database or Redis that is away: tests/rest/test_on_a_server.py.
"""

import pytest
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.recorder import MigrationRecorder

from gateway_admin.health import _Migrations

pytestmark = pytest.mark.django_db


def test_a_process_that_answers_is_alive(anonymous):
    answer = anonymous.get("healthz")

    assert (answer.status_code, answer.json()) == (200, {"status": "alive"})


def test_with_everything_there_it_is_ready(anonymous):
    answer = anonymous.get("readyz")

    assert answer.status_code == 200
    assert answer.json() == {"status": "ready", "checks": {"database": "ok", "migrations": "ok", "redis": "ok"}}


def test_a_missing_migration_is_told_and_one_look_is_enough_once_all_are_there(django_assert_num_queries):
    check = _Migrations()
    recorder = MigrationRecorder(connection)
    ((app, newest),) = MigrationExecutor(connection).loader.graph.leaf_nodes("access_keys")
    recorder.record_unapplied(app, newest)

    missing = check()
    recorder.record_applied(app, newest)
    applied = check()

    assert missing.endswith("are not applied")
    assert applied == "ok"
    with django_assert_num_queries(0):
        assert check() == "ok"


def test_nobody_needs_a_key_and_a_bad_one_does_no_harm(anonymous):
    assert anonymous.get("readyz", authorization="Bearer nonsense").status_code == 200
