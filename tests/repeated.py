"""`make test` again and again, half of the runs beside other work: `python -m tests.repeated [--runs 10] -- command`.

Prints a table, and fails if one run did.
"""

import argparse
import multiprocessing
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

# Processes that want a core all the time.
LOAD: Final = 8


def spin() -> None:
    """Keep a core busy for as long as the parent lives."""
    parent = os.getppid()
    while os.getppid() == parent:
        sum(range(100_000))


@contextmanager
def load(count: int) -> Iterator[None]:
    """So many processes that compute beside the block."""
    processes = [multiprocessing.Process(target=spin, daemon=True) for _ in range(count)]
    for process in processes:
        process.start()
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.join()


def main() -> int:
    """Run, print, and say whether all were green."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10, help="how many; every second one beside a load of 8")
    parser.add_argument("command", nargs="+")
    asked = parser.parse_args()
    rows = ["run  load  seconds  passed  failed"]
    print(rows[0], flush=True)
    is_green = True
    for number in range(1, asked.runs + 1):
        processes = 0 if number % 2 else LOAD
        began = time.monotonic()
        with load(processes):
            done = subprocess.run(asked.command, stdout=subprocess.PIPE, text=True, check=False)
        counts = {
            what: sum(map(int, re.findall(rf"(\d+) {what}", done.stdout))) for what in ("passed", "failed", "error")
        }
        failed = counts["failed"] + counts["error"]
        is_green &= done.returncode == 0
        rows.append(f"{number:3}  {processes:4}  {time.monotonic() - began:7.0f}  {counts['passed']:6}  {failed:6}")
        print(rows[-1], flush=True)
        if done.returncode:
            print(done.stdout, flush=True)
    if not is_green:
        print("\n".join(rows))
    return 0 if is_green else 1


if __name__ == "__main__":
    sys.exit(main())
