"""A worker in the field: clients that nobody here wrote on one side, a scripted upstream on the other."""

import asyncio
import json
import os
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

from redis import Redis

from gateway_core import snapshot
from gateway_core.envelopes import DocumentKeys
from gateway_core.sealing import SealingKey
from gateway_core.snapshot import Keys
from gateway_core.tokens import ACCESS_KEY_PREFIX, generate
from tests.clients.upstream import Upstream
from tests.clients.upstream import running as upstream_running
from tests.patience import stretched
from tests.servers import RUN
from tests.workers import ROOT, SnapshotWriter, running, settings_of

# The provider key, which no client knows.
KEY: Final = "sk-of-the-upstream-0123456789abcdef"
# Nobody's package and nobody's command line reports from a test.
SILENT: Final = {"DO_NOT_TRACK": "1", "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LANGSMITH_TRACING": "false"}
DOCUMENT: Final = ROOT / "docs" / "clients.md"
SHOWN_URL, SHOWN_KEY = "https://gateway.example", "gwk_your_access_key"
_MOST_SECONDS: Final = 300


class Field(NamedTuple):
    """Where clients find the worker, and what they show there."""

    url: str
    token: str
    upstream: Upstream
    # For client programs.
    environ: dict[str, str]

    def documented(self, language: str) -> list[str]:
        """The snippets of docs/clients.md in a language, with this address and access key."""
        found = re.findall(rf"^```{language}\n(.*?)^```", DOCUMENT.read_text(), re.DOTALL | re.MULTILINE)
        return [one.replace(SHOWN_URL, self.url).replace(SHOWN_KEY, self.token) for one in found]

    async def run(self, *command: str | Path, given: str = "", **environ: str) -> "Ran":
        """Run a client's program to its end.

        Args:
            command: the program and its arguments.
            given: its standard input.
            environ: beside what every client gets.
        """
        process = await asyncio.create_subprocess_exec(
            *map(str, command),
            env=self.environ | environ,
            cwd=environ.get("HOME"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(stretched(_MOST_SECONDS)):
                output, errors = await process.communicate(given.encode())
        except BaseException:
            process.kill()
            raise
        return Ran(process.returncode or 0, output.decode(), errors.decode())


class Ran(NamedTuple):
    """What a client's program left behind."""

    status: int
    output: str
    errors: str

    def lines(self) -> dict[tuple[str, str], dict[str, Any]]:
        """What a walk wrote: by client and case."""
        found = [json.loads(line) for line in self.output.splitlines() if line.startswith("{")]
        assert self.status == 0, self.errors
        assert found
        return {(line["client"], line["case"]): line for line in found}


@asynccontextmanager
async def field(sealing_private_key: str, **environ: str) -> AsyncIterator[Field]:
    """A worker that forwards to a scripted upstream, both in this process."""
    assert RUN.redis is not None
    with Redis.from_url(RUN.redis.url) as redis:
        writer = SnapshotWriter(
            redis,
            Keys("gw"),
            DocumentKeys.parse(os.environ["DOCUMENT_KEYS"]),
            SealingKey.parse(os.environ["SEALING_PUBLIC_KEY"]),
        )
        writer.begin_epoch()
        writer.catalog()
        tenant = writer.tenant()
        tenant.keys(KEY)
        tenant.keys(KEY, provider="anthropic")
        only_mini = snapshot.Scope(models=(("openai", "gpt-4o-mini"),))
        async with upstream_running() as upstream:
            settings = settings_of(
                {
                    "GATEWAY_MODE": "evaluation",
                    "REDIS_URL": RUN.redis.url,
                    "DOCUMENT_KEYS": os.environ["DOCUMENT_KEYS"],
                    "SEALING_PRIVATE_KEYS": sealing_private_key,
                    "LOADING_SPREAD": "0",
                    "UPSTREAM_BASE_URLS": f"openai={upstream.url},anthropic={upstream.url}",
                    **environ,
                }
            )
            async with running(settings) as worker:
                token = tenant.token()
                shown = {
                    "GATEWAY_URL": worker.client.url,
                    "GATEWAY_TOKEN": token,
                    "GATEWAY_SCOPED_TOKEN": tenant.token(configuration=tenant.configuration(scope=only_mini)),
                    "GATEWAY_UNKNOWN_TOKEN": generate(ACCESS_KEY_PREFIX),
                }
                yield Field(worker.client.url, token, upstream, {"PATH": os.environ["PATH"], **SILENT, **shown})


def gave(lines: Mapping[tuple[str, str], dict[str, Any]], client: str, case: str) -> Any:
    """What a case gave back."""
    line = lines[client, case]
    assert "gave" in line, line
    return line["gave"]
