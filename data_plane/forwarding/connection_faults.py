"""Why no answer came, in a word that a caller and a log may see."""

import asyncio
import ssl
from typing import Final

import aiohttp

from data_plane.forwarding.answers import AnswerMalformed
from data_plane.forwarding.upstream import AddressDenied

_DEEPEST: Final = 6
_WORDS: Final[tuple[tuple[type[BaseException], str], ...]] = (
    (AddressDenied, "address not allowed"),
    (aiohttp.ClientConnectorCertificateError, "TLS: the certificate is not trusted"),
    (ssl.SSLCertVerificationError, "TLS: the certificate is not trusted"),
    (aiohttp.ClientSSLError, "TLS"),
    (ssl.SSLError, "TLS"),
    (aiohttp.ClientConnectorDNSError, "DNS: the name is not known"),
    (ConnectionRefusedError, "refused"),
    (asyncio.TimeoutError, "timed out"),
    (AnswerMalformed, "the answer is not HTTP"),
    (aiohttp.ServerDisconnectedError, "closed without an answer"),
    (aiohttp.ClientPayloadError, "closed within the answer"),
    (ConnectionResetError, "reset"),
    (BrokenPipeError, "reset"),
    (aiohttp.ClientConnectorError, "no route"),
)
# With these the request was not sent.
NOT_CONNECTED: Final = frozenset(
    {
        *("address not allowed", "TLS: the certificate is not trusted", "TLS", "DNS: the name is not known"),
        *("refused", "no route"),
    }
)


def word_for(fault: BaseException) -> str:
    """Why a connection gave no answer; "" where no word is known. The text of the fault is never passed on."""
    chain: list[BaseException] = []
    one: BaseException | None = fault
    while one is not None and len(chain) < _DEEPEST:
        chain.append(one)
        inner = getattr(one, "os_error", None)
        one = inner if isinstance(inner, BaseException) and inner not in chain else one.__cause__ or one.__context__
    for kind, word in _WORDS:
        if any(isinstance(each, kind) for each in chain):
            return word
    return ""
