"""What an upstream keeps for the key that made it, and for no other: responses and conversations.

The gateway does not note which key that was. It asks the keys of the plan one after the other, and a key that does not
know the object is passed over like one that fails.

Source: contract, section 9; docs/decisions/0079-what-upstreams-keep.md.
"""

import re
from collections.abc import Mapping
from typing import Final

import msgspec

from gateway_core.dialects.error_texts import ErrorText

# The members of a request that name such an object.
_NAMING: Final = ("previous_response_id", "conversation")
_CODES: Final = frozenset({"previous_response_not_found", "response_not_found", "conversation_not_found"})
_MESSAGE: Final = re.compile(r"(?:response|conversation)\b[^.]{0,300}\b(?:not (?:be )?found|not exist)", re.IGNORECASE)
_NULL: Final = b"null"


def names_kept(members: Mapping[str, msgspec.Raw]) -> bool:
    """Whether a request goes on from something that an upstream keeps."""
    return any(name in members and bytes(members[name]).strip() != _NULL for name in _NAMING)


def is_not_kept(error: ErrorText) -> bool:
    """Whether a refusal says that the key does not know the object."""
    return bool(error.codes & _CODES) or _MESSAGE.search(error.message) is not None
