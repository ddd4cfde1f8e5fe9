"""Tokens of access keys (`gwk_`, for the data plane), of API keys (`gwa_`, for the management API) and of invitations
(`gwi_`, for joining an account in the dashboard).

A token is its prefix, 40 random base62 characters (238 bits) and a checksum: the CRC32 of all that precedes, as 6
base62 characters. The checksum is not a secret and proves nothing about who made the token. It lets every plane refuse
a mistyped or random token without a look-up, and lets secret scanners match without false alarms. Only the digest of a
token is stored.

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

    This does not show that the token exists. Any text is accepted, and the time does not grow with its length.
    """
    return (
        token.startswith(prefix)
        and _BASE62.fullmatch(token, len(prefix)) is not None
        and _checksum(token[:-_CHECKSUM_LENGTH]) == token[-_CHECKSUM_LENGTH:]
    )


def digest(token: str) -> str:
    """SHA-256 of the token in lower-case hex. It is stored, and it names the token's document in the snapshot.

    A plain hash is enough, since a token has 238 bits of randomness: there is nothing to guess that salt or stretching
    would slow down.
    """
    # surrogatepass: a text that is not a token, even one with lone surrogates, has a digest too. It is just not found.
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def _checksum(text: str) -> str:
    """CRC32 (ISO 3309) of ASCII text, most significant base62 digit first, padded with zeros to six characters."""
    remaining = zlib.crc32(text.encode("ascii"))
    digits = ""
    for _ in range(_CHECKSUM_LENGTH):
        remaining, digit = divmod(remaining, len(_ALPHABET))
        digits = _ALPHABET[digit] + digits
    return digits
