"""What the pages of configurations read beside the configuration itself."""

from datetime import datetime
from typing import Final, NamedTuple

from django.db.models import IntegerField, OuterRef, QuerySet, Subquery

from access_keys.models import AccessKey
from accounts.principals import Principal
from configurations.models import Configuration
from configurations.revisions import State, changes_between
from dashboard.wording.relative_time import ago

SHOWN_USERS: Final = 10
# Beyond this many nobody needs the number, and counting them would cost a scan.
COUNTED_USERS: Final = 1000
_LONGEST_NUMBER: Final = 9


class Users(NamedTuple):
    """The access keys under a configuration, newest first."""

    shown: list[AccessKey]
    has_more: bool


def users_of(configuration: Configuration) -> Users:
    """Up to 10 of the access keys that a configuration decides for."""
    found = list(configuration.access_keys.order_by("-id")[: SHOWN_USERS + 1])
    return Users(found[:SHOWN_USERS], len(found) > SHOWN_USERS)


def described(access_key: AccessKey) -> str:
    """An access key and when it was last used, in a few words."""
    used = f"last used {ago(access_key.last_used)}" if access_key.last_used else "never used"
    return f"{access_key.name or access_key.key_redacted}, {used}"


class ShownRevision(NamedTuple):
    """A revision, and what it changed of the one before."""

    number: int
    at: datetime
    by: str
    changes: list[str]
    is_first: bool


class Revisions(NamedTuple):
    """Some of a configuration's revisions, newest first."""

    shown: list[ShownRevision]
    has_more: bool


def revisions_of(configuration: Configuration, *, most: int, before: int | None = None) -> Revisions:
    """Up to `most` revisions, from the newest or from that before a number on. One query."""
    rows = configuration.revisions.order_by("-number")
    if before is not None:
        rows = rows.filter(number__lt=before)
    # One more than is shown: what the last one is compared with.
    found = list(rows[: most + 1])
    told = []
    for place, revision in enumerate(found[:most]):
        older = found[place + 1] if place + 1 < len(found) else None
        changes = [] if older is None else changes_between(State.of(older), State.of(revision))
        by = called(revision.created_by, revision.created_by_name)
        told.append(ShownRevision(revision.number, revision.created_at, by, changes, is_first=older is None))
    return Revisions(told, len(found) > most)


def number_of(text: str) -> int | None:
    """A revision's number in a query; None for anything else."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _LONGEST_NUMBER else None


def called(principal_id: str, name: str) -> str:
    """A principal as it was called when it acted; by its ID where nobody wrote that down."""
    if not name:
        return principal_id
    return f"API key {name}" if Principal(principal_id).kind == "api_key" else name


class _Count(Subquery):
    template = "(SELECT count(*) FROM (%(subquery)s) counted)"
    output_field = IntegerField()


def with_user_count(configurations: QuerySet[Configuration]) -> QuerySet[Configuration]:
    """Each with `user_count`, at most COUNTED_USERS + 1, in the same statement."""
    keys = AccessKey.objects.filter(configuration=OuterRef("pk")).order_by().values("pk")
    return configurations.annotate(user_count=_Count(keys[: COUNTED_USERS + 1]))
