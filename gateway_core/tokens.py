"""Tokens: what apps show to the data plane (`gwk_`), programs to the management API (`gwa_`), and people who join an
account to the dashboard (`gwi_`).

A token is its prefix, 40 random base62 characters (238 bits) and a checksum: the CRC32 of all that precedes, as 6
base62 characters. The checksum is no secret and proves nothing about who made the token; it lets every plane refuse a
mistyped or random one without a look-up, and lets secret scanners match with no false alarm. At rest there is only the
digest.

Source: docs/decisions/0006-tokens.md.
"""

import hashlib
import re
import secrets
import string
import zlib
from typing import Final

ACCESS_KEY_PREFIX: Final = "gwk_"
API_KEY_PREFIX: Final = "gwa_"
INVITATION_PREFIX: Final = "gwi_"

_ALPHABET: Final = string.digits + string.ascii_uppercase + string.ascii_lowercase
_RANDOM_LENGTH: Final = 40
_CHECKSUM_LENGTH: Final = 6  # 62 ** 6 > 2 ** 32
_BASE62: Final = re.compile(f"[0-9A-Za-z]{{{_RANDOM_LENGTH + _CHECKSUM_LENGTH}}}")


def generate(prefix: str) -> str:
    """A new token of this prefix, from the operating system's randomness."""
    unchecked = prefix + "".join(secrets.choice(_ALPHABET) for _ in range(_RANDOM_LENGTH))
    return unchecked + _checksum(unchecked)


def is_well_formed(prefix: str, token: str) -> bool:
    """Whether the text could have come from `generate(prefix)`: its shape and its checksum are right.

    Says nothing about whether the token exists. Any text gets an answer, in a time that does not grow with its length.
    """
    return (
        token.startswith(prefix)
        and _BASE62.fullmatch(token, len(prefix)) is not None
        and _checksum(token[:-_CHECKSUM_LENGTH]) == token[-_CHECKSUM_LENGTH:]
    )


def digest(token: str) -> str:
    """SHA-256 of the token in lower-case hex: what is stored, and what names the token's document in the snapshot.

    A plain hash is enough, since a token has 238 bits of randomness: there is nothing to guess that salt or stretching
    would slow down.
    """
    # surrogatepass: a text that is no token, lone surrogates included, has a digest too, which simply is not found.
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def _checksum(text: str) -> str:
    """CRC32 (ISO 3309) of ASCII text, most significant base62 digit first, padded with zeros to six characters."""
    remaining = zlib.crc32(text.encode("ascii"))
    digits = ""
    for _ in range(_CHECKSUM_LENGTH):
        remaining, digit = divmod(remaining, len(_ALPHABET))
        digits = _ALPHABET[digit] + digits
    return digits
