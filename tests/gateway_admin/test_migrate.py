"""Holds: gateway_admin.management.commands.migrate

Migrations run one at a time, and a long transaction delays them instead of every request.
"""

import os
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from tests.databases import create_database, template_database
from tests.patience import PATIENCE, stretched, wait_until

ROOT = Path(__file__).resolve().parents[2]


def migrate(url: str, *arguments: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "manage.py", "migrate", "-v0", *arguments]
    environ = os.environ | {"DATABASE_URL": url}
    return subprocess.Popen(command, cwd=ROOT, env=environ, stderr=subprocess.PIPE, text=True)


def outcome(process: "subprocess.Popen[str]") -> tuple[int, str]:
    """The exit status, and what was written to the standard error."""
    _, errors = process.communicate(timeout=stretched(2 * PATIENCE))
    return process.returncode, errors


@pytest.mark.full
def test_three_at_once_on_an_empty_database_all_succeed():
    url = create_database(os.environ["DATABASE_URL"], template=None)

    started = [migrate(url) for _ in range(3)]

    assert [outcome(one) for one in started] == [(0, "")] * 3


def test_a_long_reader_delays_a_migration_and_no_other_reader():
    server = os.environ["DATABASE_URL"]
    url = create_database(server, template=template_database(server))
    reading = "SELECT count(*) FROM access_keys_accesskey"
    waiting = "SELECT 1 FROM pg_locks WHERE NOT granted AND relation = 'access_keys_accesskey'::regclass"
    with psycopg.connect(url) as long_reader, psycopg.connect(url, autocommit=True) as other:
        long_reader.execute(reading)

        impatient = migrate(url, "access_keys", "0003_by_name", "--tries", "1")
        status, errors = outcome(impatient)
        assert status != 0
        assert "LockNotAvailable" in errors

        patient = migrate(url, "access_keys", "0003_by_name")
        wait_until(lambda: other.execute(waiting).fetchone(), what="the migration waits for the long reader")
        # Behind the migration, until that gives its place up.
        assert other.execute(reading).fetchone() == (0,)
        assert patient.poll() is None
        long_reader.commit()

        assert outcome(patient)[0] == 0
