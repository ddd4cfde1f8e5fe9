"""Processes that a test may stop or kill while they publish: `python -m tests.faults.publishing <what> …`.

Each prints one line for every step that the test waits for. Stops and kills happen at a chosen place through the
registry, the seam by which documents are read: a process ends or stands still where its documents have been read and
nothing has been written to Redis.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable, Collection
from typing import Any, Never

import django

django.setup()

from django.db import close_old_connections, connection, transaction  # noqa: E402 -- Django has to be set up first

from accounts.models import Account  # noqa: E402
from gateway_admin.relay import Relay  # noqa: E402
from gateway_core import ids  # noqa: E402
from snapshots import document_kinds, publisher  # noqa: E402
from snapshots.redis_client import patient_store  # noqa: E402
from tests.snapshots.rows import make_access_key, write_some  # noqa: E402


def say(text: str) -> None:
    """Tell the test."""
    print(text, flush=True)


def hear() -> str:
    """Wait for the test's word; its end is ours."""
    line = sys.stdin.readline()
    if not line:
        sys.exit(0)
    return line.strip()


def before_redis(step: Callable[[], None]) -> None:
    """Do something whenever tokens have been read and nothing has been written yet."""
    tokens = document_kinds.kind_of("token")

    def documents(account: Account, names: Collection[str]) -> Any:
        found = tokens.documents(account, names)
        step()
        return found

    document_kinds.provide("token", documents=documents, all_documents=tokens.all_documents)


def stand_still(count: int) -> None:
    """Publish many accounts at once; when all have been read, say so and wait to be stopped; then go on.

    Standard input: the accounts of each round, separated by spaces.
    """
    barrier = threading.Barrier(count + 1)
    go_on = threading.Event()

    def step() -> None:
        barrier.wait()
        go_on.wait()

    before_redis(step)

    def publish(account: str, outcomes: list[str]) -> None:
        close_old_connections()
        try:
            publisher.publish_account(ids.from_text(ids.Prefix.ACCOUNT, account), store=patient_store())
            outcomes.append("published")
        except Exception as fault:  # noqa: BLE001 -- how it ends is what the test asks
            outcomes.append(type(fault).__name__)
        finally:
            connection.close()

    while True:
        accounts = hear().split()
        go_on.clear()
        outcomes: list[str] = []
        threads = [threading.Thread(target=publish, args=[account, outcomes]) for account in accounts]
        for thread in threads:
            thread.start()
        barrier.wait()
        say("read")
        hear()
        go_on.set()
        for thread in threads:
            thread.join()
        say(" ".join(sorted(outcomes)))


def die_before_publishing(account: str) -> None:
    """Commit a write, and be killed before it is published."""

    def die() -> Never:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError

    before_redis(die)
    with transaction.atomic():
        make_access_key(Account.objects.get(id=ids.from_text(ids.Prefix.ACCOUNT, account)))


def write(count: int, *accounts: str) -> None:
    """Writers in so many threads, each with a stream of writes, until standard input says so."""
    is_enough = threading.Event()
    identities = [ids.from_text(ids.Prefix.ACCOUNT, account) for account in accounts]
    written = [0] * count

    def run(number: int) -> None:
        while not is_enough.wait(0.01):
            write_some(identities[number % len(identities)], written[number])
            written[number] += 1
        connection.close()

    threads = [threading.Thread(target=run, args=[number]) for number in range(count)]
    for thread in threads:
        thread.start()
    say("writing")
    hear()
    is_enough.set()
    for thread in threads:
        thread.join()
    say(str(sum(written)))


def relays() -> None:
    """At each line of standard input start one relay more, in a process of its own, and say its ID."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        hear()
        if pid := os.fork():
            say(str(pid))
        else:
            Relay(patient_store(), threading.Event()).run()


def make_account(name: str) -> None:
    """An account in a database that the test itself is not connected to, with one access key."""
    account = Account.objects.create(name=name)
    with transaction.atomic():
        make_access_key(account)
    say(account.text_id)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["stand_still", number]:
            stand_still(int(number))
        case ["die_before_publishing", identity]:
            die_before_publishing(identity)
        case ["write", number, *identities]:
            write(int(number), *identities)
        case ["relays"]:
            relays()
        case ["make_account", text]:
            make_account(text)
        case other:
            sys.exit(f"unknown: {other}")
