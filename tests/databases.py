"""The databases of a test run: one is migrated, and every other one is a copy of it.

To migrate takes two seconds of processor time, to copy takes a tenth of a second.
"""

import os
import uuid
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import psycopg

from tests import nursery

TEMPLATE: Final = "template_gateway"
# Any number that nothing else locks.
_LOCK: Final = 7_310_227


def template_database(server_url: str) -> str:
    """The name of a migrated database on this PostgreSQL server. The first process that asks makes it, others wait."""
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute("SELECT pg_advisory_lock(%s)", [_LOCK])
        if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [TEMPLATE]).fetchone():
            # An attempt that failed leaves another name behind, so what has the template's name is whole.
            name = create_database(server_url, template=None)
            migrate(name)
            connection.execute(f'ALTER DATABASE "{urlsplit(name).path[1:]}" RENAME TO "{TEMPLATE}"')
    return TEMPLATE


def create_database(server_url: str, *, template: str | None = TEMPLATE) -> str:
    """A new database on a server, a copy of the template or empty; returns its URL."""
    name = f"live_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template or "template1"}"')
    return urlunsplit(urlsplit(server_url)._replace(path=f"/{name}"))


def migrate(url: str) -> None:
    """Apply all migrations, in a process of its own: this one may stand on another database."""
    done = nursery.run("manage.py", "migrate", "--verbosity", "0", env=os.environ | {"DATABASE_URL": url})
    assert done.returncode == 0, done.stderr
