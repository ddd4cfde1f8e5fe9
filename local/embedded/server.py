"""The base of both embedded servers: one child process that ends with its parent and runs only once on one home.

A home is the directory of one server: its data, its password, and the file `running`. The child inherits the lock on
that file, so the lock is held as long as any process of the server lives, however its parent ended. A pid is not
enough, because pids are used again, most likely after a restart of a container.
"""

import contextlib
import fcntl
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Final, NoReturn, Self
from urllib.parse import urlsplit

from local.embedded.unprivileged import (
    ENVIRONMENT,
    HOME_MODE_AS_ROOT,
    REACHABLE_BY_ALL,
    ServerFailed,
    check_owner,
    existing,
    is_reachable,
    refuge,
    server_user,
)

LOOPBACK: Final = "127.0.0.1"
POLL_SECONDS: Final = 0.02
# A killed server first replays its log, and a busy machine is slow even with an empty one.
START_SECONDS: Final = 120.0
STOP_SECONDS: Final = 20.0
ORPHAN_SECONDS: Final = 1.0
FREE_PORT_ATTEMPTS: Final = 5
LAUNCHER: Final = Path(__file__).with_name("launch.py")


def free_port() -> int:
    """A TCP port on the loopback address that is free at this moment."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def is_port_free(port: int) -> bool:
    """Whether a server could bind this loopback port now. A port in TIME_WAIT counts as free."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def tail(log: Path, *, lines: int = 20) -> str:
    """The last lines of a log for an error message; empty where there is no log."""
    try:
        text = log.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-lines:])


def open_log(log: Path) -> IO[bytes]:
    """Open a log for appending, with mode 0600, because a server's log is not for every user of the machine."""
    return os.fdopen(os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "ab")


def ending_with_parent(
    program: Iterable[str | Path], end_signal: signal.Signals, *, uid: int = -1, gid: int = -1
) -> list[str]:
    """The command that runs a program so that the kernel sends it this signal when this process dies in any way."""
    launcher = (sys.executable, "-I", "-S", LAUNCHER, os.getpid(), int(end_signal), uid, gid)
    return [str(part) for part in (*launcher, *program)]


def write_private(path: Path, text: str, *, uid: int = -1, gid: int = -1) -> None:
    """Write a file with mode 0600 atomically, so that no reader sees half of it and no other user can read it."""
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        if uid >= 0:
            os.fchown(file.fileno(), uid, gid)
        file.write(text)
    partial.replace(path)


