"""Queries of the configuration pages, beside the configuration itself: its users and its revisions."""

from datetime import datetime
from typing import Final, NamedTuple

from django.db.models import IntegerField, OuterRef, QuerySet, Subquery

from access_keys.models import AccessKey
from accounts.principals import Principal
from configurations.models import Configuration
from configurations.revisions import State, changes_between
from dashboard.wording.relative_time import ago

SHOWN_USERS: Final = 10
# Users are counted up to this number. Nobody needs a higher number exactly, and counting would cost a scan.
COUNTED_USERS: Final = 1000
_LONGEST_NUMBER: Final = 9


class Users(NamedTuple):
    """The access keys under a configuration, newest first."""

    shown: list[AccessKey]
    has_more: bool


def users_of(configuration: Configuration) -> Users:
    """Up to 10 of the access keys that are linked to a configuration."""
    found = list(configuration.access_keys.order_by("-id")[: SHOWN_USERS + 1])
    return Users(found[:SHOWN_USERS], len(found) > SHOWN_USERS)


def described(access_key: AccessKey) -> str:
    """A short text with an access key's name and its last use."""
    used = f"last used {ago(access_key.last_used)}" if access_key.last_used else "never used"
    return f"{access_key.name or access_key.key_redacted}, {used}"


class ShownRevision(NamedTuple):
    """A revision, and its changes compared with the one before."""

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
    """Up to `most` revisions, newest first, of those with a number below `before`. One query."""
    rows = configuration.revisions.order_by("-number")
    if before is not None:
        rows = rows.filter(number__lt=before)
    # One more than is shown, to compare the last one with.
    found = list(rows[: most + 1])
    shown = []
    for place, revision in enumerate(found[:most]):
        older = found[place + 1] if place + 1 < len(found) else None
        changes = [] if older is None else changes_between(State.of(older), State.of(revision))
        by = called(revision.created_by, revision.created_by_name)
        shown.append(ShownRevision(revision.number, revision.created_at, by, changes, is_first=revision.number == 1))
    return Revisions(shown, len(found) > most)


def number_of(text: str) -> int | None:
    """The number of a revision in a query parameter; None for any other text."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _LONGEST_NUMBER else None


def called(principal_id: str, name: str) -> str:
    """The name that a principal had when it acted; its ID where no name was recorded."""
    if not name:
        return principal_id
    return f"API key {name}" if Principal(principal_id).kind == "api_key" else name


class _Count(Subquery):
    template = "(SELECT count(*) FROM (%(subquery)s) counted)"
    output_field = IntegerField()


def with_user_count(configurations: QuerySet[Configuration]) -> QuerySet[Configuration]:
    """Annotate each configuration with `user_count`, at most COUNTED_USERS + 1, in the same statement."""
    keys = AccessKey.objects.filter(configuration=OuterRef("pk")).order_by().values("pk")
    return configurations.annotate(user_count=_Count(keys[: COUNTED_USERS + 1]))
