"""IDs: a UUIDv7 inside, a TypeID (`aigk_01h455vb4pex5vsknk084sn02q`) at the edges.

The database, the snapshot and the services carry `uuid.UUID`; the prefixed text exists where a person or a client reads
it. The text sorts as the UUID does, and every UUID has exactly one text, so comparing texts compares IDs.

Source: https://github.com/jetify-com/typeid/tree/main/spec (version 0.3); docs/decisions/0003-ids.md.
"""

import uuid
from enum import StrEnum
from typing import Final

import uuid_utils.compat
from typeid.codecs import base32

_SUFFIX_LENGTH: Final = 26


class InvalidId(ValueError):
    """This is not an ID of the kind that is asked for."""


class Prefix(StrEnum):
    """What an ID names. The texts are the wire's and never change."""

    ACCESS_KEY = "aigk"
    CONFIGURATION = "aigac"
    PROVIDER_KEY = "aigpk"
    PROVIDER = "aigp"
    API_KEY = "aigapi"
    PROVIDER_MODEL = "aigpm"
    USAGE_EVENT = "aigue"
    ACCOUNT = "ac"
    USER = "usr"
    INVITATION = "inv"
    WORKER = "aigw"


def new_id() -> uuid.UUID:
    """A new UUIDv7, greater than every one that this process made before, whichever thread asked."""
    identity: uuid.UUID = uuid_utils.compat.uuid7()
    return identity


def to_text(prefix: Prefix, id: uuid.UUID) -> str:  # noqa: A002 - the domain's word; the built-in is not used here
    """The ID as clients see it: prefix, underscore, 26 characters of base32."""
    return f"{prefix}_{base32.encode(id.bytes)}"


def from_text(prefix: Prefix, text: str) -> uuid.UUID:
    """The UUID behind an ID's text. Only the one canonical spelling is accepted.

    Args:
        prefix: the kind that must be named.
        text: what a client sent; any object is refused in the same way.

    Raises:
        InvalidId: another prefix, a wrong length, a character outside the alphabet (upper case too), or over 128 bits.
    """
    lead = f"{prefix}_"
    # The codec takes a first character above 7, dropping the bits that overflow: two texts would name one object.
    if (
        not isinstance(text, str)
        or len(text) != len(lead) + _SUFFIX_LENGTH
        or not text.isascii()
        or not text.startswith(lead)
        or text[len(lead)] > "7"
    ):
        raise InvalidId(InvalidId.__doc__)
    try:
        return uuid.UUID(bytes=base32.decode(text[len(lead) :]))
    except RuntimeError:
        raise InvalidId(InvalidId.__doc__) from None