class EmbeddedServer(ABC):
    """One server process on its own home and loopback port.

    Args:
        home: the server's directory; made (0700) at the first start. None: a temporary one, removed by `close`.
        port: the port to listen on. None picks a free one at the first start; the home remembers it, and another one
            is picked only when somebody else has it by then.
        log: where the server writes; by default `log` in the home.
        throwaway: trade every durability for speed. For tests.
    """

    name: str
    # Part of the name of a temporary home.
    nickname: str
    stop_signal: signal.Signals

    def __init__(
        self, home: Path | None = None, *, port: int | None = None, log: Path | None = None, throwaway: bool = False
    ) -> None:
        self.temporary = home is None
        self.home = self._make_temporary_home() if home is None else self._place(home.absolute())
        self.log = log or self.home / "log"
        self.throwaway = throwaway
        self.given_port = port
        self.port = port or 0
        self.process: subprocess.Popen[bytes] | None = None

    @property
    @abstractmethod
    def url(self) -> str:
        """The URL for clients, with the password."""

    @property
    def user(self) -> pwd.struct_passwd | None:
        """The user that the server runs as; None for the user of this process."""
        return server_user(self.home)

    @abstractmethod
    def _prepare(self) -> None:
        """Make the data if there is none. It runs under the home's lock, so no server is running on it."""

    @abstractmethod
    def _spawn(self, log: IO[bytes], lock: int) -> subprocess.Popen[bytes]: ...

    @abstractmethod
    def _is_ready(self) -> bool: ...

    @property
    def is_running(self) -> bool:
        """Whether the process this object started is alive."""
        return self.process is not None and self.process.poll() is None

    @property
    def password(self) -> str:
        """The password of the server. It is made with the home and stored in it."""
        file = self.home / "password"
        if not file.exists():
            write_private(file, secrets.token_urlsafe(24))
        return file.read_text(encoding="utf-8")

    def is_named_by(self, url: str) -> bool:
        """Whether a URL belongs to this server: it contains this home's password. The port may have changed."""
        file = self.home / "password"
        return file.exists() and urlsplit(url).password == file.read_text(encoding="utf-8")

    def start(self) -> Self:
        """Start, and return when the server answers.

        Raises:
            ServerFailed: the server did not start. The message has the end of its log.
        """
        if self.is_running:
            return self
        self._make_home()
        for attempt in range(FREE_PORT_ATTEMPTS):
            self.port = self.port or self._remembered_port() or free_port()
            lock = self._lock()
            try:
                self._prepare()
                with open_log(self.log) as log:
                    self.process = self._spawn(log, lock)
                os.ftruncate(lock, 0)
                os.write(lock, str(self.process.pid).encode())
            finally:
                os.close(lock)
            try:
                self._wait_until_ready()
            except ServerFailed:
                # Another process took the free port between our check and the server's bind.
                if self.given_port or is_port_free(self.port) or attempt == FREE_PORT_ATTEMPTS - 1:
                    raise
                self.port = 0
            else:
                write_private(self.home / "port", str(self.port))
                return self
        raise AssertionError

    def stop(self, timeout: float = STOP_SECONDS) -> None:
        """End the server cleanly; by force when it takes longer."""
        if self.process is not None:
            if self.process.poll() is None:
                self.process.send_signal(self.stop_signal)
                try:
                    self.process.wait(timeout)
                except subprocess.TimeoutExpired:
                    self.kill()
            self.process = None

    def restart(self) -> None:
        """Stop, then start on the same port with the same data."""
        self.stop()
        self.start()

    def close(self) -> None:
        """End the server, and remove its home if it is temporary."""
        self.stop()
        if self.temporary:
            shutil.rmtree(self.home, ignore_errors=True)

    def kill(self) -> None:
        """End the server and all its children at once, as a power cut would. The home stays."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(self, *_: object) -> None:
        self.close()

    def _make_temporary_home(self) -> Path:
        user = server_user()
        within = Path(tempfile.gettempdir())
        within = within if is_reachable(within, user) else REACHABLE_BY_ALL
        home = Path(tempfile.mkdtemp(prefix=f"gateway-{self.nickname}-", dir=within))
        if user is not None:
            home.chmod(HOME_MODE_AS_ROOT)
        return home

    @staticmethod
    def _place(home: Path) -> Path:
        """The actual path of the home. Nothing is made yet."""
        user = server_user(home)
        # Data that the user owns already stay in use, whatever the modes of the directories above them are.
        has_data = (home / "data").is_dir() and (user is None or (home / "data").stat().st_uid == user.pw_uid)
        return home if has_data or is_reachable(existing(home.parent), user) else refuge(home)

    def _make_home(self) -> None:
        home, user = self.home, self.user
        if home.is_symlink():
            raise ServerFailed(f"{home} is a symbolic link; remove it")
        try:
            home.mkdir(mode=0o700)
        except FileExistsError:
            check_owner(home, user)
        if user is not None and home.stat().st_uid == os.geteuid():
            home.chmod(HOME_MODE_AS_ROOT)
        if not is_reachable(home, user):
            raise ServerFailed(f"the data of {self.name} are in {home}, and its user cannot go there (any more)")

    def _remembered_port(self) -> int:
        try:
            port = int((self.home / "port").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return 0
        return port if 0 < port < 2**16 and is_port_free(port) else 0

    def _popen(
        self,
        command: Iterable[str | Path],
        *,
        log: IO[bytes],
        lock: int,
        stdin: int = subprocess.DEVNULL,
    ) -> subprocess.Popen[bytes]:
        user = self.user
        uid, gid = (user.pw_uid, user.pw_gid) if user else (-1, -1)
        # In a session of its own the server does not get the terminal's Ctrl-C: the supervisor stops servers last.
        return subprocess.Popen(  # noqa: S603 - our own command
            ending_with_parent(command, self.stop_signal, uid=uid, gid=gid),
            stdin=stdin,
            stdout=log,
            stderr=log,
            pass_fds=(lock,),
            cwd="/",
            env=ENVIRONMENT,
            start_new_session=True,
        )

    def _wait_until_ready(self) -> None:
        assert self.process is not None  # noqa: S101 - set by start
        deadline = time.monotonic() + START_SECONDS
        try:
            while not self._is_ready():
                if self.process.poll() is not None:
                    self._fail(f"ended at its start (status {self.process.returncode})")
                if time.monotonic() > deadline:
                    self._fail(f"did not answer within {START_SECONDS:.0f} s")
                time.sleep(POLL_SECONDS)
        except BaseException:
            self.kill()
            raise

    def _fail(self, how: str) -> NoReturn:
        raise ServerFailed(f"{self.name} {how}; its log, {self.log}, ends so:\n{tail(self.log)}")

    def _lock(self) -> int:
        """Take the home's lock. A server that a killed parent left behind is ended first."""
        lock = os.open(self.home / "running", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        began = time.monotonic()
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                pid = os.pread(lock, 20, 0).decode(errors="replace")
                waited = time.monotonic() - began
                if waited > STOP_SECONDS:
                    os.close(lock)
                    raise ServerFailed(f"another {self.name} (process {pid}) is running on {self.home}") from None
                # PostgreSQL's sessions live for a moment after a killed server. A lock that is held longer means a
                # server.
                if pid.isdigit() and waited > ORPHAN_SECONDS:
                    with contextlib.suppress(OSError):
                        os.kill(int(pid), self.stop_signal)
                time.sleep(0.1)
            else:
                return lock
