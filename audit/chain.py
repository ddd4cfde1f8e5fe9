"""The hash chain of the audit: it shows changes that somebody made in spite of the triggers.

Each link's hash covers its event and the hash before it. A change, a removal or an insertion anywhere therefore changes
every later hash. The newest hash then differs from the one that the operator noted elsewhere.

The relay adds the links a moment after the events are committed, because writers that needed the newest hash would
have to wait for each other. Until then an event is only as safe as the database. `manage.py verify_audit` checks the
chain.

Source: docs/decisions/0102-audit-chain.md.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from hashlib import sha256
from typing import Any, Final

from django.db import connection, transaction
from django.db.models import Exists, OuterRef

from audit.actions import Action
from audit.models import Event, Link, PendingEvent

BATCH: Final = 500
# The hash before the first link.
ROOT: Final = bytes(32)
# The name of the byte format, and every column of an event in the order of the format. Another order or another set of
# columns is another format and needs another name.
FORM: Final = "gateway-admin audit 1"
COLUMNS: Final = (
    "id",
    "account_id",
    "at",
    "principal_kind",
    "principal_id",
    "principal_name",
    "action",
    "object_id",
    "object_name",
    "changes",
    "source",
    "address",
    "user_agent",
    "request_id",
)
_CHANGES: Final = COLUMNS.index("changes")
# The key of an advisory lock: only one process extends or shortens the chain at a time.
_LOCK: Final = 0x61756469745F6C6B
_CHUNK: Final = 2000


@dataclass(frozen=True)
class ChainHead:
    """The newest link. If it is noted elsewhere, nobody can shorten or rewrite the chain unnoticed."""

    number: int
    hash: bytes

    def __str__(self) -> str:
        return f"{self.number}:{self.hash.hex()}"

    @classmethod
    def parse(cls, text: str) -> "ChainHead":
        """Parse `NUMBER:HASH`.

        Raises:
            ValueError: the text is not a head.
        """
        number, _, digest = text.partition(":")
        head = cls(int(number), bytes.fromhex(digest))
        if head.number < 0 or len(head.hash) != len(ROOT):
            raise ValueError("not a head")
        return head


EMPTY: Final = ChainHead(0, ROOT)


class Fault(StrEnum):
    """How a chain is broken."""

    CHANGED = "the event or its link was changed or inserted: the hash does not follow from the one before"
    EVENT_MISSING = "its event is missing"
    LINK_MISSING = "the link is missing"
    EVENT_INSERTED = "the event is in the table, but was not recorded: it is neither chained nor pending"
    NOTED_FORGOTTEN = "the noted head is older than the events that are kept; compare with a newer one"
    NOT_NOTED = "the noted head is not in the chain: the chain was shortened or rewritten"


@dataclass(frozen=True)
class Break:
    """The first place where the chain does not hold."""

    fault: Fault
    # `link 7, event …`
    place: str

    def __str__(self) -> str:
        return f"{self.place}: {self.fault}"


def canonical(event: Sequence[Any]) -> bytes:
    """An event's bytes: its columns as JSON, in the order of COLUMNS.

    Args:
        event: the columns as the database returns them, so that the hash covers the stored values.
    """
    return json.dumps([FORM, *event], default=_text, sort_keys=True, separators=(",", ":")).encode()


def link_hash(before: bytes, event: Sequence[Any]) -> bytes:
    """The hash of the link that follows the one with hash `before`: SHA-256, 32 bytes."""
    return sha256(before + canonical(event)).digest()


def _text(value: Any) -> str:
    return value.astimezone(UTC).isoformat(timespec="microseconds") if isinstance(value, datetime) else str(value)


def head() -> ChainHead:
    """The newest link; EMPTY if the chain has no links."""
    found = Link.objects.order_by("-number").values_list("number", "hash").first()
    return ChainHead(found[0], bytes(found[1])) if found else EMPTY


def lock() -> bool:
    """Whether this transaction alone may change the chain from now on. It does not wait for another one."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [_LOCK])
        return bool(cursor.fetchone()[0])


def forgotten_through(number: int) -> ChainHead | None:
    """The link with this number, if it was the last one of a beginning that was deleted by age (audit.retention)."""
    events = Event.objects.of_operator().with_actions(Action.AUDIT_FORGOTTEN).on_object(str(number))
    for changes in events.values_list("changes", flat=True)[:1]:
        try:
            last = ChainHead.parse(changes["head"][1])
        except (KeyError, TypeError, IndexError, ValueError):
            return None
        return last if last.number == number else None
    return None


