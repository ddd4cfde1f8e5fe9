"""Idempotency-Key on POST and PATCH: a repeated request gets the same answer and has no second effect.

The record of an answer is written in the transaction of the write, so both exist or neither does. Only answers that
changed something (2xx) are kept. A refused request changed nothing; it may be corrected and sent again with the same
key. Kept answers are sealed (docs/decisions/0021-idempotency.md), because the answer to a POST may contain a token.

This module derives keys, seals and opens. The records are in the room that overrides `RestViews.answer_once`.

Source: draft-ietf-httpapi-idempotency-key-header-07, with a bare text accepted besides a quoted one.
"""

import hmac
import json
import re
import secrets
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from hashlib import sha256
from typing import Any, Final

import orjson
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings
from rest_framework.request import Request
from rest_framework.response import Response

from rest.errors import Conflict, HeaderInvalid, InvalidRequest

KEPT_FOR: Final = timedelta(hours=24)
_KEY: Final = re.compile(r'"?([\x21\x23-\x7e][\x20\x21\x23-\x7e]{0,254})"?')
_KEPT_HEADERS: Final = ("Location", "ETag")


class IdempotencyKeyReused(InvalidRequest):
    """This Idempotency-Key was used for another request; use a new one."""

    code = "idempotency_key_reused"


class IdempotencyKeyInUse(Conflict):
    """Another request with this Idempotency-Key is still in progress; try again in a moment."""

    code = "idempotency_key_in_use"


@dataclass(frozen=True)
class Key:
    """One client's Idempotency-Key for one route, and what is derived from it. The text itself is never stored."""

    text: str
    # API key, method and path. The same text with another scope is another key.
    scope: str

    def __repr__(self) -> str:
        return "Key(…)"

    @cached_property
    def _secret(self) -> bytes:
        derive = HKDF(algorithm=SHA256(), length=96, salt=None, info=f"idempotency\n{self.scope}\n{self.text}".encode())
        return derive.derive(settings.SECRET_KEY.encode())

    @property
    def digest(self) -> str:
        """The name that the record is stored under: 64 hex digits."""
        return self._secret[:32].hex()

    def fingerprint(self, body: Any) -> str:
        """An HMAC of the body, 64 hex digits: it shows whether the same key came with another body.

        It is keyed because a body may contain a provider key's value.
        """
        canonical = json.dumps(body, sort_keys=True, separators=(",", ":")).encode()
        return hmac.new(self._secret[32:64], canonical, sha256).hexdigest()

    def seal(self, response: Response) -> bytes:
        """Encrypt an answer. Only a request with the same Idempotency-Key can open it."""
        headers = {name: response.headers[name] for name in _KEPT_HEADERS if name in response.headers}
        kept = orjson.dumps({"status": response.status_code, "headers": headers, "data": response.data})
        # A key seals a second answer when its first record has expired, so the nonce must be random.
        nonce = secrets.token_bytes(12)
        return nonce + AESGCM(self._secret[64:]).encrypt(nonce, kept, self.digest.encode())

    def open(self, sealed: bytes) -> Response:
        """Decrypt an answer of `seal`, and mark it as a repetition."""
        kept = orjson.loads(AESGCM(self._secret[64:]).decrypt(sealed[:12], sealed[12:], self.digest.encode()))
        return Response(kept["data"], status=kept["status"], headers={**kept["headers"], "Idempotent-Replayed": "true"})


def key_of(request: Request) -> Key | None:
    """The request's Idempotency-Key; None if it has none.

    Raises:
        HeaderInvalid: the header is empty, longer than 255 characters, or not printable ASCII.
    """
    header = request.META.get("HTTP_IDEMPOTENCY_KEY")
    if header is None:
        return None
    found = _KEY.fullmatch(header.strip())
    if found is None:
        raise HeaderInvalid(details={"Idempotency-Key": "This must be 1 to 255 printable ASCII characters."})
    return Key(text=found[1], scope=f"{request.auth.pk}\n{request.method}\n{request.path_info}")
