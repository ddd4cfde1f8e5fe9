"""An ASGI application that gives a thread to a WSGI application only while there is work for it.

A request's body is taken in before a thread is taken, within a size and a time. The answer leaves the thread as fast as
the application makes it, and waits for its reader in a file. A slow client therefore costs a connection, and no thread.

Threads come in lanes. A lane's threads serve the paths of that lane alone: when all others are busy, `/healthz`,
`/readyz`, sign-ins, and static files with the OpenAPI document still have theirs. Requests that show no credentials
have a lane too. Password hashes never take more than two processors.

Source: docs/decisions/0113-no-thread-waits.md; PEP 3333; the ASGI specification, HTTP.
"""

import asyncio
import contextlib
import os
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import IO, Any, Final
from urllib.parse import unquote_to_bytes
from wsgiref.util import FileWrapper

import structlog
from django.http import HttpResponse

from gateway_core import tokens
from rest.errors import Busy, GatewayError, InternalError, http_response
from rest.limits import MAX_BODY_BYTES

_Message = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]
_Headers = list[tuple[bytes, bytes]]
Wsgi = Callable[[dict[str, Any], Any], Iterable[Any]]

# A body arrives within these seconds, and is never silent for longer than those.
BODY_SECONDS: Final = 10.0
SILENCE_SECONDS: Final = 5.0
# A request waits this long for a thread.
THREAD_SECONDS: Final = 5.0
# More of a body or of an answer goes to a temporary file.
_IN_MEMORY: Final = 32 * 1024
_PIECE: Final = 64 * 1024
_SIGN_IN_THREADS: Final = 2
_STATIC_THREADS: Final = 2
_KEYLESS_THREADS: Final = 2
_OPEN: Final = frozenset({"/openapi.json", "/docs"})
_CLOSE: Final = (b"connection", b"close")

log = structlog.get_logger(__name__)


class _Abandoned(Exception):
    """The client has left, so that the rest of this answer will not be read."""


class _Lane:
    """Some threads, and the requests that wait for one of them without holding any."""

    def __init__(self, name: str, threads: int) -> None:
        self._free = asyncio.Semaphore(threads)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=name)

    async def take(self) -> bool:
        """Wait for a free thread; False if none became free within THREAD_SECONDS."""
        try:
            async with asyncio.timeout(THREAD_SECONDS):
                await self._free.acquire()
        except TimeoutError:
            return False
        return True

    def give_back(self) -> None:
        """The thread that was taken is not needed."""
        self._free.release()

    def start(self, work: Callable[[], None]) -> None:
        """Run this in the thread that was taken. It is free again when the work ends."""
        asyncio.get_running_loop().run_in_executor(self._pool, work).add_done_callback(lambda _: self.give_back())


