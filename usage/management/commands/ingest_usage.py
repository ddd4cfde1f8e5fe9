"""`manage.py ingest_usage`: write the workers' usage events to PostgreSQL, once or in a loop."""

import signal
import time
from argparse import ArgumentParser
from typing import Any, Final

import structlog
from django.core.management.base import BaseCommand
from django.db import InterfaceError, OperationalError, close_old_connections
from redis.exceptions import RedisError

from snapshots.redis_client import patient_store
from usage import limit_rounds
from usage.ingest import Ingest

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_BLOCK_MILLISECONDS: Final = 1000
_PAUSE_SECONDS: Final = 1.0
_FOR_EVER: Final = float("inf")


class Command(BaseCommand):
    """The task of the same name, without Celery: for a process of its own where there is much to write."""

    help = (
        "Write usage events from Redis to PostgreSQL until none is left. Celery does the same each second; with --loop "
        "this is a process for nothing else."
    )

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._is_asked_to_end = False

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add --loop."""
        parser.add_argument("--loop", action="store_true", help="Go on until a signal comes.")

    def handle(self, *args: Any, **options: Any) -> None:
        """Without --loop: until the stream is empty."""
        ingest = Ingest(patient_store().redis)
        if not options["loop"]:
            self.stdout.write(f"{ingest.run(seconds=_FOR_EVER)} events added")
            limit_rounds.send(patient_store().redis)
            return
        for one in (signal.SIGTERM, signal.SIGINT):
            signal.signal(one, self._end)
        while not self._is_asked_to_end:
            try:
                ingest.round(block_milliseconds=_BLOCK_MILLISECONDS)
                limit_rounds.send(patient_store().redis)
            except (RedisError, OperationalError, InterfaceError) as fault:
                log.warning("usage waits", fault=type(fault).__name__)
                close_old_connections()
                time.sleep(_PAUSE_SECONDS)

    def _end(self, *_: object) -> None:
        self._is_asked_to_end = True
