"""ETag and If-Match: nobody overwrites a change that they have not seen.

An ETag names the state of an object's own row (docs/decisions/0020-etags.md). It is compared under the row's lock, in
the transaction of the write, so that of two writers with the same ETag one gets 412.
"""

import hashlib
import re
from dataclasses import dataclass
from typing import Final, TypeVar

from django.db import transaction
from django.db.models import Model

from rest.errors import HeaderInvalid, NotFound, PreconditionFailed

# What changes without a write of the client's. A provider key may be sealed anew; its fingerprint stands for it.
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
            value = getattr(item, field.attname)
            state.update(f"{field.attname}={bytes(value) if isinstance(value, memoryview) else value!r}\n".encode())
    return f'"{state.hexdigest()[:32]}"'


@dataclass(frozen=True)
class IfMatch:
    """What the client expects of the object: one of these ETags, any state (`*`), or nothing at all (None)."""

    etags: frozenset[str] | None = None

    @classmethod
    def parse(cls, header: str | None) -> "IfMatch":
        """From the header's text.

        Raises:
            HeaderInvalid: not a list of quoted ETags, and not `*`.

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
        """Compare with the object as it is now; call it with the row locked.

        Raises:
            PreconditionFailed: it is in another state.
        """
        if self.etags is not None and etag_of(item) not in self.etags:
            raise PreconditionFailed


# No expectation: what a service is called with when nobody gave one.
ANY: Final = IfMatch()


def locked(item: M, if_match: IfMatch = ANY) -> M:
    """The object as it is now, its row locked until the transaction ends.

    `FOR NO KEY UPDATE`: rows that refer to it may still be inserted meanwhile.

    Raises:
        NotFound: it has been deleted since.
        PreconditionFailed: it is not in the state that the caller expects.
    """
    if not transaction.get_connection().in_atomic_block:
        raise transaction.TransactionManagementError("a lock outside of a transaction holds nothing")
    found: M | None = type(item)._default_manager.select_for_update(no_key=True).filter(pk=item.pk).first()
    if found is None:
        raise NotFound
    if_match.check(found)
    return found
