"""Real processes of ours, to be stopped and killed. Each ends with its test."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from typing import Any
from urllib.parse import quote

import psutil
import pytest
from django.conf import settings
from django.db import connection

from tests import nursery

Program = Callable[..., "Child"]


class Child:
    """One process, with lines to and from it."""

    def __init__(self, *command: str, **environment: str) -> None:
        its_stdin, ours = os.pipe()
        self._to = os.fdopen(ours, "w", buffering=1)
        ours, its_stdout = os.pipe()
        self._from = os.fdopen(ours)
        env = {**os.environ, "DATABASE_POOL_SIZE": "20", **environment}
        self.process = nursery.Process(*command, env=env, stdin=its_stdin, stdout=its_stdout)
        os.close(its_stdin)
        os.close(its_stdout)

    def tell(self, line: str = "") -> None:
        """Send a line."""
        self._to.write(line + "\n")

    def hear(self) -> str:
        """Wait for a line."""
        line = self._from.readline()
        assert line, "the process ended"
        return line.strip()

    def close(self) -> None:
        """End it and what it started."""
        with suppress(psutil.NoSuchProcess):
            tree = psutil.Process(self.process.pid)
            for one in (*tree.children(recursive=True), tree):
                with suppress(psutil.NoSuchProcess):
                    one.kill()
        self.process.wait()
        for pipe in (self._to, self._from):
            with suppress(BrokenPipeError):
                pipe.close()


@pytest.fixture
def child(transactional_db: None) -> Iterator[Program]:
    """Start processes on this test's database: `child("-m", "tests.faults.publishing", …, REDIS_URL=…)`."""
    database: dict[str, Any] = connection.settings_dict
    url = (
        f"postgresql://{database['USER']}:{quote(database['PASSWORD'])}"
        f"@{database['HOST']}:{database['PORT']}/{database['NAME']}"
    )
    with ExitStack() as children:

        def start(*command: str, **environment: str) -> Child:
            made = Child(
                *command,
                **{
                    "DJANGO_SETTINGS_MODULE": "gateway_admin.settings",
                    "DATABASE_URL": url,
                    "REDIS_URL": settings.REDIS_URL,
                    **environment,
                },
            )
            children.callback(made.close)
            return made

        yield start
