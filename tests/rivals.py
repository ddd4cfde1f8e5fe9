"""Two writers on two connections, held at the moments that matter."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

from django.db import connection, transaction

from tests.patience import PATIENCE, stretched, wait_until


@contextmanager
def uncommitted(write: Callable[[], Any]) -> Iterator[None]:
    """Have the write done in another connection, and committed when the block ends."""
    is_written, may_commit = threading.Event(), threading.Event()

    def run() -> None:
        with transaction.atomic():
            write()
            is_written.set()
            may_commit.wait()

    done = in_background(run)
    try:
        while not is_written.wait(0.01):
            if done.done():
                done.result()
        yield
    finally:
        may_commit.set()
        done.result(stretched(PATIENCE))


def in_background(write: Callable[[], Any]) -> "Future[Any]":
    """The outcome of a write in another connection."""
    outcome: Future[Any] = Future()

    def run() -> None:
        try:
            outcome.set_result(write())
        except BaseException as error:  # noqa: BLE001 -- it is the outcome
            outcome.set_exception(error)
        finally:
            connection.close()

    threading.Thread(target=run, daemon=True).start()
    return outcome


def blocked(write: Callable[[], Any]) -> "Future[Any]":
    """The outcome of a write that waits for another connection's lock; returns when it does."""
    outcome = in_background(write)
    wait_until(lambda: outcome.done() or _is_somebody_waiting(), what="it waits or ends")
    assert not outcome.done(), f"it did not wait: {outcome!r}"
    return outcome


def _is_somebody_waiting() -> bool:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT EXISTS (SELECT FROM pg_stat_activity"
            " WHERE wait_event_type = 'Lock' AND datname = current_database())"
        )
        return bool(cursor.fetchone()[0])
