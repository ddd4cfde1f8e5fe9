"""Processes of ours that start warm: a process that has imported the libraries forks one whenever a test wants one.

A test run starts some two hundred processes, and most of what a start costs is the import of the same libraries. What
is forked is a process like any other: it has its own environment, its files, its signals and its exit status, and it
runs a module or a script as `__main__`, up to the interpreter's regular end. The nursery imports no module that reads
the environment.
"""

import atexit
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
# The worker whole, and of the control plane what can be imported without Django's settings.
PRELOADED: Final = (
    "aiohttp.web",
    "allauth",
    "axes",
    "celery",
    "csp",
    "cryptography.hazmat.primitives.ciphers.aead",
    "data_plane.http.server",
    "data_plane.settings",
    "django.contrib.admin",
    "django.contrib.auth.hashers",
    "django.core.management.commands.migrate",
    "django.db.backends.postgresql.base",
    "django.db.models",
    "django.forms",
    "django_structlog",
    "drf_spectacular",
    "drf_spectacular.utils",
    "environ",
    "genai_prices.data_snapshot",
    "h11",
    "inflection",
    "jsonschema",
    "orjson",
    "packaging.version",
    "prometheus_client",
    "psycopg_pool",
    "redis",
    "rest_framework.serializers",
    "stripe",
    "structlog.dev",
    "unfold",
    "uritemplate",
    "uuid_utils.compat",
    "uvicorn.main",
    "whitenoise.base",
    "yaml",
)
_NUMBER: Final = struct.Struct("!i")


class Nursery:
    """The process that forks, and the connection to it."""

    def __init__(self) -> None:
        ours, its = socket.socketpair()
        self._connection = ours
        with its:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.nursery", str(its.fileno())],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                pass_fds=[its.fileno()],
            )
        atexit.register(self._end, os.getpid())

    def fork(self, request: bytes, descriptors: list[int]) -> None:
        """Make one process; it gets the descriptors."""
        socket.send_fds(self._connection, [_NUMBER.pack(len(request))], descriptors)
        self._connection.sendall(request)

    def _end(self, owner: int) -> None:
        # A forked child inherits this exit handler, not the nursery.
        if os.getpid() == owner:
            self._connection.close()
            self._process.wait()


class Process:
    """A process of ours, forked by the nursery of this test process; used as a `subprocess.Popen` is."""

    def __init__(
        self,
        *command: str,
        env: Mapping[str, str],
        stdin: int = 0,
        stdout: int = 1,
        stderr: int = 2,
    ) -> None:
        """Start it, in the root of the repository.

        Args:
            command: what stands after `python`: `-m` and a module, or a script; then its arguments.
            env: its whole environment.
            stdin, stdout, stderr: descriptors, which stay open here; those of the test process where none is given.
        """
        # The interpreter reads it when it starts.
        assert env.get("PYTHONPATH") in {None, os.environ.get("PYTHONPATH")}, "a nursery's child imports as its parent"
        self.args = command
        self.returncode: int | None = None
        self._report, its = socket.socketpair()
        with its:
            request = json.dumps({"command": command, "environ": dict(env)}).encode()
            sys.stdout.flush()
            _nursery().fork(request, [its.fileno(), stdin, stdout, stderr])
        self.pid = self._read()

    def poll(self) -> int | None:
        """Its exit status, negative for a signal, or None while it runs."""
        if self.returncode is None and select.select([self._report], [], [], 0)[0]:
            self.returncode = os.waitstatus_to_exitcode(self._read())
            self._report.close()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end; its exit status.

        Raises:
            subprocess.TimeoutExpired: it still runs after so many seconds.
        """
        if self.returncode is None:
            select.select([self._report], [], [], timeout)
        status = self.poll()
        if status is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return status

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        """SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def _read(self) -> int:
        received = self._report.recv(_NUMBER.size)
        assert received, "the nursery has ended"
        number: int = _NUMBER.unpack(received)[0]
        return number


def run(*command: str, env: Mapping[str, str], stdin: bytes = b"") -> "subprocess.CompletedProcess[str]":
    """Run a command to its end, and return what it wrote."""
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as wrong:
        given.write(stdin)
        given.seek(0)
        process = Process(*command, env=env, stdin=given.fileno(), stdout=out.fileno(), stderr=wrong.fileno())
        status = process.wait()
        out.seek(0)
        wrong.seek(0)
        return subprocess.CompletedProcess(command, status, out.read().decode(), wrong.read().decode())


@cache
def _nursery() -> Nursery:
    return Nursery()


def _forked(requests: socket.socket) -> list[str]:
    """Fork at each request. Returns in each child alone, with its command, when all else is as it wants it."""
    reports: dict[int, socket.socket] = {}

    def reap(_number: int, _frame: object) -> None:
        while reports:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            with reports.pop(pid) as report, suppress(OSError):
                report.sendall(_NUMBER.pack(status))

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, reap)
    while True:
        head, descriptors, _, _ = socket.recv_fds(requests, _NUMBER.size, 4)
        if not head:
            # At once: an interpreter's regular end would take its time over all that is imported.
            os._exit(0)
        left = _NUMBER.unpack(head)[0]
        request = b""
        while len(request) < left:
            request += requests.recv(left - len(request))
        asked = json.loads(request)
        # A child may end before its report is known.
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
        pid = os.fork()
        if not pid:
            break
        reports[pid] = socket.socket(fileno=descriptors[0])
        with suppress(OSError):
            reports[pid].sendall(_NUMBER.pack(pid))
        for descriptor in descriptors[1:]:
            os.close(descriptor)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGCHLD])

    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGCHLD])
    for report in reports.values():
        report.close()
    requests.close()
    for place, descriptor in enumerate(descriptors[1:]):
        os.dup2(descriptor, place)
    for descriptor in descriptors:
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(asked["environ"])
    time.tzset()
    command: list[str] = asked["command"]
    return command


def _main(descriptor: int) -> None:
    for name in PRELOADED:
        importlib.import_module(name)
    # What was imported is never garbage; a child need not look at it.
    gc.freeze()
    command = _forked(socket.socket(fileno=descriptor))
    if command[0] == "-m":
        sys.argv = command[1:]
        runpy.run_module(command[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = command
        runpy.run_path(command[0], run_name="__main__")


if __name__ == "__main__":
    _main(int(sys.argv[1]))