class Buffered:
    """The ASGI application."""

    def __init__(self, wsgi: Wsgi, *, threads: int, refused: Collection[str] = ()) -> None:
        """
        Args:
            wsgi: the application behind the buffer.
            threads: how many requests it serves at a time, apart from those of the small lanes.
            refused: paths that the application refuses whatever their bodies say; no body is taken in for them.
        """
        self._wsgi = wsgi
        self._refused = frozenset(refused)
        self._rest = _Lane("request", threads)
        self._static = _Lane("static", _STATIC_THREADS)
        self._sign_in = _Lane("sign-in", _SIGN_IN_THREADS)
        self._keyless = _Lane("keyless", _KEYLESS_THREADS)
        self._probes = {path: _Lane(path[1:], 1) for path in ("/healthz", "/readyz")}

    async def __call__(self, scope: _Message, receive: _Receive, send: _Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            raise NotImplementedError(scope["type"])
        most = 0 if scope["path"] in self._refused else MAX_BODY_BYTES
        body = await _take_in(scope, receive, most=most)
        if body is None:
            return
        lane = self._lane(scope)
        if not await lane.take():
            body.file.close()
            log.warning("no_thread_was_free", path=scope["path"])
            await _refuse(send, Busy())
            return
        answer = _Answer()
        environ = _environ(scope, body)
        lane.start(lambda: _run(self._wsgi, environ, answer))
        # The rest of a body that is refused unread is not asked for: asking would invite the client to send it.
        leaving = asyncio.create_task(_wait_until_left(receive, answer)) if body.is_whole else None
        try:
            await answer.send_to(send, [] if body.is_whole else [_CLOSE])
        finally:
            answer.abandon()
            if leaving is not None:
                leaving.cancel()

    def _lane(self, scope: _Message) -> _Lane:
        path = scope["path"]
        if path in self._probes:
            return self._probes[path]
        # Large, and for everybody: clients that ask for these without a key wait for each other alone.
        if path.startswith("/static/") or path in _OPEN:
            return self._static
        # Each of these may hash a password.
        if scope["method"] == "POST" and path.startswith(("/dashboard/login", "/dashboard/join", "/dashboard/you/")):
            return self._sign_in
        # A crowd of such clients waits for itself alone.
        return self._rest if _shows_credentials(scope) else self._keyless


def _shows_credentials(scope: _Message) -> bool:
    """Whether a request may come from a known client: it has a cookie, or what has the form of an API key."""
    for name, value in scope["headers"]:
        if name == b"cookie":
            return True
        if name == b"authorization":
            token = value.decode("latin-1").partition(" ")[2].strip()
            return tokens.is_well_formed(tokens.API_KEY_PREFIX, token)
    return False


# ── the request ──


class _Unfinished:
    """Stands in for a body of which only a part arrived: every read of it fails."""

    def read(self, _size: int = -1) -> bytes:
        """
        Raises:
            OSError: always; Django makes an UnreadablePostError of it.
        """
        raise OSError("The body did not arrive in time.")

    readline = read

    def close(self) -> None:
        """Do nothing: no file is open."""


@dataclass(frozen=True)
class _Body:
    """The part of a body that has arrived."""

    file: Any
    # What the application is given as Content-Length; None for a request without a body.
    length: int | None
    is_whole: bool = True


async def _take_in(scope: _Message, receive: _Receive, *, most: int) -> _Body | None:
    """A request's body; None where the client left before its end.

    A body that is too large is not read to its end. Its length says so to the application, which refuses it.
    """
    headers = dict(scope["headers"])
    declared = int(headers[b"content-length"]) if b"content-length" in headers else None
    is_chunked = b"transfer-encoding" in headers
    if is_chunked:
        declared = None
    elif not declared:
        return _Body(tempfile.SpooledTemporaryFile(), declared)
    if not most or (declared or 0) > most:
        return _Body(_Unfinished(), declared or MAX_BODY_BYTES, is_whole=False)
    file = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115 -- the answer closes it
    try:
        async with asyncio.timeout(BODY_SECONDS):
            is_whole = await _read_into(file, receive)
    except TimeoutError:
        file.close()
        return _Body(_Unfinished(), declared or MAX_BODY_BYTES, is_whole=False)
    except _Abandoned:
        file.close()
        return None
    length = file.tell()
    file.seek(0)
    return _Body(file, length, is_whole=is_whole)


async def _read_into(file: IO[bytes], receive: _Receive) -> bool:
    """Whether the whole body was read; False where it is larger than any that is taken.

    Raises:
        TimeoutError: it was silent for too long.
        _Abandoned: the client left.
    """
    while file.tell() <= MAX_BODY_BYTES:
        async with asyncio.timeout(SILENCE_SECONDS):
            message = await receive()
        if message["type"] == "http.disconnect":
            raise _Abandoned
        file.write(message.get("body", b""))
        if not message.get("more_body", False):
            return file.tell() <= MAX_BODY_BYTES
    return False


async def _wait_until_left(receive: _Receive, answer: "_Answer") -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    answer.abandon()


def _environ(scope: _Message, body: _Body) -> dict[str, Any]:
    """What WSGI calls a request."""
    authority, path = _target(scope["raw_path"])
    server = scope["server"] or ("localhost", 80)
    client = scope["client"] or ("", 0)
    environ: dict[str, Any] = {
        "REQUEST_METHOD": scope["method"],
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote_to_bytes(path).decode("latin-1"),
        "QUERY_STRING": scope["query_string"].decode("latin-1"),
        "SERVER_PROTOCOL": f"HTTP/{scope['http_version']}",
        "SERVER_NAME": server[0],
        "SERVER_PORT": str(server[1]),
        "REMOTE_ADDR": client[0],
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope["scheme"],
        "wsgi.input": body.file,
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
        "wsgi.file_wrapper": FileWrapper,
    }
    for raw, value in scope["headers"]:
        # WSGI writes `-` as `_`: a name that has one already would pass for another header.
        if b"_" in raw or raw in {b"content-length", b"transfer-encoding"}:
            continue
        name = raw.decode("latin-1").upper().replace("-", "_")
        name = name if name == "CONTENT_TYPE" else f"HTTP_{name}"
        separator = "; " if name == "HTTP_COOKIE" else ","
        text = value.decode("latin-1")
        environ[name] = f"{environ[name]}{separator}{text}" if name in environ else text
    if body.length is not None:
        environ["CONTENT_LENGTH"] = str(body.length)
    if authority:
        environ["HTTP_HOST"] = authority.decode("latin-1")
    return environ


def _target(raw: bytes) -> tuple[bytes, bytes]:
    """Authority and path of a request's target; the authority is empty unless the target is a whole URI."""
    if raw.startswith(b"/"):
        return b"", raw
    _, is_whole, rest = raw.partition(b"://")
    authority, _, path = rest.partition(b"/") if is_whole else (b"", b"", raw)
    return authority, b"/" + path


# ── the answer ──


def _run(wsgi: Wsgi, environ: dict[str, Any], answer: "_Answer") -> None:
    """In a thread: have the application answer, and wait for nobody."""
    try:
        pieces = wsgi(environ, answer.start)
        try:
            if isinstance(pieces, FileWrapper) and answer.take_file(pieces.filelike):
                return
            for piece in pieces:
                answer.write(piece)
        finally:
            if close := getattr(pieces, "close", None):
                close()
    except _Abandoned:
        pass
    except Exception:
        # Django answers every error of its views, so this is the error of a stream after its beginning.
        log.exception("answer_broke_off")
        answer.has_failed = True
    finally:
        environ["wsgi.input"].close()
        answer.finish()


class _Answer:
    """An answer between the thread that writes it and the client that reads it."""

    def __init__(self) -> None:
        self.has_failed = False
        self._status = 0
        self._headers: _Headers = []
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()
        self._lock = threading.Lock()
        self._file: IO[bytes] = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115 -- `finish`
        self._length = 0
        self._is_done = False
        self._is_abandoned = False

    # From the thread.

    def start(self, status: str, headers: list[tuple[str, str]], _exc_info: object = None) -> None:
        """WSGI's start_response."""
        self._headers = [(name.lower().encode("latin-1"), value.strip().encode("latin-1")) for name, value in headers]
        self._status = int(status[:3])

    def write(self, piece: bytes) -> None:
        """
        Raises:
            _Abandoned: nobody reads this answer any more.
        """
        if not piece:
            return
        with self._lock:
            if self._is_abandoned:
                raise _Abandoned
            self._file.seek(self._length)
            self._length += self._file.write(piece)
        self._notify()

    def take_file(self, file: Any) -> bool:
        """Have the rest of this file sent from where it is, without copying it; False if it has no descriptor."""
        try:
            own = os.fdopen(os.dup(file.fileno()), "rb")
        except (AttributeError, OSError):
            return False
        with self._lock:
            self._file.close()
            self._file, self._length = own, os.fstat(own.fileno()).st_size
        return True

    def finish(self) -> None:
        """Nothing more will be written."""
        with self._lock:
            self._is_done = True
            if self._is_abandoned:
                self._file.close()
        self._notify()

    def _notify(self) -> None:
        # A process that ends may have closed its loop before its last thread has written.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._news.set)

    # From the event loop.

    def abandon(self) -> None:
        """The client does not read on."""
        with self._lock:
            self._is_abandoned = True
            if self._is_done:
                self._file.close()
        self._news.set()

    async def send_to(self, send: _Send, more_headers: _Headers) -> None:
        """Send it as it grows. `send` waits for the client.

        Raises:
            ConnectionError: the answer broke off after its beginning was sent.
        """
        has_begun = False
        async for piece, is_last in self._pieces():
            if self.has_failed:
                if has_begun:
                    raise ConnectionError("The answer broke off.")
                await _refuse(send, InternalError())
                return
            if not has_begun:
                has_begun = True
                headers = [*self._headers, *more_headers]
                await send({"type": "http.response.start", "status": self._status, "headers": headers})
            await send({"type": "http.response.body", "body": piece, "more_body": not is_last})

    async def _pieces(self) -> AsyncIterator[tuple[bytes, bool]]:
        position, is_last = 0, False
        while not is_last:
            self._news.clear()
            with self._lock:
                if self._is_abandoned:
                    return
                self._file.seek(position)
                piece = self._file.read(_PIECE)
                position += len(piece)
                is_last = self._is_done and (position >= self._length or not piece)
            if piece or is_last:
                yield piece, is_last
            else:
                await self._news.wait()


async def _refuse(send: _Send, error: GatewayError) -> None:
    answer: HttpResponse = http_response(error)
    headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in answer.items()]
    await send({"type": "http.response.start", "status": answer.status_code, "headers": headers})
    await send({"type": "http.response.body", "body": answer.content})
