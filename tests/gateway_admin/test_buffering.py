"""Holds: gateway_admin.buffering

When a thread is taken, and when it is free again.
"""

import asyncio
import threading

import pytest

from gateway_admin import buffering
from gateway_admin.buffering import Buffered
from tests.patience import eventually


def scope(path="/access-keys", method="GET", *headers):
    return {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(b"host", b"localhost"), *headers],
        "server": ("127.0.0.1", 8000),
        "client": ("127.0.0.1", 50000),
    }


class Client:
    """One request: what it sends, and what it is sent."""

    def __init__(self, *pieces, reads=True):
        self._incoming: asyncio.Queue[dict[str, object]] = asyncio.Queue()
        for piece in pieces:
            self.send(piece)
        self.reads = asyncio.Event()
        if reads:
            self.reads.set()
        self.messages = []

    def send(self, piece, *, more=True):
        self._incoming.put_nowait({"type": "http.request", "body": piece, "more_body": more})

    def leave(self):
        self._incoming.put_nowait({"type": "http.disconnect"})

    async def receive(self):
        return await self._incoming.get()

    async def take(self, message):
        await self.reads.wait()
        self.messages.append(message)

    @property
    def status(self):
        return self.messages[0]["status"]

    @property
    def headers(self):
        return dict(self.messages[0]["headers"])

    @property
    def body(self):
        return b"".join(message["body"] for message in self.messages[1:])


async def ask(application, client, *of_scope):
    await application(scope(*of_scope), client.receive, client.take)
    return client


def echo(environ, start):
    start("200 OK", [("Content-Type", "text/plain"), ("Set-Cookie", " a=b")])
    return [environ["wsgi.input"].read()]


async def test_a_thread_is_taken_when_the_body_is_whole():
    calls = []

    def counted(environ, start):
        calls.append(environ["CONTENT_LENGTH"])
        return echo(environ, start)

    client = Client(b"first ")
    task = asyncio.create_task(
        ask(Buffered(counted, threads=1), client, "/", "POST", (b"transfer-encoding", b"chunked"))
    )
    await asyncio.sleep(0)
    assert calls == []

    client.send(b"second", more=False)
    await task

    assert calls == ["12"]
    assert (client.status, client.body) == (200, b"first second")
    assert client.headers[b"set-cookie"] == b"a=b"


async def test_a_client_that_leaves_in_its_body_costs_no_thread():
    calls = []

    def counted(environ, start):
        calls.append(1)
        return echo(environ, start)

    client = Client(b"half")
    client.leave()

    await ask(Buffered(counted, threads=1), client, "/", "POST", (b"content-length", b"8"))

    assert (calls, client.messages) == ([], [])


async def test_when_all_threads_are_busy_others_are_refused_and_the_probe_is_answered(monkeypatch):
    monkeypatch.setattr(buffering, "THREAD_SECONDS", 0.05)
    is_free = threading.Event()
    begun = []

    def waits(environ, start):
        if environ["PATH_INFO"] == "/access-keys":
            begun.append(1)
            assert is_free.wait(60)
        return echo(environ, start)

    application = Buffered(waits, threads=2)
    busy = [asyncio.create_task(ask(application, Client())) for _ in range(2)]
    await eventually(lambda: len(begun) == 2)
    refused = await ask(application, Client())
    probe = await ask(application, Client(), "/healthz")
    static = await ask(application, Client(), "/static/a.js")
    is_free.set()

    assert (refused.status, refused.headers[b"retry-after"]) == (503, b"1")
    assert b'"errorCode":"busy"' in refused.body
    assert (probe.status, static.status) == (200, 200)
    assert [client.status for client in await asyncio.gather(*busy)] == [200, 200]
    assert (await ask(application, Client())).status == 200


async def test_a_client_that_does_not_read_holds_no_thread():
    def long(_environ, start):
        start("200 OK", [])
        return (b"x" * 65536 for _ in range(64))

    application = Buffered(long, threads=1)
    slow = Client(reads=False)
    task = asyncio.create_task(ask(application, slow))
    await asyncio.sleep(0)

    assert len((await ask(application, Client())).body) == 64 * 65536

    slow.reads.set()
    await task
    assert len(slow.body) == 64 * 65536


async def test_an_answer_ends_when_its_client_leaves():
    ended = threading.Event()

    def endless(_environ, start):
        start("200 OK", [])
        try:
            while True:
                yield b"x"
        finally:
            ended.set()

    def application(environ, start):
        return endless(environ, start)

    client = Client()
    task = asyncio.create_task(ask(Buffered(application, threads=1), client))
    await eventually(lambda: client.messages)
    client.leave()

    await task
    await eventually(ended.is_set)


async def test_a_stream_that_breaks_is_not_ended_as_if_it_were_whole():
    goes_on = threading.Event()

    def breaks(_environ, start):
        start("200 OK", [])
        yield b"x"
        assert goes_on.wait(60)
        raise ValueError("broken")

    client = Client()
    task = asyncio.create_task(ask(Buffered(breaks, threads=1), client))
    await eventually(lambda: len(client.messages) > 1)
    goes_on.set()

    with pytest.raises(ConnectionError):
        await task
    assert all(message.get("more_body", True) for message in client.messages)


async def test_a_header_with_an_underscore_is_not_taken_for_one_with_a_hyphen():
    seen = {}

    def keeps(environ, start):
        seen.update(environ)
        return echo(environ, start)

    await ask(Buffered(keeps, threads=1), Client(), "/", "GET", (b"x_forwarded_for", b"1.2.3.4"), (b"x-a", b"1"))

    assert "HTTP_X_FORWARDED_FOR" not in seen
    assert seen["HTTP_X_A"] == "1"
