"""Holds: local.supervision

The supervisor, with small programs in place of ours.
"""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest

from tests.patience import wait_until

SUPERVISOR = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    from local.supervision import *

    directory = Path(sys.argv[1])
    programs = {name: program for name, program in zip(sys.argv[2::2], sys.argv[3::2])}
    supervisor = Supervisor(Signals(), lambda text: print(text, flush=True))
    try:
        with ending_everything(supervisor, [["first"], ["second"]]):
            for name, program in programs.items():
                supervisor.start(
                    Child(name, [sys.executable, "-uc", program], os.environ, directory / f"{name}.log", directory)
                )
            print("started", *(child.process.pid for child in supervisor.children), flush=True)
            supervisor.supervise()
    except StopRequested:
        print("ended", flush=True)
    """
)
NOTES_ITS_END = (
    "import signal, sys, time\n"
    "def end(*_): open('ends', 'a').write('{name}\\n'); sys.exit()\n"
    "signal.signal(signal.SIGTERM, end)\n"
    "print('ready'); time.sleep(600)"
)
DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready'); time.sleep(600)"
HAS_A_CHILD = (
    "import subprocess, sys, time\n"
    "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
    "open('grandchild', 'w').write(str(child.pid)); print('ready'); time.sleep(600)"
)


class Supervised:
    """A supervisor process on programs of the test's own."""

    def __init__(self, directory: Path, **programs: str) -> None:
        self.directory = directory
        arguments = [part for item in programs.items() for part in item]
        self.process = subprocess.Popen(
            [sys.executable, "-c", SUPERVISOR, str(directory), *arguments],
            stdout=subprocess.PIPE,
            text=True,
            # A test run that was started to outlive its terminal hands "ignore" down.
            preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),  # noqa: PLW1509 -- no threads here
        )
        self.pids = [int(pid) for pid in self.line().removeprefix("started").split()]
        for name in programs:
            log = directory / f"{name}.log"
            wait_until(lambda log=log: "ready" in log.read_text(), what="the programs")  # type: ignore[misc]

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.process.wait()


@pytest.fixture
def supervise(tmp_path):
    started = []

    def start(**programs):
        started.append(Supervised(tmp_path, **programs))
        return started[-1]

    yield start
    for supervised in started:
        supervised.close()


def is_alive(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize("what", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_every_process_in_the_order_of_the_phases(supervise, tmp_path, what):
    names = ("second", "first", "unnamed")
    supervised = supervise(**{name: NOTES_ITS_END.replace("{name}", name) for name in names})

    supervised.process.send_signal(what)

    assert supervised.line() == "ended"
    assert supervised.process.wait(10) == 0
    assert not [pid for pid in supervised.pids if is_alive(pid)]
    assert (tmp_path / "ends").read_text().split() == ["first", "second", "unnamed"]


def test_a_process_that_does_not_hear_is_ended_by_a_second_ctrl_c(supervise):
    supervised = supervise(first=DEAF)

    supervised.process.send_signal(signal.SIGINT)
    time.sleep(1.2)
    assert is_alive(supervised.pids[0])
    supervised.process.send_signal(signal.SIGINT)

    assert supervised.process.wait(5) == 0
    assert not is_alive(supervised.pids[0])


def test_what_a_process_started_ends_with_it(supervise, tmp_path):
    supervised = supervise(first=HAS_A_CHILD)
    grandchild = int((tmp_path / "grandchild").read_text())
    assert is_alive(grandchild)

    supervised.process.terminate()

    assert supervised.process.wait(10) == 0
    wait_until(lambda: not is_alive(grandchild), what="the programs")


def test_a_process_that_falls_is_named_with_the_end_of_its_log_and_started_again(supervise, tmp_path):
    supervised = supervise(
        first="import os; print('ready'); print(os.getpid(), 'at work'); import time; time.sleep(600)"
    )

    os.kill(supervised.pids[0], signal.SIGKILL)

    assert supervised.line().startswith("first was ended by SIGKILL; its log, ")
    assert supervised.line() == "ready"
    assert supervised.line() == f"{supervised.pids[0]} at work"
    assert supervised.line() == "It is started again in 1 s."
    wait_until(lambda: (tmp_path / "first.log").read_text().count("at work") == 2, what="the programs")
    again = int((tmp_path / "first.log").read_text().split()[-3])
    supervised.process.terminate()
    assert supervised.process.wait(10) == 0
    assert not is_alive(again)


def test_a_process_that_falls_again_and_again_is_started_ever_later(supervise):
    supervised = supervise(first="print('ready')")
    pauses: list[str] = []

    while len(pauses) < 3:
        line = supervised.line()
        if line.startswith("It is started again in "):
            pauses.append(line.split()[-2])

    assert pauses == ["1", "2", "4"]


@pytest.mark.skipif("sys.platform != 'linux'", reason="only Linux ends children with a killed parent")
def test_no_process_outlives_a_killed_supervisor(supervise):
    supervised = supervise(
        first="print('ready'); import time; time.sleep(600)", second=DEAF.replace("SIG_IGN", "SIG_DFL")
    )

    supervised.process.kill()

    wait_until(lambda: not [pid for pid in supervised.pids if is_alive(pid)], what="the programs")
