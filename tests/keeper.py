"""A test run leaves nothing behind: a parent process ends what the run started and removes what it made.

However the run ends (by itself, by Ctrl-C, by SIGTERM, by SIGKILL), its children and theirs are found: the kernel gives
the orphans of a process to its nearest ancestor that asked for them (Linux; elsewhere only those are found whose
parents live). All temporary files of a run are in one directory.
"""

import ctypes
import os
import shutil
import signal
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Final, NoReturn

import psutil

# How long a run that was interrupted has for its own end, and then what it started for theirs.
RUN_SECONDS: Final = 10
REST_SECONDS: Final = 5
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_CHILD_SUBREAPER: Final = 36


def keep() -> None:
    """Return in a child process, which is the run. This process waits for it, tidies up, and exits with its status."""
    directory = Path(tempfile.mkdtemp(prefix="gateway-tests-"))
    # The user that PostgreSQL runs as goes through it.
    directory.chmod(0o711)
    sys.stdout.flush()
    sys.stderr.flush()
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    run = os.fork()
    if run:
        _exit_after(run, directory)
    _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    # As Ctrl-C: pytest ends the tests, their fixtures and its workers in order.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    os.environ["TMPDIR"] = tempfile.tempdir = str(directory)


def _exit_after(run: int, directory: Path) -> NoReturn:
    def interrupt(_number: int, _frame: FrameType | None) -> None:
        with suppress(ProcessLookupError):
            os.kill(run, signal.SIGTERM)
        signal.alarm(RUN_SECONDS)

    def await_its_end(_number: int, _frame: FrameType | None) -> None:
        # The terminal has sent it to the run as well.
        signal.alarm(RUN_SECONDS)

    def kill(_number: int, _frame: FrameType | None) -> None:
        with suppress(ProcessLookupError):
            os.kill(run, signal.SIGKILL)

    signal.signal(signal.SIGTERM, interrupt)
    signal.signal(signal.SIGHUP, interrupt)
    signal.signal(signal.SIGINT, await_its_end)
    signal.signal(signal.SIGALRM, kill)
    ended, status = os.wait()
    while ended != run:
        ended, status = os.wait()
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGALRM):
        signal.signal(number, signal.SIG_IGN)
    _end_the_rest()
    shutil.rmtree(directory, ignore_errors=True)
    code = os.waitstatus_to_exitcode(status)
    # As a shell tells of a signal.
    os._exit(code if code >= 0 else 128 - code)


def _end_the_rest() -> None:
    """End all descendants: those that end at a request first, and with no choice what is left after."""
    me = psutil.Process()
    left = me.children(recursive=True)
    for process in left:
        with suppress(psutil.NoSuchProcess):
            process.terminate()
    psutil.wait_procs(left, timeout=REST_SECONDS)
    while left := [one for one in me.children(recursive=True) if one.status() != psutil.STATUS_ZOMBIE]:
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(left, timeout=REST_SECONDS)


def _prctl(option: int, value: int) -> None:
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)
