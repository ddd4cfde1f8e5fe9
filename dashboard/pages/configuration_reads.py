"""What the pages of configurations read beside the configuration itself."""

from typing import Final, NamedTuple

from django.db.models import IntegerField, OuterRef, QuerySet, Subquery

from access_keys.models import AccessKey
from configurations.models import Configuration
from dashboard.spoken import ago

SHOWN_USERS: Final = 10
# Beyond this many nobody needs the number, and counting them would cost a scan.
COUNTED_USERS: Final = 1000


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


class _Count(Subquery):
    template = "(SELECT count(*) FROM (%(subquery)s) counted)"
    output_field = IntegerField()


def with_user_count(configurations: QuerySet[Configuration]) -> QuerySet[Configuration]:
    """Each with `user_count`, at most COUNTED_USERS + 1, in the same statement."""
    keys = AccessKey.objects.filter(configuration=OuterRef("pk")).order_by().values("pk")
    return configurations.annotate(user_count=_Count(keys[: COUNTED_USERS + 1]))
