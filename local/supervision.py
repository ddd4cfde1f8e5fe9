"""Starts processes, restarts those that end, and ends all of them together.

Each child has a session of its own, so that the terminal's Ctrl-C reaches only the supervisor, which then ends them in
order. If the supervisor itself is killed, the kernel sends SIGTERM to every child (Linux only).
"""

import contextlib
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Final

from local.embedded.server import EmbeddedServer, ending_with_parent, open_log, tail
from local.embedded.unprivileged import ServerFailed

STOP_SECONDS: Final = 15.0
POLL_SECONDS: Final = 0.5
FIRST_PAUSE_SECONDS: Final = 1.0
LONGEST_PAUSE_SECONDS: Final = 30.0
# Seconds. A process that ran this long has recovered: before its next restart comes the first, short pause again.
RECOVERED_SECONDS: Final = 60.0
IMPATIENT_SECONDS: Final = 1.0
LOG_BYTES: Final = 10 * 1024 * 1024


class StopRequested(Exception):
    """A signal has asked the run to end."""


class ChildFailed(RuntimeError):
    """A process ended, failed or was not ready in time."""


class Signals:
    """The signals that end the run. `wait` notices them at once, and only `wait` and `check` act on them.

    A handler that raises could interrupt a start after the process began and before it is recorded here.
    """

    def __init__(self) -> None:
        self.first_at = 0.0
        self.is_impatient = False
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._reader, False)
        os.set_blocking(self._writer, False)
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._note)
        # Under nohup the run goes on after the terminal is closed.
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            signal.signal(signal.SIGHUP, self._note)
        # SIGCHLD ends `wait` early, so that the end of a child is noticed at once.
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if not self.first_at:
            self.first_at = now
        # A SIGTERM to the group comes twice, once from make. Only a second Ctrl-C of the user means "now".
        elif number == signal.SIGINT and now - self.first_at > IMPATIENT_SECONDS:
            self.is_impatient = True

    def check(self) -> None:
        """Raise `StopRequested` if a signal has asked the run to end."""
        if self.first_at:
            raise StopRequested

    def wait(self, seconds: float) -> None:
        """Sleep until the time is over or a signal arrives."""
        with contextlib.suppress(InterruptedError):
            select.select([self._reader], [], [], max(0.0, seconds))
        with contextlib.suppress(BlockingIOError):
            while os.read(self._reader, 512):
                pass


