"""Fixtures that every room may use. What must be up before Django is in tests/servers.py."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from django.conf import settings
from django.db import connection
from django.db.models.signals import post_migrate
from pytest_django import DjangoDbBlocker
from redis import Redis

from tests.databases import template_database
from tests.servers import RUN, FaultyPostgres, FaultyRedis

pytest_plugins = ["tests.fixtures", "tests.gateway_run", "tests.payments"]


@pytest.fixture(scope="session", autouse=True)
def _quick_passwords() -> None:
    """Hash passwords quickly: the real way takes most of a second of every test that makes a user, on purpose."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture(scope="session", autouse=True)
def _no_static_files() -> None:
    """Serve no static files: WhiteNoise reads 223 of them for each test client. A live server has its own way."""
    settings.WHITENOISE_USE_FINDERS = False


@pytest.fixture(scope="session")
def sealing_private_key() -> str:
    """The private half of SEALING_PUBLIC_KEY. Only for tests that play the data plane."""
    return RUN.sealing_private_key


@pytest.fixture
def redis_url() -> str:
    """This worker's own Redis; empty when the test begins."""
    assert RUN.redis is not None
    return RUN.redis.url


@pytest.fixture
def redis(redis_url: str) -> Iterator[Redis]:
    """A client of this worker's own Redis; answers are bytes."""
    with Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
def redis_server() -> Iterator[Callable[..., FaultyRedis]]:
    """Make running Redis servers of the test's own, to do harm to: `server = redis_server()`.

    They keep their data across `restart` and, but for the last second, `kill`; `redis_server(throwaway=True)` does not.
    """
    with ExitStack() as servers:

        def make(*, throwaway: bool = False) -> FaultyRedis:
            return servers.enter_context(FaultyRedis(throwaway=throwaway))

        yield make


@pytest.fixture
def postgres_server() -> Iterator[Callable[..., FaultyPostgres]]:
    """Make running PostgreSQL servers of the test's own, to do harm to. Each takes 0.7 s to make.

    Their database is empty; `throwaway=False` makes one that survives `kill` as in production.
    """
    with ExitStack() as servers:

        def make(*, throwaway: bool = True) -> FaultyPostgres:
            return servers.enter_context(FaultyPostgres(throwaway=throwaway))

        yield make


@pytest.fixture(scope="session")
def django_db_modify_db_settings(django_db_modify_db_settings: None) -> None:
    """Make this process's database as a copy of one that is migrated."""
    # Emptying the tables would make permissions and content types again each time, and no test reads them.
    post_migrate.receivers = []
    connection.settings_dict["TEST"] |= {"TEMPLATE": template_database(os.environ["DATABASE_URL"]), "MIGRATE": False}


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> None:
    """The test database, with tables that pytest-django may empty after a test that commits."""
    with django_db_blocker.unblock(), connection.cursor() as cursor:
        # The ledger and the audit refuse TRUNCATE; the tests that show it switch the triggers on again.
        cursor.execute("ALTER TABLE usage_ledgerentry DISABLE TRIGGER ledger_is_not_truncated")
        cursor.execute("ALTER TABLE audit_event DISABLE TRIGGER audit_events_are_not_truncated")
        cursor.execute("ALTER TABLE audit_link DISABLE TRIGGER audit_links_are_not_truncated")
