"""PostgreSQL and Redis from wheels, for evaluation and for the tests. No Django here: they start before it."""

from gateway_admin.embedded.postgres import PostgresServer
from gateway_admin.embedded.redis import RedisServer
from gateway_admin.embedded.server import ServerFailed

__all__ = ["PostgresServer", "RedisServer", "ServerFailed"]
