"""Holds: snapshots.lease, gateway_admin.database

Behind a PgBouncer that gives each transaction another session, the control plane works and Redis heals itself.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from urllib.parse import urlsplit, urlunsplit

import pytest
from redis import Redis

from tests.faults.conftest import Child
from tests.live import control_plane, manage
from tests.patience import wait_until
from tests.servers import FaultyRedis
from tests.workers import free_port

BOUNCER = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")

pytestmark = [
    pytest.mark.full,
    pytest.mark.xdist_group("server"),
    pytest.mark.skipif(BOUNCER is None, reason="there is no pgbouncer on this machine"),
]


@contextmanager
def pooler(url: str, home: Path) -> Iterator[str]:
    """A PgBouncer in transaction mode before a PostgreSQL server; the server's URL through it."""
    found, port = urlsplit(url), free_port()
    users, settings = home / "users.txt", home / "pgbouncer.ini"
    users.write_text(f'"{found.username}" "{found.password}"\n')
    settings.write_text(
        f"[databases]\n* = host={found.hostname} port={found.port}\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = plain\n"
        f"auth_file = {users}\npool_mode = transaction\ndefault_pool_size = 4\nserver_lifetime = 60\n"
        "ignore_startup_parameters = extra_float_digits,options\n"
    )
    for one in (home, users, settings):
        one.chmod(0o755 if one.is_dir() else 0o644)
    command = [str(BOUNCER), *(["-u", "nobody"] if os.geteuid() == 0 else []), str(settings)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            yield urlunsplit(found._replace(netloc=f"{found.username}:{found.password}@127.0.0.1:{port}"))
        finally:
            process.terminate()


def test_behind_a_pooler_in_transaction_mode_all_works_and_redis_is_rebuilt(tmp_path: Path):
    with (
        FaultyRedis(throwaway=True) as server,
        pooler(os.environ["DATABASE_URL"], tmp_path) as pooled,
        control_plane(os.environ["DATABASE_URL"], through=pooled, REDIS_URL=server.url) as plane,
        Redis.from_url(server.url) as redis,
    ):
        made = [plane.request("POST", "/access-keys", {"name": f"app {number}"}) for number in range(20)]
        is_over = Event()

        def read() -> set[int]:
            """Keep the pooler busy, so that each transaction gets the session that is free."""
            found = set()
            while not is_over.is_set():
                found |= {plane.request("GET", f"/access-keys/{one.json()['id']}").status for one in made}
            return found

        with ThreadPoolExecutor(4) as threads:
            reads = [threads.submit(read) for _ in range(4)]
            try:
                for _ in range(4):
                    assert "documents" in manage(plane.environ, "rebuild_snapshots")
            finally:
                is_over.set()
        assert {one.status for one in made} == {201}
        assert set.union(*(one.result() for one in reads)) == {200}

        relay = Child("manage.py", "relay", **plane.environ)
        try:
            for _ in range(3):
                redis.flushall()
                wait_until(lambda: len(redis.keys("*token:*")) == len(made), what="Redis is rebuilt")
        finally:
            relay.close()
