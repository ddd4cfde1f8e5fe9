"""Load: wrk for throughput, and a client with a fixed rate for latency. Both call 127.0.0.1 only.

python -m benchmarks.load URL RATE SECONDS < TOKEN-AND-BODY    (the client; prints its latencies as JSON)
"""

import asyncio
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import uvloop

WRK_MISSING: Final = (
    "make bench needs the load generator wrk: `apt-get install wrk` (Debian, Ubuntu), `brew install wrk`."
)
_CONNECTIONS: Final = 64


class Ask(NamedTuple):
    """One kind of request."""

    name: str
    body: bytes


SHORT_JSON: Final = Ask(
    "short JSON",
    b'{"model":"gpt-4o","messages":[{"role":"system","content":"You are a helpful assistant."},'
    b'{"role":"user","content":"Say hello to whoever reads this."}],"temperature":0.2}',
)
STREAM: Final = Ask("60-event stream", SHORT_JSON.body[:-1] + b',"stream":true}')
PACED_STREAM: Final = Ask("60-event stream, 5 ms apart", STREAM.body[:-1] + b',"user":"paced"}')
PATH: Final = "/v1/chat/completions"


def find_wrk() -> str:
    """The path of wrk.

    Raises:
        SystemExit: wrk is not installed. The message says how to install it.
    """
    return shutil.which("wrk") or sys.exit(WRK_MISSING)


def wrk(url: str, ask: Ask, token: str, *, seconds: float, connections: int, cores: set[int]) -> float:
    """Measure the answered requests per second.

    Args:
        url: the base, `http://127.0.0.1:8001`.
        ask: the request that is repeated.
        token: the access key.
        seconds: the length of the measurement.
        connections: how many requests are in flight at once.
        cores: the cores that wrk may run on.

    Raises:
        SystemExit: a request failed, so the number means nothing.
    """
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        headers = f'["authorization"] = "Bearer {token}", ["content-type"] = "application/json"'
        script.write(f'wrk.method = "POST"\nwrk.headers = {{{headers}}}\nwrk.body = [==[{ask.body.decode()}]==]\n')
        script.flush()
        command = [
            "wrk",
            "-t",
            "1",
            "-c",
            str(connections),
            "-d",
            f"{seconds:g}s",
            "--timeout",
            "10s",
            "-s",
            script.name,
            url + PATH,
        ]
        printed = subprocess.run(
            ["taskset", "-c", ",".join(map(str, cores)), *command], capture_output=True, text=True, check=True
        ).stdout
    if "Non-2xx" in printed or "Socket errors" in printed:
        sys.exit(f"requests failed:\n{printed}")
    found = re.search(r"Requests/sec:\s+([\d.]+)", printed)
    assert found, printed
    return float(found[1])


class _Caller(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self, idle: "asyncio.Queue[_Caller]", waits: list[float], loop: asyncio.AbstractEventLoop) -> None:
        self._idle, self._waits, self._loop = idle, waits, loop
        self._received = b""
        self._due = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport
        self._idle.put_nowait(self)

    def ask(self, request: bytes, due: float) -> None:
        """Send a request. Its latency is counted from the moment when it was due."""
        self._due = due
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, blank, body = self._received.partition(b"\r\n\r\n")
        if not blank:
            return
        length = re.search(rb"content-length: (\d+)", head)
        if not (len(body) >= int(length[1]) if length else body.endswith(b"0\r\n\r\n")):
            return
        assert head.startswith(b"HTTP/1.1 200"), head
        self._received = b""
        self._waits.append(self._loop.time() - self._due)
        self._idle.put_nowait(self)


async def _keep(url: str, request: bytes, rate: float, seconds: float) -> list[float]:
    loop = asyncio.get_running_loop()
    idle: asyncio.Queue[_Caller] = asyncio.Queue()
    waits: list[float] = []
    parts = urlsplit(url)
    for _ in range(_CONNECTIONS):
        await loop.create_connection(lambda: _Caller(idle, waits, loop), str(parts.hostname), int(parts.port or 80))
    begin = loop.time()
    sent = 0
    while sent < rate * seconds:
        due = begin + sent / rate
        if (early := due - loop.time()) > 0:
            await asyncio.sleep(early)
        (await idle.get()).ask(request, due)
        sent += 1
    # A caller that is in the queue again has its answer.
    for _ in range(_CONNECTIONS):
        await idle.get()
    # The first second warms everything.
    return waits[int(rate) :]


def at_rate(url: str, ask: Ask, token: str, *, rate: float, seconds: float, cores: set[int]) -> list[float]:
    """The latency of each request, in seconds, when requests are sent at a fixed rate and do not wait for answers."""
    command = [sys.executable, "-m", "benchmarks.load", url, f"{rate:g}", f"{seconds:g}"]
    done = subprocess.run(
        ["taskset", "-c", ",".join(map(str, cores)), *command],
        input=f"{token}\n{ask.body.decode()}",
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).resolve().parent.parent,
    )
    found: list[float] = json.loads(done.stdout)
    return found


def _main() -> None:
    url, rate, seconds = sys.argv[1:]
    token, _, body = sys.stdin.read().partition("\n")
    request = (
        f"POST {PATH} HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {token}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n{body}"
    ).encode()
    print(json.dumps(uvloop.run(_keep(url, request, float(rate), float(seconds)))))


if __name__ == "__main__":
    _main()
