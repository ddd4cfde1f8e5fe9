"""The processes of a soak: the control plane, the relay, Celery, workers and a stand-in upstream."""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

import psutil

from gateway_core import envelopes, sealing
from local.embedded import PostgresServer, RedisServer
from local.embedded.server import free_port

ROOT: Final = Path(__file__).resolve().parent.parent.parent


class Process:
    """One process of the deployment, with its child processes."""

    def __init__(self, name: str, command: list[str], environ: dict[str, str], home: Path) -> None:
        self.name = name
        self._command = command
        self._environ = environ
        self._log = (home / f"{name}.log").open("ab")
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process. It writes its log to `<name>.log`."""
        self.process = subprocess.Popen(
            [sys.executable, *self._command], cwd=ROOT, env=self._environ, stdout=self._log, stderr=self._log
        )

    def end(self, how: signal.Signals = signal.SIGKILL) -> None:
        """Stop the process and its children; kill them where they do not end within 40 seconds."""
        if self.process is None:
            return
        with suppress(psutil.NoSuchProcess):
            tree = psutil.Process(self.process.pid)
            victims = [tree] if how == signal.SIGTERM else [*tree.children(recursive=True), tree]
            for victim in victims:
                with suppress(psutil.NoSuchProcess):
                    victim.send_signal(how)
        try:
            self.process.wait(40)
        except subprocess.TimeoutExpired:
            self.end()

    @property
    def rss(self) -> int:
        """The resident memory of the process, in bytes."""
        assert self.process is not None
        return int(psutil.Process(self.process.pid).memory_info().rss)


class Deployment:
    """A whole gateway on this machine, with free ports and its files in `home`."""

    def __init__(self, home: Path, postgres: PostgresServer, redis: RedisServer, *, workers: int) -> None:
        self.home = home
        self.postgres = postgres
        self.redis = redis
        self.ports = {"control-plane": free_port(), "upstream": free_port()}
        private = sealing.generate_private_key()
        self.environ = {
            "PATH": os.environ["PATH"],
            "DJANGO_SETTINGS_MODULE": "gateway_admin.settings",
            "GATEWAY_MODE": "evaluation",
            "DATABASE_URL": postgres.url,
            "REDIS_URL": redis.url,
            "SECRET_KEY": "x" * 48,
            "DOCUMENT_KEYS": envelopes.generate_document_key(),
            "SEALING_PUBLIC_KEY": sealing.public_key_of(private),
            "CATALOG_REFRESH": "false",
            "LOG_LEVEL": "WARNING",
        }
        upstream = f"http://127.0.0.1:{self.ports['upstream']}/v1"
        self._of_workers = self.environ | {
            "SEALING_PRIVATE_KEYS": private,
            "UPSTREAM_BASE_URLS": f"openai={upstream},anthropic={upstream}",
            "USAGE_SPOOL": str(home / "spool"),
            "DRAIN_TIMEOUT": "10",
        }
        self.workers = [self._worker(number) for number in range(workers)]
        celery = ("-m", "celery", "-A", "gateway_admin")
        beat = ("beat", "--schedule", str(home / "beat"))
        of_tasks = ("worker", "--concurrency", "1", "--without-gossip", "--without-mingle")
        self.control_plane = self._process(
            "control-plane", "manage.py", "serve", "--port", str(self.ports["control-plane"])
        )
        self.relay = self._process("relay", "manage.py", "relay")
        self.celery = self._process("celery", *celery, *of_tasks)
        self.beat = self._process("beat", *celery, *beat)
        self.upstream = self._process("upstream", "-m", "local.stand_in", "--port", str(self.ports["upstream"]))

    def _process(self, name: str, *command: str) -> Process:
        return Process(name, list(command), self.environ, self.home)

    def _worker(self, number: int) -> Process:
        name = f"worker-{number}"
        self.ports[name] = free_port()
        environ = self._of_workers | {"DATA_PLANE_PORT": str(self.ports[name])}
        return Process(name, ["-m", "data_plane", "serve"], environ, self.home)

    @property
    def processes(self) -> list[Process]:
        """All processes, in the order in which they start."""
        return [self.upstream, self.relay, self.control_plane, *self.workers, self.celery, self.beat]

    def url(self, process: Process) -> str:
        """The base URL of a process that listens."""
        return f"http://127.0.0.1:{self.ports[process.name]}"
