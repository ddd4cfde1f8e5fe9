"""What holds for every request before a route is looked up: the base that the client called, and the body's bound."""

import ipaddress
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

import structlog
from django.conf import settings
from django.core.handlers.wsgi import LimitedStream
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.urls import set_script_prefix

from rest.errors import BodyTooLarge, RequestMalformed, http_response, translate
from rest.limits import MAX_BODY_BYTES

_logger = structlog.get_logger(__name__)

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_FORWARDED: Final = ("HTTP_X_FORWARDED_PROTO", "HTTP_X_FORWARDED_HOST", "HTTP_X_FORWARDED_PREFIX")
_FORWARDED_FOR: Final = "HTTP_X_FORWARDED_FOR"
_PREFIX: Final = re.compile(r"(?:/[A-Za-z0-9._~-]+)+")


class RestMiddleware:
    """Settle the client's base, bound the body, answer HEAD without one."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Pass the request on, or refuse it."""
        believe_proxy(request)
        try:
            bound_body(request)
        except (BodyTooLarge, RequestMalformed) as refusal:
            return http_response(refusal)
        response = self.get_response(request)
        if request.method == "HEAD" and isinstance(response, HttpResponse):
            # The length of what GET would send, and none of it, whatever the server makes of a body here.
            response.headers.setdefault("Content-Length", str(len(response.content)))
            response.content = b""
        return response

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponseBase | None:
        """What a view outside of the REST framework raises: known errors in our shape, the rest stays a 500."""
        del request
        error = translate(exception)
        if error is None:
            return None
        return http_response(error)


def believe_proxy(request: HttpRequest) -> None:
    """Take scheme, host, prefix and client from X-Forwarded-* if a configured proxy sent them; else drop these headers.

    Of several values the last is taken: the one that the trusted proxy itself added. The host is still checked against
    ALLOWED_HOSTS. From here on REMOTE_ADDR is the client's address, as far as it can be believed.
    """
    meta: dict[str, Any] = request.META
    given = {name: str(meta.pop(name)).rpartition(",")[2].strip() for name in _FORWARDED if name in meta}
    passed_through = str(meta.pop(_FORWARDED_FOR, ""))
    peer = str(meta.get("REMOTE_ADDR", ""))
    if not _is_trusted(peer):
        return
    meta["REMOTE_ADDR"] = client_address(peer, passed_through)
    scheme = given.get("HTTP_X_FORWARDED_PROTO", "").lower()
    if scheme in {"http", "https"}:
        meta["wsgi.url_scheme"] = scheme
    if host := given.get("HTTP_X_FORWARDED_HOST"):
        meta["HTTP_HOST"] = host
    prefix = given.get("HTTP_X_FORWARDED_PREFIX", "").rstrip("/")
    if _PREFIX.fullmatch(prefix):
        meta["SCRIPT_NAME"] = prefix
        request.path = prefix + request.path_info
        set_script_prefix(f"{prefix}/")


def client_address(peer: str, passed_through: str) -> str:
    """Who asked a trusted proxy: the last address that no trusted proxy has, for each told whom it heard.

    Args:
        peer: the trusted proxy's own address.
        passed_through: X-Forwarded-For, `client, proxy, …`; what stands left of an address that is not trusted, or of
            what is no address, anybody may have written.
    """
    client = peer
    for told in reversed(passed_through.split(",")):
        try:
            client = str(ipaddress.ip_address(told.strip()))
        except ValueError:
            break
        if not _is_trusted(client):
            break
    return client


@lru_cache(maxsize=8)
def _networks(trusted: tuple[str, ...]) -> tuple[_Network, ...]:
    return tuple(ipaddress.ip_network(one, strict=False) for one in trusted)


def _is_trusted(address: str) -> bool:
    try:
        peer = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(peer, ipaddress.IPv6Address) and peer.ipv4_mapped:
        peer = peer.ipv4_mapped
    return any(peer in network for network in _networks(tuple(settings.TRUSTED_PROXIES)))


def bound_body(request: HttpRequest) -> None:
    """Refuse a body over 1 MiB by what it says of itself; one that says nothing (chunked) is bounded while it is read.

    Django reads no body without Content-Length. A chunked one is given the greatest length there may be, and one byte
    more to read, by which the parser knows that it is too large. Nothing is read before the caller is known.

    Raises:
        BodyTooLarge: over 1 MiB.
        RequestMalformed: a Content-Length that is no number.
    """
    meta: dict[str, Any] = request.META
    length = str(meta.get("CONTENT_LENGTH") or "")
    if length:
        if not (length.isascii() and length.isdigit()):
            raise RequestMalformed
        if int(length[:20]) > MAX_BODY_BYTES:
            raise BodyTooLarge
    elif "chunked" in str(meta.get("HTTP_TRANSFER_ENCODING", "")).lower():
        meta["CONTENT_LENGTH"] = str(MAX_BODY_BYTES)
        stream: Any = LimitedStream(meta["wsgi.input"], MAX_BODY_BYTES + 1)
        request._stream = stream  # noqa: SLF001 -- Django has no other way
