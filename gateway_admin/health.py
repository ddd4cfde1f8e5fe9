"""`/healthz` and `/readyz`: whether this process is alive, and whether it can do its work."""

from collections.abc import Callable
from typing import Final

import structlog
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor
from redis.exceptions import RedisError
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from rest.errors import Unavailable
from rest.serializers import ShownSerializer
from rest.views import RestViews
from snapshots.redis_client import inline_store

_logger = structlog.get_logger(__name__)


# PostgreSQL answers and takes no writes. Reads are answered, so a balancer should go on sending requests here.
READ_ONLY: Final = "read_only"
_PASSED: Final = ("ok", READ_ONLY)


class NotReady(Unavailable):
    """The control plane cannot do its work yet; `details` names what is missing."""

    code = "not_ready"


class AliveSerializer(ShownSerializer):
    """The process answers."""

    status = serializers.ChoiceField(["alive"], help_text="Always `alive`.")


class ChecksSerializer(ShownSerializer):
    """The checks of readiness, each with its result."""

    database = serializers.ChoiceField(
        ["ok", READ_ONLY],
        help_text="PostgreSQL answers. `read_only`: it takes no writes. Reads are answered, writes get 503.",
    )
    migrations = serializers.ChoiceField(["ok"], help_text="Every migration of this release has been applied.")
    redis = serializers.ChoiceField(["ok"], help_text="Redis answers.")


class ReadySerializer(ShownSerializer):
    """Every check has passed."""

    status = serializers.ChoiceField(["ready"], help_text="Always `ready`; otherwise the answer is 503.")
    checks = ChecksSerializer()


class HealthViews(RestViews):
    """A probe for the tools that start and watch this process. It needs no API key and shows no secrets."""

    authentication_classes = ()
    permission_classes = ()
    shape = AliveSerializer

    def retrieve(self, _request: Request) -> Response:
        """The process answers. Nothing else is checked."""
        return Response({"status": "alive"})


class ReadinessViews(RestViews):
    """The other probe: whether this process can do its work."""

    authentication_classes = ()
    permission_classes = ()
    shape = ReadySerializer

    def retrieve(self, _request: Request) -> Response:
        """The database and Redis answer, and every migration has been applied."""
        checks = {name: check() for name, check in _CHECKS.items()}
        checks["migrations"] = _MIGRATIONS() if checks["database"] in _PASSED else "ok"
        if faults := {name: found for name, found in checks.items() if found not in _PASSED}:
            raise NotReady(details=faults)
        return Response({"status": "ready", "checks": dict(sorted(checks.items()))})


class _Migrations:
    """Checks that the database has every migration of this release. A success is remembered and not checked again."""

    def __init__(self) -> None:
        self._are_applied = False

    def __call__(self) -> str:
        """`ok`, or the fault as a text."""
        if self._are_applied:
            return "ok"
        try:
            executor = MigrationExecutor(connection)
            missing = executor.migration_plan(executor.loader.graph.leaf_nodes())
        except DatabaseError as fault:
            _logger.warning("migrations_not_ready", cause=type(fault).__name__)
            return "unknown"
        if missing:
            return f"{len(missing)} are not applied"
        self._are_applied = True
        return "ok"


def _check_database() -> str:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT current_setting('transaction_read_only')")
            is_read_only = cursor.fetchone() == ("on",)
    except DatabaseError as fault:
        # The cause may contain addresses, so it goes into the log and not into the answer.
        _logger.warning("database_not_ready", cause=str(fault))
        return "unreachable"
    return READ_ONLY if is_read_only else "ok"


def _check_redis() -> str:
    try:
        inline_store().redis.ping()
    except RedisError as fault:
        _logger.warning("redis_not_ready", cause=type(fault).__name__)
        return "unreachable"
    return "ok"


_CHECKS: Final[dict[str, Callable[[], str]]] = {
    "database": _check_database,
    "redis": _check_redis,
}
_MIGRATIONS: Final = _Migrations()