@transaction.atomic
def extend(limit: int = BATCH) -> int:
    """Add pending events to the chain, oldest first.

    If two relays call this at once, one of them does the work and the other returns 0.

    Returns:
        The number of events that were chained. If it equals `limit`, more may be pending.
    """
    if not lock():
        return 0
    # In the order of their IDs, which is the order of creation. An event that commits late is chained late.
    waiting = list(PendingEvent.objects.order_by("event_id").values_list("event_id", flat=True)[:limit])
    if not waiting:
        return 0
    newest = head()
    links = []
    for event in Event.objects.filter(id__in=waiting).order_by("id").values_list(*COLUMNS):
        newest = ChainHead(newest.number + 1, link_hash(newest.hash, event))
        links.append(Link(number=newest.number, event_id=event[0], hash=newest.hash))
    Link.objects.bulk_create(links)
    PendingEvent.objects.filter(event_id__in=waiting).delete()
    return len(links)


@dataclass
class Verification:
    """One check of the chain; its attributes are final once `run` has ended."""

    # A head that was noted earlier; it must still be in the chain.
    noted: ChainHead | None = None
    # The last deleted link, where the beginning was deleted by age; the chain continues from it.
    start: ChainHead = EMPTY
    # The last valid link.
    head: ChainHead = EMPTY
    broken: Break | None = None
    # Events that no link holds yet.
    waiting: int = 0

    def run(self) -> Iterator[int]:
        """Check until the end or the first break, and yield the number of every valid link.

        One statement, read in chunks, shows the chain as it was at one moment. The chain is never in memory as a whole.
        """
        is_noted = self.noted is None or self.noted == EMPTY
        with transaction.atomic():
            for number, stored, event in _walk():
                if self.head == EMPTY and number > 1:
                    self.start = self.head = forgotten_through(number - 1) or EMPTY
                    is_noted |= self.head == self.noted
                self.broken = self._break_at(number, stored, event)
                if self.broken is not None:
                    return
                self.head = ChainHead(number, stored)
                is_noted |= self.head == self.noted
                yield number
            self.waiting = PendingEvent.objects.count()
        if not is_noted and self.noted is not None and self.noted.number < self.start.number:
            self.broken = Break(Fault.NOTED_FORGOTTEN, f"link {self.noted.number}")
        elif not is_noted and self.noted is not None:
            self.broken = Break(Fault.NOT_NOTED, f"link {self.noted.number}")
        else:
            self.broken = _inserted()

    def _break_at(self, number: int, stored: bytes, event: list[Any]) -> Break | None:
        if number > self.head.number + 1:
            return Break(Fault.LINK_MISSING, f"link {self.head.number + 1}")
        if event[0] is None:
            return Break(Fault.EVENT_MISSING, f"link {number}")
        if number != self.head.number + 1 or link_hash(self.head.hash, event) != stored:
            return Break(Fault.CHANGED, f"link {number}, event {event[0]}")
        return None


def _walk() -> Iterator[tuple[int, bytes, list[Any]]]:
    """Yield each link in order as (number, hash, event's columns). The columns are all None if the event is missing."""
    columns = ", ".join(f"event.{name}" for name in COLUMNS)
    with connection.chunked_cursor() as cursor:
        cursor.execute(
            f"SELECT link.number, link.hash, {columns} FROM audit_link link"  # noqa: S608 -- our own names
            " LEFT JOIN audit_event event ON event.id = link.event_id ORDER BY link.number"
        )
        while rows := cursor.fetchmany(_CHUNK):
            for number, stored, *event in rows:
                # A raw cursor returns JSON as text; only Django's JSONField decodes it.
                event[_CHANGES] = json.loads(event[_CHANGES] or "null")
                yield number, bytes(stored), event


def _inserted() -> Break | None:
    """Find an event that is neither chained nor pending. One statement, so that no relay moves events meanwhile."""
    links, waiting = Link.objects.filter(event=OuterRef("pk")), PendingEvent.objects.filter(event=OuterRef("pk"))
    found = Event.objects.filter(~Exists(links), ~Exists(waiting)).order_by("id").first()
    return None if found is None else Break(Fault.EVENT_INSERTED, f"event {found.id}")
