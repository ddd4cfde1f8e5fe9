"""The servers and the environment of a test run: a pytest plugin, loaded before pytest-django reads the settings.

One PostgreSQL serves the run; pytest-django makes a database for each worker in it. Each worker has a Redis of its
own, emptied before every test. Both are the embedded ones of `make run`, without durability, in temporary
directories, and end with the process that started them, however it ends.

Keys are made for each process. The private sealing key is never in the environment: only a test that plays the data
plane asks for it (the fixture `sealing_private_key`).
"""

import atexit
import ipaddress
import os
import re
import secrets
import shutil
import signal
import socket
import sys
import unicodedata
from collections.abc import Generator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import psutil
import pytest
from redis import Redis

from gateway_core import envelopes, sealing
from local.embedded import PostgresServer, RedisServer
from tests import keeper

# What a developer's shell may hold (a sourced var/dev.env, say) is no part of a test run.
FOREIGN: Final = (
    "AI_GATEWAY_API_KEY",
    "ALLOWED_HOSTS",
    "CATALOG_REFRESH",
    "CATALOG_URL",
    "CELERY_BROKER_URL",
    "CONTROL_PLANE_PORT",
    "CONTROL_PLANE_URL",
    "DASHBOARD_REQUIRE_TOTP",
    "DATABASE_POOL_SIZE",
    "DATA_PLANE_PORT",
    "DATA_PLANE_URL",
    "LOADING_SPREAD",
    "REDIS_NAMESPACE",
    "SEALING_PRIVATE_KEYS",
    "SECURE_COOKIES",
    "SNAPSHOT_DIRECTORY",
    "TRUSTED_PROXIES",
    "UPSTREAM_BASE_URLS",
    "UPSTREAM_DENIED_PORTS",
    "UPSTREAM_ALLOWED_NETWORKS",
    "UPSTREAM_ALLOWED_HOSTS",
    "USAGE_SPOOL",
)
SECRETS: Final = ("DATABASE_URL", "REDIS_URL", "SECRET_KEY", "DOCUMENT_KEYS", "SEALING_PUBLIC_KEY")

LONGEST_NAME: Final = 80
# An ID, a token, a document key: whatever a module made when it was imported.
MADE_ANEW: Final = re.compile(r"[0-9a-z]{25}|[0-9A-Za-z]{26}|[0-9a-f]{8}:")


class FaultyRedis(RedisServer):
    """A Redis that a test may stop, kill, pause, restart and empty as it likes."""

    def pause(self) -> None:
        """Answer nothing, keep every connection open."""
        _signal_tree(self.process, signal.SIGSTOP)

    def resume(self) -> None:
        """Go on after `pause`."""
        _signal_tree(self.process, signal.SIGCONT)

    def flush(self) -> None:
        """Forget everything, as after a failover to an empty replica."""
        with Redis.from_url(self.url) as client:
            client.flushall()


class DebianRedis(FaultyRedis):
    """A Redis of another maker, where the machine has one: what is promised for Redis has to hold there too."""

    @property
    def program(self) -> Path:
        """The program on the path."""
        found = shutil.which("redis-server")
        if found is None:
            pytest.skip("there is no redis-server on the path")
        return Path(found)


class FaultyPostgres(PostgresServer):
    """A PostgreSQL that a test may stop, kill, pause and restart as it likes."""

    def pause(self) -> None:
        """Answer nothing, keep every session open."""
        _signal_tree(self.process, signal.SIGSTOP)

    def resume(self) -> None:
        """Go on after `pause`."""
        _signal_tree(self.process, signal.SIGCONT)


class _Run:
    """What this process of the test run started."""

    postgres: PostgresServer | None = None
    redis: RedisServer | None = None
    client: "Redis | None" = None
    sealing_private_key: str = ""
    owner: int = 0


RUN: Final = _Run()


@pytest.hookimpl(wrapper=True)
def pytest_load_initial_conftests(args: list[str]) -> Generator[None, object, object]:
    """Start first: a wrapper runs before all plain hooks of this name, and pytest-django reads the settings in one."""
    if not {"-h", "--help", "-V", "--version"} & set(args):
        _start()
    return (yield)


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """A name that is the same in every process of the run: IDs and tokens are new in each, and xdist compares names."""
    text = val.decode(errors="replace") if isinstance(val, bytes) else val
    if isinstance(text, str) and (len(text) > LONGEST_NAME or MADE_ANEW.search(text)):
        return argname
    return None


def pytest_runtest_setup() -> None:
    """Every test finds an empty Redis. One call of 0.1 ms, so that nobody needs to ask for it."""
    if RUN.client is not None:
        RUN.client.flushall()


def _start() -> None:
    if "PYTEST_XDIST_WORKER" not in os.environ:
        keeper.keep()
    # The run starts some hundred Python processes; compiled once, they take half of the processor time.
    sys.dont_write_bytecode = False
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    for name in FOREIGN:
        os.environ.pop(name, None)
        os.environ.pop(f"{name}_FILE", None)
    for name in SECRETS:
        os.environ.pop(f"{name}_FILE", None)
    RUN.owner = os.getpid()
    atexit.register(_stop)
    if "PYTEST_XDIST_WORKER" not in os.environ:
        RUN.postgres = PostgresServer(throwaway=True).start()
        os.environ["DATABASE_URL"] = RUN.postgres.url
    RUN.redis = RedisServer(throwaway=True).start()
    RUN.client = Redis.from_url(RUN.redis.url)
    RUN.sealing_private_key = sealing.generate_private_key()
    os.environ |= {
        "GATEWAY_MODE": "evaluation",
        "REDIS_URL": RUN.redis.url,
        "SECRET_KEY": secrets.token_urlsafe(48),
        "DOCUMENT_KEYS": envelopes.generate_document_key(),
        "SEALING_PUBLIC_KEY": sealing.public_key_of(RUN.sealing_private_key),
    }
    sys.addaudithook(_stay_at_home)


def _stop() -> None:
    # A forked child inherits this exit handler, not the servers.
    if os.getpid() != RUN.owner:
        return
    if RUN.client is not None:
        RUN.client.close()
    for server in (RUN.redis, RUN.postgres):
        if server is not None:
            server.close()


def _stay_at_home(event: str, args: tuple[Any, ...]) -> None:
    """No test of ours talks to the network: other hosts are refused, and their names do not resolve."""
    if event == "socket.connect" and args[0].family in {socket.AF_INET, socket.AF_INET6}:
        host = str(args[1][0])
        if host != "localhost" and not _is_loopback(host):
            raise RuntimeError(f"a test tried to connect to {args[1]}")
    elif event == "socket.getaddrinfo":
        host = args[0].decode(errors="replace") if isinstance(args[0], bytes) else str(args[0] or "")
        if host not in {"", "localhost"} and not _is_numeric(host):
            raise socket.gaierror(socket.EAI_NONAME, f"names do not resolve in tests: {host}")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_numeric(host: str) -> bool:
    """Whether the resolver makes an address of it without asking anybody: `127.1`, `0x7f000001`, `①②⑦.0.0.1`."""
    written = unicodedata.normalize("NFKC", host).replace("。", ".")
    with suppress(ValueError):
        ipaddress.ip_address(written.partition("%")[0])
        return True
    try:
        socket.inet_aton(written)
    except (OSError, ValueError):
        return False
    return True


def _signal_tree(process: Any, what: signal.Signals) -> None:
    tree = psutil.Process(process.pid)
    for one in (tree, *tree.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            one.send_signal(what)
