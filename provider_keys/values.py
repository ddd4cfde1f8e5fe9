"""A provider key's value between its arrival and its sealing: the only code that reads the plain value.

All other code passes the value as a `PlainValue`, which does not show it in a repr, a log line, a traceback that prints
locals, a pickle or a JSON body. Only its mask may be shown.

Source: docs/decisions/0030-provider-key-values.md.
"""

import hashlib
import hmac
import re
from functools import lru_cache
from typing import Final, NoReturn

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings

from gateway_core import redaction
from gateway_core.sealing import Binding, SealingKey

MAX_LENGTH: Final = 4096

# Unicode's White_Space property. `str.strip` would also take the control characters U+001C to U+001F.
_WHITE_SPACE: Final = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(
    map(chr, range(0x2000, 0x200B))
)
_PRINTABLE: Final = re.compile(r"[!-~]+\Z")
# The pattern of a valid value, for the OpenAPI document.
PATTERN: Final = "^[{0}]*[!-~]{{1,{1}}}[{0}]*$".format(
    r"\t\n\x0b\x0c\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000", MAX_LENGTH
)
_FINGERPRINT_LABEL: Final = b"gateway provider key fingerprint 1"


class InvalidValue(ValueError):
    """This cannot be a provider key's value. The reason never repeats it."""


class PlainValue:
    """A provider key's plain value; it exists only in the memory of one request."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        """Take a value as it was sent, and trim the white space around it.

        Raises:
            InvalidValue: the trimmed value is empty or longer than 4096 characters, or contains white space, control or
                non-ASCII characters.
        """
        trimmed = text.strip(_WHITE_SPACE)
        if not trimmed:
            raise InvalidValue("The value must not be empty.")
        if len(trimmed) > MAX_LENGTH:
            raise InvalidValue(f"The value must have at most {MAX_LENGTH} characters.")
        if not _PRINTABLE.match(trimmed):
            raise InvalidValue("The value must contain only printable ASCII characters, without white space.")
        self._text = trimmed

    def __repr__(self) -> str:
        return "PlainValue(***)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PlainValue) and hmac.compare_digest(self._text, other._text)

    # Not hashable, so that it cannot be in a set or a dictionary key: a hash would reveal something about the value.
    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> NoReturn:
        raise TypeError("a plain value must not be copied or stored")

    @property
    def mask(self) -> str:
        """The mask of the value, which may be shown."""
        return redaction.mask(self._text)

    def seal(self, binding: Binding) -> bytes:
        """The value, sealed for the data plane; this process cannot open it again."""
        key: SealingKey | None = settings.SEALING_KEY
        if key is None:
            raise RuntimeError("SEALING_PUBLIC_KEY is not set")
        return key.seal(self._text, binding)

    def fingerprint(self, *, account: str, provider_key: str) -> str:
        """A keyed digest that shows whether the same value was sent again for this provider key, 64 hex digits.

        Digests of different keys or accounts cannot be compared.

        Args:
            account: the `ac_…` ID.
            provider_key: the `aigpk_…` ID.
        """
        digest = hmac.new(_fingerprint_key(settings.SECRET_KEY), digestmod=hashlib.sha256)
        for part in (account, provider_key, self._text):
            encoded = part.encode("ascii")
            digest.update(len(encoded).to_bytes(4, "big") + encoded)
        return digest.hexdigest()


@lru_cache(maxsize=2)
def _fingerprint_key(secret_key: str) -> bytes:
    derivation = HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=_FINGERPRINT_LABEL)
    return derivation.derive(secret_key.encode())
