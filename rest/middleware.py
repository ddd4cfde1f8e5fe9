"""Work on every request before its route is looked up: find the base URI that the client called, limit the body."""

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
    """Find the base URI that the client called, limit the body, and answer HEAD without a body."""

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
            # HEAD gets the length of GET's body, but not the body; we do not rely on the server to drop it.
            response.headers.setdefault("Content-Length", str(len(response.content)))
            response.content = b""
        return response

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponseBase | None:
        """Answer an exception of a view outside of DRF: our response for a known error, None (a 500) for the rest."""
        del request
        error = translate(exception)
        if error is None:
            return None
        return http_response(error)


def believe_proxy(request: HttpRequest) -> None:
    """Take scheme, host, prefix and client from X-Forwarded-* if a configured proxy sent them; else drop these headers.

    If a header has several values, the last one counts, because the trusted proxy itself added it. The host is still
    checked against ALLOWED_HOSTS. Afterwards REMOTE_ADDR is the client's address, as far as it can be trusted.
    """
    meta: dict[str, Any] = request.META
    given = {name: str(meta.pop(name)).rpartition(",")[2].strip() for name in _FORWARDED if name in meta}
    passed_through = str(meta.pop(_FORWARDED_FOR, ""))
    peer = str(meta.get("REMOTE_ADDR", ""))
    if not is_trusted(peer):
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
    """The address of the client behind trusted proxies: the last address in the chain that is not a trusted proxy's.

    Args:
        peer: the trusted proxy's own address.
        passed_through: X-Forwarded-For, `client, proxy, …`. Each proxy adds its caller's address at the end. Anything
            before an untrusted address, or before a text that is not an address, may be forged and is ignored.
    """
    client = peer
    for text in reversed(passed_through.split(",")):
        try:
            client = str(ipaddress.ip_address(text.strip()))
        except ValueError:
            break
        if not is_trusted(client):
            break
    return client


@lru_cache(maxsize=8)
def _networks(trusted: tuple[str, ...]) -> tuple[_Network, ...]:
    return tuple(ipaddress.ip_network(one, strict=False) for one in trusted)


def is_trusted(address: str) -> bool:
    """Whether this is a proxy that the operator has named in TRUSTED_PROXIES."""
    try:
        peer = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(peer, ipaddress.IPv6Address) and peer.ipv4_mapped:
        peer = peer.ipv4_mapped
    return any(peer in network for network in _networks(tuple(settings.TRUSTED_PROXIES)))


def bound_body(request: HttpRequest) -> None:
    """Refuse a body whose Content-Length is over 1 MiB; limit a chunked body while it is read.

    Django reads no body without Content-Length. So a chunked body gets the largest allowed length, and its stream ends
    one byte later; that extra byte shows the parser that the body is too large. This function itself reads nothing.

    Raises:
        BodyTooLarge: the body is over 1 MiB.
        RequestMalformed: Content-Length is not a number.
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
