"""Holds: local.embedded.server, local.embedded.postgres, local.embedded.redis

PostgreSQL and Redis as `make run` starts them: real processes, real directories.
"""

import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import psycopg
import pytest
from redis import AuthenticationError, Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from local.embedded import PostgresServer, RedisServer, ServerFailed
from local.embedded.postgres import find_installation
from local.embedded.redis import find_redis_server
from local.embedded.server import free_port
from local.embedded.unprivileged import refuge, set_aside
from tests.patience import wait_until

IS_ROOT = os.geteuid() == 0


@pytest.fixture
def place():
    """A directory that everybody may go through, as a checkout's usually is."""
    path = Path(tempfile.mkdtemp(prefix="gateway-test-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def closed_place(place):
    """A directory closed to all but its owner, as root's home and many others' are."""
    closed = place / "closed"
    closed.mkdir(mode=0o700)
    yield closed
    for name in ("postgres", "redis"):
        shutil.rmtree(refuge(closed / name), ignore_errors=True)


def modes_of_all_directories_above(path):
    return {folder: stat.S_IMODE(folder.stat().st_mode) for folder in path.parents if folder.exists()}


def ask(server, query="SELECT 1"):
    with psycopg.connect(server.url) as connection:
        row = connection.execute(query).fetchone()
    assert row is not None
    return row[0]


def note(server, text):
    with psycopg.connect(server.url) as connection:
        connection.execute("CREATE TABLE notes (text text)")
        connection.execute("INSERT INTO notes VALUES (%s)", [text])


def test_postgres_finds_its_data_and_its_port_again(place):
    with PostgresServer(place / "postgres", throwaway=True) as first:
        note(first, "kept")

    with PostgresServer(place / "postgres", throwaway=True) as second:
        assert ask(second, "SELECT text FROM notes") == "kept"
        assert second.url == first.url


def test_postgres_takes_another_port_when_somebody_has_its_own_by_now(place):
    with PostgresServer(place / "postgres", throwaway=True) as first:
        pass

    with RedisServer(port=first.port), PostgresServer(place / "postgres", throwaway=True) as second:
        assert ask(second) == 1
        assert second.port != first.port
        assert second.is_named_by(first.url)


def test_postgres_works_under_a_closed_directory_and_changes_no_mode(closed_place):
    home = closed_place / "postgres"
    before = modes_of_all_directories_above(home)

    with PostgresServer(home, throwaway=True) as server:
        assert ask(server) == 1
        assert server.home == (refuge(home) if IS_ROOT else home)
        assert stat.S_IMODE(server.data.stat().st_mode) == 0o700

    with PostgresServer(home, throwaway=True) as again:
        assert ask(again) == 1
    assert again.home == server.home
    assert modes_of_all_directories_above(home) == before


def test_postgres_runs_binaries_that_its_user_cannot_reach(closed_place, monkeypatch):
    package = find_installation().parent
    for name in (package.name, f"{package.name}.libs"):
        (closed_place / name).symlink_to(package.with_name(name))
    monkeypatch.syspath_prepend(closed_place)

    with PostgresServer(closed_place.parent / "postgres", throwaway=True) as server:
        assert ask(server) == 1
        assert server.binaries.is_relative_to(server.home if IS_ROOT else closed_place)


def test_both_work_in_a_path_of_120_characters(place):
    deep = place / ("d" * (110 - len(str(place)))) / "postgres1"
    deep.parent.mkdir(mode=0o755)
    assert len(str(deep)) >= 120

    with PostgresServer(deep, throwaway=True) as postgres, RedisServer(deep.parent / "redis", throwaway=True) as redis:
        assert postgres.home == deep
        assert ask(postgres) == 1
        with Redis.from_url(redis.url) as client:
            assert client.ping()


def test_postgres_comes_back_after_a_kill_that_left_a_pid_file_naming_a_living_process(place):
    with PostgresServer(place / "postgres") as server:
        note(server, "kept")
        server.kill()
        pid_file = server.data / "postmaster.pid"
        lines = pid_file.read_text().splitlines()
        pid_file.write_text("\n".join([str(os.getpid()), *lines[1:]]) + "\n")

        server.start()

        assert ask(server, "SELECT text FROM notes") == "kept"


def test_a_first_start_cut_short_is_begun_again(place):
    home = place / "postgres"
    home.mkdir(mode=0o755)
    (home / "data.partial" / "base").mkdir(parents=True)

    with PostgresServer(home, throwaway=True) as server:
        assert ask(server) == 1
        assert not (home / "data.partial").exists()


@pytest.mark.parametrize("kind", [PostgresServer, RedisServer])
def test_a_server_listens_on_the_loopback_only_and_shows_its_password_to_nobody(kind):
    with kind(throwaway=True) as server:
        assert server.process is not None
        process = psutil.Process(server.process.pid)
        tree = [process, *process.children(recursive=True)]

        assert {connection.laddr.ip for connection in process.net_connections() if connection.status == "LISTEN"} == {
            "127.0.0.1"
        }
        assert not [one for one in process.net_connections("unix") if one.laddr]
        assert not [one for one in tree if server.password in " ".join([*one.cmdline(), *one.environ().values()])]
        for name in ("password", "port", "running", "log"):
            assert stat.S_IMODE((server.home / name).stat().st_mode) == 0o600
        assert server.password not in server.log.read_text()


def test_postgres_lets_nobody_in_without_the_password():
    with PostgresServer(throwaway=True) as server:
        for url in (server.url.replace(server.password, "wrong"), server.url.replace(f":{server.password}", "")):
            with pytest.raises(psycopg.OperationalError, match="password"):
                psycopg.connect(url, passfile="/nonexistent")

        assert ask(server, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user") is False
        assert not (server.home / "initdb-password").exists()


def test_redis_lets_nobody_in_without_the_password_and_evicts_nothing():
    with RedisServer() as server, Redis.from_url(server.url) as client:
        stranger = Redis(port=server.port, retry=Retry(NoBackoff(), 0))
        with stranger, pytest.raises(AuthenticationError):
            stranger.ping()

        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        assert client.config_get("appendonly") == {"appendonly": "yes"}
        assert client.config_get("save") == {"save": ""}


@pytest.mark.skipif(not IS_ROOT, reason="only root has another user to run a server as")
@pytest.mark.parametrize("kind", [PostgresServer, RedisServer])
def test_no_server_runs_as_root(kind):
    with kind(throwaway=True) as server:
        assert server.process is not None
        process = psutil.Process(server.process.pid)

        assert 0 not in (*process.uids(), *process.gids())
        assert stat.S_IMODE((server.home / "data").stat().st_mode) == 0o700


def test_redis_works_under_a_closed_directory_with_a_program_that_its_user_cannot_reach(closed_place, monkeypatch):
    package = find_redis_server().parents[2]
    (closed_place / package.name).symlink_to(package)
    monkeypatch.syspath_prepend(closed_place)
    home = closed_place / "redis"
    before = modes_of_all_directories_above(home)

    with RedisServer(home) as server, Redis.from_url(server.url) as client:
        assert client.ping()
        assert server.home == (refuge(home) if IS_ROOT else home)
        assert server.program.is_relative_to(server.home if IS_ROOT else closed_place)

    assert modes_of_all_directories_above(home) == before


@pytest.mark.skipif(not IS_ROOT, reason="only root can leave data that another user cannot read")
def test_redis_takes_over_the_data_of_a_server_that_ran_as_root(place):
    home = place / "redis"
    with RedisServer(home) as server, Redis.from_url(server.url) as client:
        client.set("kept", "yes")
    for path in (home / "data", *(home / "data").rglob("*")):
        os.chown(path, 0, 0)
    home.chmod(0o700)

    with RedisServer(home) as server, Redis.from_url(server.url) as client:
        assert client.get("kept") == b"yes"


def test_redis_finds_its_data_again_in_a_directory_with_quotes_and_blanks(place):
    home = place / 'it\'s "here" \\ now'
    with RedisServer(home) as first, Redis.from_url(first.url) as client:
        client.set("kept", "yes")

    with RedisServer(home) as second, Redis.from_url(second.url) as client:
        assert client.get("kept") == b"yes"
        assert second.url == first.url


def test_a_taken_port_is_an_error_that_shows_the_log():
    port = free_port()
    with RedisServer(port=port):
        with pytest.raises(ServerFailed, match="ddress already in use"):
            PostgresServer(port=port, throwaway=True).__enter__()
        with pytest.raises(ServerFailed, match="ddress already in use"):
            RedisServer(port=port, throwaway=True).__enter__()


@pytest.mark.parametrize("kind", ["PostgresServer", "RedisServer"])
def test_a_server_whose_parent_was_killed_ends_and_its_home_can_be_used_again(kind, place):
    code = (
        f"import sys, time; from pathlib import Path; from local.embedded import {kind} as Server\n"
        "server = Server(Path(sys.argv[1])).start(); print(server.process.pid, flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(place / "home")], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.send_signal(signal.SIGKILL)

    if sys.platform == "linux":
        wait_until(
            lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == "zombie", what="the server ends"
        )
    with (PostgresServer if kind == "PostgresServer" else RedisServer)(place / "home") as server:
        assert server.is_running


def test_a_server_that_a_lost_parent_left_running_is_ended_by_the_next_start(place):
    left = RedisServer(place / "home").start()

    with RedisServer(place / "home") as server:
        assert not left.is_running
        assert server.is_running


def test_data_of_another_major_version_are_refused_by_name(place):
    home = place / "postgres"
    (home / "data").mkdir(parents=True)
    (home / "data" / "PG_VERSION").write_text("16\n")
    if IS_ROOT:
        shutil.chown(home / "data", "nobody")

    with pytest.raises(ServerFailed, match="made by PostgreSQL 16, this is 18"):
        PostgresServer(home).start()


def test_a_home_that_others_may_write_to_is_refused(place):
    home = place / "postgres"
    home.mkdir()
    home.chmod(0o777)

    with pytest.raises(ServerFailed, match="nobody else may write"):
        PostgresServer(home).start()


def test_a_home_that_is_a_symbolic_link_is_refused(place):
    (place / "elsewhere").mkdir()
    (place / "postgres").symlink_to(place / "elsewhere")

    with pytest.raises(ServerFailed, match="symbolic link"):
        PostgresServer(place / "postgres").start()


def test_what_was_left_outside_a_removed_checkout_is_set_aside(place):
    wanted = place / "postgres"
    assert set_aside(wanted) is None
    refuge(wanted).mkdir(mode=0o700)

    aside = set_aside(wanted)

    assert aside is not None
    assert aside.is_dir()
    assert not refuge(wanted).exists()
    aside.rmdir()
