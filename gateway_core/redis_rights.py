"""The rights of each process in Redis: the keys that it reads and writes, and the commands that it sends.

This table is the only home of these facts. `manage.py redis_acl` prints it as ACL rules. A test runs every process
under them and finds that none was refused anything, so what a process newly sends has to be added here.

Source: docs/decisions/0014-rights-in-redis.md.
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

from gateway_core.snapshot import Keys

# What a client library sends by itself on each connection.
_CONNECTION: Final = ("ping", "hello", "auth", "select", "client|setinfo", "client|setname")
# Scripts run with the rights of the user who calls them.
_SCRIPTS: Final = ("evalsha", "script|load", "script|exists")
_PUBLISHING: Final = ("hmget", "hget", "hset", "hdel", "set", "del", "unlink", "xadd")
_BROKER: Final = (
    *("multi", "exec", "watch", "unwatch", "lpush", "rpush", "llen", "sadd", "srem", "smembers"),
    *("hget", "hset", "hdel", "zadd", "zrem", "zrange", "set", "get", "del", "pexpire"),
)
_COUNTS: Final = ("limits", "limits:wanted", "limit:*")
_DOCUMENTS: Final = ("epoch", "changes", "catalog", "token:*", "account:*")


class Rights(NamedTuple):
    """What one process may do. Keys and channels are patterns below the namespace."""

    reads: tuple[str, ...]
    writes: tuple[str, ...]
    commands: tuple[str, ...]
    channels: tuple[str, ...] = ()


RIGHTS: Final = {
    # Publishes after each write, reads the workers' reports, waits for them, forgets a worker.
    "control-plane": Rights(
        reads=("workers", "usage", *_COUNTS),
        writes=(*_DOCUMENTS, "workers", "acknowledged"),
        commands=(*_SCRIPTS, *_PUBLISHING, "hgetall", "xread", "xlen"),
    ),
    # It repairs all that Redis holds. The commands of operators use its rights as well.
    "relay": Rights(
        reads=(),
        writes=(*_DOCUMENTS, "workers", "acknowledged", "usage", *_COUNTS),
        commands=(
            *(
                *_SCRIPTS,
                *_PUBLISHING,
                "hgetall",
                "hkeys",
                "hlen",
                "hstrlen",
                "hsetnx",
                "get",
                "mget",
                "exists",
                "type",
                "scan",
            ),
            # Counts of limits that Redis does not know.
            *("srandmember", "srem", "time", "expire"),
            *("info", "xread", "xlen", "xinfo|stream"),
            # `manage.py ingest_usage`.
            *("xreadgroup", "xautoclaim", "xpending", "xack", "xdel", "xgroup|create"),
        ),
    ),
    # Ingests usage, publishes what its tasks change (credits, prices), takes messages.
    "celery": Rights(
        reads=(),
        writes=(*_DOCUMENTS, "usage", "celery:*", *_COUNTS),
        commands=(
            *(*_SCRIPTS, *_PUBLISHING, *_BROKER, "brpop"),
            *("xreadgroup", "xautoclaim", "xpending", "xack", "xdel", "xlen"),
            *("xgroup|create", "xgroup|delconsumer", "xinfo|consumers"),
            "hincrby",
            # Its heartbeat, which nobody reads.
            "publish",
        ),
        channels=("celery:*",),
    ),
    "beat": Rights(reads=(), writes=("celery:*",), commands=_BROKER),
    # Reads documents and follows changes. It writes what it reports and the counts of limits, and no document.
    "data-plane": Rights(
        reads=_DOCUMENTS,
        writes=("workers", "acknowledged", "usage", *_COUNTS),
        commands=(
            *(*_SCRIPTS, "hmget", "hget", "hgetall", "get", "mget", "xread", "xadd", "xlen", "hset", "hdel"),
            *("time", "sadd", "expire"),
        ),
    ),
}


def acl_rules(namespace: str, process: str, *, has_read_only: bool = True) -> Iterator[str]:
    """The rules of a process's user, for `ACL SETUSER` or an ACL file. They leave its passwords as they are.

    Args:
        namespace: REDIS_NAMESPACE.
        process: a key of RIGHTS.
        has_read_only: whether the server knows read-only keys and rights of subcommands (Redis 7, Valkey). Without
            them (Redis 6.2) a user may write what it may read, by the commands that it has.
    """
    rights, prefix = RIGHTS[process], Keys(namespace).prefix
    yield from ("on", "resetkeys", "resetchannels", "-@all")
    for name in rights.reads:
        if name not in rights.writes:
            yield f"{'%R' if has_read_only else ''}~{literal(prefix)}{name}"
    yield from (f"~{literal(prefix)}{name}" for name in rights.writes)
    yield from (f"&{literal(prefix)}{name}" for name in rights.channels)
    commands = dict.fromkeys((*_CONNECTION, *rights.commands))
    if not has_read_only:
        commands = dict.fromkeys(command for command in commands if command != "client|setinfo")
    yield from (f"+{command}" for command in commands)


def literal(text: str) -> str:
    """A namespace, escaped for use in a pattern of Redis. It may hold characters that are special there."""
    return "".join(f"\\{character}" if character in "*?[]^\\-" else character for character in text)
