"""Signed envelopes. A document in Redis is accepted only if a holder of a document key signed it for that exact place.

An envelope is a header of ASCII and then the body, so that a script inside Redis can read the version at a fixed place:

    offset  0  "1 "                       the form of the envelope
    offset  2  8 lower-case hex digits    the ID of the document key that signed
    offset 11  16 decimal digits          the version
    offset 28  43 characters of base64url the MAC
    offset 72  the body

(a space stands at offsets 10, 27 and 71). The MAC is HMAC-SHA256 over location, version and body. The length of each is
part of the input, so that no two different documents give the same input. The MAC key is derived from the document key
by HKDF-SHA256 with the purpose as label: a signed acknowledgement is never a valid document. The decision record lists
the attacks that this does not stop.

Source: RFC 2104, RFC 5869; docs/decisions/0007-authenticated-documents.md.
"""

import hmac
import re
import secrets
import struct
from collections.abc import Iterable
from enum import StrEnum
from typing import Final, NamedTuple

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from gateway_core import base64url

BODY_LIMIT: Final = 8 * 1024 * 1024
VERSION_OFFSET: Final = 11
VERSION_DIGITS: Final = 16
BODY_OFFSET: Final = 72

_SECRET_LENGTH: Final = 32
_MAXIMUM_VERSION: Final = 10**VERSION_DIGITS - 1
_HEADER: Final = re.compile(rb"1 ([0-9a-f]{8}) ([0-9]{16}) ([A-Za-z0-9_-]{43}) ")
_KEY_ID: Final = re.compile(r"[0-9a-f]{8}")


class NotAuthentic(ValueError):
    """No holder of a document key wrote this envelope, or it was written for another place."""


class Purpose(StrEnum):
    """The use of an envelope. Each purpose has a key of its own; the texts are part of the keys and never change."""

    DOCUMENT = "document"
    CHANGE = "change"
    WORKER = "worker"
    USAGE = "usage"
    SNAPSHOT_FILE = "snapshot file"


class OpenedEnvelope(NamedTuple):
    """The content of an envelope whose MAC is right."""

    version: int
    body: bytes


def generate_document_key() -> str:
    """A new document key in its text form, `<8 hex digits of ID>:<32 bytes of base64url>`. The text is a secret."""
    return f"{secrets.token_hex(4)}:{base64url.encode(secrets.token_bytes(_SECRET_LENGTH))}"


class DocumentKeys:
    """The deployment's document keys: the first one signs, every one verifies.

    To change a key without downtime, add the new key at the end of the list everywhere. Then move it to the front
    everywhere. Drop the old key when everything is signed again.
    """

    __slots__ = ("_mac_keys", "_signing_id")

    def __init__(self, keys: Iterable[tuple[str, bytes]]) -> None:
        """Derive the keys of every purpose. Use `parse` for text from outside.

        Args:
            keys: (ID, 32 secret bytes) of each key; at least one.
        """
        self._mac_keys = {
            (purpose, key_id): HKDF(algorithm=SHA256(), length=32, salt=None, info=_label(purpose)).derive(secret)
            for key_id, secret in keys
            for purpose in Purpose
        }
        self._signing_id = next(key_id for _, key_id in self._mac_keys)

    @classmethod
    def parse(cls, text: str) -> "DocumentKeys":
        """The keys from their comma-separated texts.

        Raises:
            ValueError: there is no key, a key is malformed, or a key is given twice. The message names the position of
                the key, never its content.
        """
        keys: dict[str, bytes] = {}
        for position, entry in enumerate(text.split(","), start=1):
            key_id, _, encoded = entry.strip().partition(":")
            try:
                secret = base64url.decode(encoded)
            except ValueError:
                secret = b""
            if not _KEY_ID.fullmatch(key_id) or len(secret) != _SECRET_LENGTH:
                raise ValueError(
                    f"document key {position} is not <8 hex digits>:<{_SECRET_LENGTH} bytes of unpadded base64url>"
                )
            if key_id in keys or secret in keys.values():
                raise ValueError(f"document key {position} repeats the ID or the secret of one before it")
            keys[key_id] = secret
        return cls(keys.items())

    @property
    def ids(self) -> tuple[str, ...]:
        """The IDs of the keys, the signing one first."""
        return tuple(dict.fromkeys(key_id for _, key_id in self._mac_keys))

    def __repr__(self) -> str:
        return f"DocumentKeys(ids={', '.join(self.ids)})"

    def sign(self, purpose: Purpose, location: str, version: int, body: bytes, *, limit: int = BODY_LIMIT) -> bytes:
        """The envelope of a body.

        Args:
            purpose: selects the derived key that signs.
            location: where the envelope will be stored; the same body is refused at any other place.
            version: 0 to 9,999,999,999,999,999.
            body: any bytes.
            limit: the longest body, in bytes, that a reader accepts.

        Raises:
            ValueError: the version or the body's length is out of bounds.
        """
        if not 0 <= version <= _MAXIMUM_VERSION:
            raise ValueError(f"a version has at most {VERSION_DIGITS} digits")
        if len(body) > limit:
            raise ValueError(f"a body of {len(body)} bytes is over the limit of {limit}")
        mac = _mac(self._mac_keys[purpose, self._signing_id], location, version, body)
        return b"1 %b %016d %b " % (self._signing_id.encode("ascii"), version, mac) + body

    def verify(self, purpose: Purpose, location: str, envelope: bytes, *, limit: int = BODY_LIMIT) -> OpenedEnvelope:
        """The version and the body of an envelope that was signed for this purpose and location.

        The caller must check that the version is newer than one it saw before.

        Raises:
            NotAuthentic: the message gives the reason and repeats nothing of the body.
        """
        header = _HEADER.match(envelope)
        if header is None:
            raise NotAuthentic("The envelope has no valid header.")
        if len(envelope) - BODY_OFFSET > limit:
            raise NotAuthentic(f"The body is longer than {limit} bytes.")
        key_id = header[1].decode("ascii")
        key = self._mac_keys.get((purpose, key_id))
        if key is None:
            raise NotAuthentic(f"No document key has the ID {key_id}.")
        version = int(header[2])
        body = envelope[BODY_OFFSET:]
        if not hmac.compare_digest(header[3], _mac(key, location, version, body)):
            raise NotAuthentic("The MAC does not fit this place, version and body.")
        return OpenedEnvelope(version, body)


def signing_key_of(envelope: bytes) -> str:
    """The ID of the document key that an envelope names, not verified; empty where this is not an envelope."""
    header = _HEADER.match(envelope)
    return header[1].decode("ascii") if header else ""


def _label(purpose: Purpose) -> bytes:
    return b"gateway authenticated document 1 " + purpose.encode("ascii")


def _mac(key: bytes, location: str, version: int, body: bytes) -> bytes:
    # surrogatepass: a field name that is not UTF-8 may reach a reader. It must be refused and must not crash the
    # reader.
    place = location.encode("utf-8", "surrogatepass")
    message = b"".join((struct.pack(">QQQ", version, len(place), len(body)), place, body))
    return base64url.encode(hmac.digest(key, message, "sha256")).encode("ascii")