@dataclass(eq=False)
class Child:
    """One process of the run: how to start it, and its state.

    With `captures`, the standard output of the process (a few lines) goes to `run_to_its_end` and not to the log,
    because it may be secret.
    """

    name: str
    command: Sequence[str]
    environ: Mapping[str, str]
    log: Path
    directory: Path
    captures: bool = False
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    restart_at: float = 0.0
    pause_seconds: float = field(default=FIRST_PAUSE_SECONDS)

    def start(self) -> None:
        """Start the process. Its output is appended to its log."""
        with open_log(self.log) as log:
            self.process = subprocess.Popen(  # noqa: S603 - our own commands
                ending_with_parent(self.command, signal.SIGTERM),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if self.captures else log,
                stderr=log,
                cwd=self.directory,
                env=dict(self.environ),
                start_new_session=True,
            )
        self.started_at = time.monotonic()

    @property
    def has_ended(self) -> bool:
        """Whether it was started and is no longer alive."""
        return self.process is not None and self.process.poll() is not None

    def describe_end(self) -> str:
        """How it ended, with the last lines of its log."""
        status = self.process.returncode if self.process else 0
        how = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
        return f"{self.name} {how}; its log, {self.log}, ends so:\n{tail(self.log)}"

    def read_captured(self) -> str:
        """The captured standard output of a process that has ended."""
        if self.process is None or self.process.stdout is None:
            return ""
        with self.process.stdout as output:
            return output.read().decode()

    def terminate(self) -> None:
        """Ask the process to end, by SIGTERM."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()

    def kill(self) -> None:
        """Kill the process and all its children."""
        if self.process is None:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


class Supervisor:
    """All processes of one run.

    Args:
        signals: the signals that may end the run.
        say: prints a line for the user.
    """

    def __init__(self, signals: Signals, say: Callable[[str], None]) -> None:
        self.signals = signals
        self.say = say
        self.servers: list[EmbeddedServer] = []
        self.children: list[Child] = []

    def start_server(self, server: EmbeddedServer) -> None:
        """Start an embedded server. Servers are ended last."""
        self.signals.check()
        self.servers.append(server)
        server.start()
        self.signals.check()

    def run_to_its_end(self, step: Child) -> str:
        """Run a process that should end by itself with status 0, and return its captured output.

        Raises:
            ChildFailed: it ended with another status. The message has the end of its log.
            StopRequested: a signal came meanwhile, and the process was ended.
        """
        self.signals.check()
        step.start()
        try:
            while not step.has_ended:
                self.signals.wait(POLL_SECONDS)
                self.signals.check()
        except StopRequested:
            self._end([step])
            raise
        captured = step.read_captured()
        if step.process is not None and step.process.returncode != 0:
            raise ChildFailed(step.describe_end())
        return captured

    def start(self, child: Child) -> None:
        """Start a process that should run until the end."""
        self.signals.check()
        if child.log.exists() and child.log.stat().st_size > LOG_BYTES:
            child.log.replace(child.log.with_suffix(".log.1"))
        self.children.append(child)
        child.start()

    def wait_until(self, is_ready: Callable[[], bool], *, seconds: float, what: str, log: Path) -> None:
        """Wait for a condition. No process may end meanwhile.

        Raises:
            ChildFailed: a process ended, or the time is over.
        """
        deadline = time.monotonic() + seconds
        while not is_ready():
            self.signals.check()
            for child in self.children:
                if child.has_ended:
                    raise ChildFailed(child.describe_end())
            if time.monotonic() > deadline:
                raise ChildFailed(f"{what} within {seconds:.0f} s; its log, {log}, ends so:\n{tail(log)}")
            self.signals.wait(0.2)

    def supervise(self) -> None:
        """Keep everything running until a signal comes.

        Raises:
            StopRequested: always, in the end.
        """
        while True:
            self.signals.check()
            for server in self.servers:
                if not server.is_running:
                    self._restart_server(server)
            for child in self.children:
                self._keep(child)
            self.signals.wait(POLL_SECONDS)

    def _restart_server(self, server: EmbeddedServer) -> None:
        self.say(f"{server.name} ended; its log, {server.log}, ends so:\n{tail(server.log)}\nIt is started again.")
        try:
            server.start()
        except ServerFailed as failure:
            self.say(f"{failure}\nIt is tried again.")
            self.signals.wait(FIRST_PAUSE_SECONDS)

    def _keep(self, child: Child) -> None:
        now = time.monotonic()
        if child.restart_at:
            if now >= child.restart_at:
                child.restart_at = 0.0
                child.start()
            return
        if not child.has_ended:
            return
        if now - child.started_at > RECOVERED_SECONDS:
            child.pause_seconds = FIRST_PAUSE_SECONDS
        # Its children may still run and hold its port.
        child.kill()
        self.say(f"{child.describe_end()}\nIt is started again in {child.pause_seconds:.0f} s.")
        child.restart_at = now + child.pause_seconds
        child.pause_seconds = min(child.pause_seconds * 2, LONGEST_PAUSE_SECONDS)

    def end(self, phases: Sequence[Sequence[str]]) -> None:
        """End everything: the named children phase by phase, then those not named, then the servers, last one first."""
        named = {name for phase in phases for name in phase}
        groups = [[child for child in self.children if child.name in phase] for phase in phases]
        for group in [*groups, [child for child in self.children if child.name not in named]]:
            self._end(group)
        for server in reversed(self.servers):
            server.stop()

    def _end(self, children: Sequence[Child]) -> None:
        """Ask the processes to end, wait, then kill them. A second Ctrl-C ends the waiting."""
        deadline = time.monotonic() + STOP_SECONDS
        for child in children:
            child.terminate()
        while any(child.process is not None and child.process.poll() is None for child in children):
            if time.monotonic() > deadline or self.signals.is_impatient:
                break
            self.signals.wait(0.1)
        for child in children:
            child.kill()


@contextlib.contextmanager
def ending_everything(supervisor: Supervisor, phases: Sequence[Sequence[str]]) -> Iterator[None]:
    """End everything that was started when the block ends, in any way."""
    try:
        yield
    finally:
        supervisor.end(phases)
