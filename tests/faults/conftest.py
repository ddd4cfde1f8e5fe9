"""Real processes of ours, to be stopped and killed. Each ends with its test."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from typing import Any
from urllib.parse import quote

import psutil
import pytest
from django.conf import settings
from django.db import connection

Program = Callable[..., "Child"]


class Child:
    """One process, with lines to and from it."""

    def __init__(self, *command: str, **environment: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            env={**os.environ, "DATABASE_POOL_SIZE": "20", **environment},
        )

    def tell(self, line: str = "") -> None:
        """Send a line."""
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def hear(self) -> str:
        """Wait for a line."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
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
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
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
