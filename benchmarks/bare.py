"""The bare pass-through that the worker is compared with: raw ASGI and aiohttp, without any work of a gateway.

Its connector has the worker's own hooks, because every proxy that forwards to foreign addresses must check them: the
resolver and the sockets are checked, there is no cookie jar, and bodies are not changed. It does not check access keys,
read bodies, limit the time, notice that a caller left, or count anything.

UPSTREAM is the URL that it forwards to, as `http://127.0.0.1:9901/v1/chat/completions`.
"""

import os
import ssl
from typing import Any, Final

import aiohttp
from yarl import URL

from data_plane.forwarding.names import Names
from data_plane.forwarding.upstream import session_of
from data_plane.settings import UpstreamLimits
from gateway_core.addresses import AddressPolicy

_PASSED: Final = frozenset({b"content-type", b"x-upstream", b"openai-version"})


class App:
    """The ASGI application. The first request makes the session, in the event loop that serves it."""

    def __init__(self, url: str) -> None:
        self._url = URL(url)
        self._session: aiohttp.ClientSession | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Forward a request upstream, and send the answer back."""
        if scope["type"] != "http":
            return
        if scope["method"] == "GET":
            await _answer(send, 200, [(b"content-length", b"2")], b"ok")
            return
        body = b""
        while True:
            message = await receive()
            body += message["body"]
            if not message["more_body"]:
                break
        if self._session is None:
            self._session = session_of(
                AddressPolicy(anywhere=True), ssl.create_default_context(), Names(UpstreamLimits())
            )
        sent = {"authorization": "Bearer sk-bare", "content-type": "application/json"}
        async with self._session.post(self._url, headers=sent, data=body, allow_redirects=False) as response:
            headers = [(name.lower(), value) for name, value in response.raw_headers if name.lower() in _PASSED]
            if response.content_length is not None:
                whole = await response.read()
                await _answer(send, response.status, [*headers, (b"content-length", b"%d" % len(whole))], whole)
                return
            await send({"type": "http.response.start", "status": response.status, "headers": headers})
            async for chunk in response.content.iter_any():
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _answer(send: Any, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


app = App(os.environ.get("UPSTREAM", "http://127.0.0.1:9901/v1/chat/completions"))
