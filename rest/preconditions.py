"""ETag and If-Match: a client cannot overwrite a change that it has not read.

An ETag names the state of an object's own row (docs/decisions/0020-etags.md). It is compared under the row's lock, in
the transaction of the write. So if two writers send the same ETag, one of them gets 412.
"""

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from django.db import transaction
from django.db.models import Model

from rest.errors import HeaderInvalid, NotFound, PreconditionFailed

# Columns that change without a client's write. A provider key's value may be sealed again for another sealing key; its
# fingerprint column still shows when the value itself changes.
_NOT_THE_CLIENTS: Final = frozenset(
    {"last_used", "last_success_at", "last_refusal_at", "last_refusal_status", "sealed"}
)
# One ETag of a list, with the commas and blanks around it.
_LISTED: Final = re.compile(r'[ \t,]*((?:W/)?"[\x21\x23-\x7e\x80-\xff]*")[ \t]*(?:,[ \t,]*|\Z)')

M = TypeVar("M", bound=Model)


def etag_of(item: Model) -> str:
    """The strong ETag of an object: a hash over the columns of its row."""
    state = hashlib.sha256()
    for field in item._meta.concrete_fields:
        if field.name not in _NOT_THE_CLIENTS:
            state.update(f"{field.attname}={_shown(getattr(item, field.attname))}\n".encode())
    return f'"{state.hexdigest()[:32]}"'


def _shown(value: Any) -> str:
    """A column as a text that is the same before and after it was stored: JSON comes back with its members in order."""
    if isinstance(value, dict | list):
        return json.dumps(value, sort_keys=True, default=repr)
    return repr(bytes(value) if isinstance(value, memoryview) else value)


@dataclass(frozen=True)
class IfMatch:
    """The states that the client accepts: one of these ETags, or any state (None: `*`, or no header)."""

    etags: frozenset[str] | None = None

    @classmethod
    def parse(cls, header: str | None) -> "IfMatch":
        """Parse the If-Match header; None if the request has none.

        Raises:
            HeaderInvalid: the header is neither a list of quoted ETags nor `*`.

        Source: RFC 9110, section 13.1.1; weak ETags never match.
        """
        if header is None or header.strip() == "*":
            return cls()
        etags, position = [], 0
        while found := _LISTED.match(header, position):
            etags.append(found[1])
            position = found.end()
        if not etags or position < len(header):
            raise HeaderInvalid(details={"If-Match": 'This must be * or a list of ETags, each in quotes: "…".'})
        return cls(frozenset(etags))

    def check(self, item: Model) -> None:
        """Compare with the object's current state; the caller must hold the row's lock.

        Raises:
            PreconditionFailed: the object has another ETag.
        """
        if self.etags is not None and etag_of(item) not in self.etags:
            raise PreconditionFailed


# The default of services: accept any state.
ANY: Final = IfMatch()


def locked(item: M, if_match: IfMatch = ANY) -> M:
    """Read the object again and lock its row until the transaction ends.

    The lock is `FOR NO KEY UPDATE`: other transactions may still insert rows that refer to it.

    Raises:
        NotFound: the object has been deleted.
        PreconditionFailed: the object is not in a state that the caller accepts.
    """
    if not transaction.get_connection().in_atomic_block:
        raise transaction.TransactionManagementError("a row can be locked only in a transaction")
    found: M | None = type(item)._default_manager.select_for_update(no_key=True).filter(pk=item.pk).first()
    if found is None:
        raise NotFound
    if_match.check(found)
    return found
