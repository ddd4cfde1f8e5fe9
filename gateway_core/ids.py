"""IDs: a UUIDv7 inside the program, a TypeID (`aigk_01h455vb4pex5vsknk084sn02q`) for people and clients.

The database and the services carry `uuid.UUID`. APIs, pages and the documents of the snapshot carry the prefixed text.
The text sorts as the UUID does, and every UUID has exactly one text, so comparing texts compares IDs.

Source: https://github.com/jetify-com/typeid/tree/main/spec (version 0.3); docs/decisions/0003-ids.md.
"""

import uuid
from enum import StrEnum
from typing import Final

import uuid_utils.compat
from typeid.codecs import base32

_SUFFIX_LENGTH: Final = 26


class InvalidId(ValueError):
    """This is not an ID of the expected kind."""


class Prefix(StrEnum):
    """The kind of object that an ID names. The texts appear in APIs and documents and never change."""

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
    """A new UUIDv7, greater than every one that this process made before, in any thread."""
    identity: uuid.UUID = uuid_utils.compat.uuid7()
    return identity


def made_at(id: uuid.UUID) -> int:  # noqa: A002 - as in `to_text`
    """When an ID was made, in microseconds since 1970, to the millisecond.

    Source: RFC 9562, section 5.7.
    """
    return (id.int >> 80) * 1000


def to_text(prefix: Prefix, id: uuid.UUID) -> str:  # noqa: A002 - the domain's word; the built-in is not used here
    """The ID as clients see it: prefix, underscore, 26 characters of base32."""
    return f"{prefix}_{base32.encode(id.bytes)}"


def from_text(prefix: Prefix, text: str) -> uuid.UUID:
    """The UUID of an ID's text. Only the canonical spelling is accepted.

    Args:
        prefix: the expected kind.
        text: the text from a client. An object of any other type is refused in the same way.

    Raises:
        InvalidId: another prefix, a wrong length, a character outside the alphabet (upper case too), or over 128 bits.
    """
    lead = f"{prefix}_"
    # The codec accepts a first character above 7 and drops the bits that overflow. Two texts would name one object.
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
