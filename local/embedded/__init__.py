"""PostgreSQL and Redis from wheels, for evaluation and for the tests. No Django here: they start before it."""

from local.embedded.postgres import PostgresServer
from local.embedded.redis import RedisServer
from local.embedded.unprivileged import ServerFailed

__all__ = ["PostgresServer", "RedisServer", "ServerFailed"]
