"""Bounds on tries to sign in, beside axes' bound on a user name and an address.

A network (one IPv4 address, one IPv6 /64) has a number of wrong tries, whatever the user names are, and a lower number
while many networks try at once. A network without tries left is refused before a password is hashed. A user has a
number of codes in an hour, whatever the addresses. A code is asked for only after the right password, so other people
cannot use up a user's codes. The counts of codes are in the cache in PostgreSQL; the user's row is locked while they
change.
"""

import ipaddress
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Final

from axes.models import AccessAttempt
from axes.signals import user_locked_out
from django.conf import settings
from django.core.cache import cache
from django.db import transaction
from django.db.models import QuerySet, Sum
from django.dispatch import receiver
from django.http import HttpRequest
from django.utils import timezone

from accounts import services
from accounts.models import User
from accounts.principals import Principal
from audit.actions import Action

NETWORK_TRIES: Final = 50
# After so many wrong tries of all networks together, a network has only a few.
ALL_TRIES: Final = 1000
FEW_NETWORK_TRIES: Final = 5
CODES: Final = 10
_HOUR: Final = 3600
# Stands for all user names that are locked out. A user name is never empty.
_LOCKED_OUT: Final = ""
_REMEMBERED_SECONDS: Final = 30 * 24 * _HOUR


@dataclass
class CodeTries:
    """The codes of one user: those of the hour that began at `hour`, and the wrong ones since `since` (Unix times)."""

    hour: float = 0
    tried: int = 0
    wrong: int = 0
    since: float = 0

    @property
    def since_moment(self) -> datetime:
        """The time from which wrong codes are counted."""
        return datetime.fromtimestamp(self.since, UTC)


def is_exhausted(address: str) -> bool:
    """Whether the network of an address has used up its wrong tries of the last AXES_COOLOFF_TIME."""
    try:
        network = _network_of(address)
    except ValueError:
        return False
    attempts = AccessAttempt.objects.filter(attempt_time__gt=timezone.now() - settings.AXES_COOLOFF_TIME)
    wrong = _sum_of(attempts.extra(where=["ip_address <<= %s::inet"], params=[network]))
    if wrong < FEW_NETWORK_TRIES:
        return False
    return wrong >= NETWORK_TRIES or _sum_of(attempts) >= ALL_TRIES


def _sum_of(attempts: QuerySet[AccessAttempt]) -> int:
    return attempts.aggregate(wrong=Sum("failures_since_start"))["wrong"] or 0


@receiver(user_locked_out)
@transaction.atomic
def count_during_lock_out(*, request: HttpRequest, **_more: object) -> None:
    """Count a try with a user name that is locked out, which axes does not do, for its network alone."""
    row, _ = AccessAttempt.objects.select_for_update().get_or_create(
        username=_LOCKED_OUT,
        ip_address=request.META.get("REMOTE_ADDR"),
        user_agent="",
        defaults={"failures_since_start": 0, "get_data": "", "post_data": ""},
    )
    row.failures_since_start += 1
    row.attempt_time = timezone.now()
    row.save(update_fields=["failures_since_start", "attempt_time"])


def code_tries_of(user: User) -> CodeTries:
    """The tries that are remembered of a user; a wrong code is remembered for 30 days."""
    return CodeTries(**cache.get(_key(user), {}))


@transaction.atomic
def take_code(user: User) -> bool:
    """Count a code before it is checked. False if the user has had all codes of this hour."""
    tries = _locked(user)
    if time.time() - tries.hour >= _HOUR:
        tries.hour, tries.tried = time.time(), 0
    if tries.tried >= CODES:
        return False
    tries.tried += 1
    _store(user, tries)
    return True


@transaction.atomic
def note_right_code(user: User) -> None:
    """Give a try back, because the code was right."""
    tries = _locked(user)
    tries.tried = max(0, tries.tried - 1)
    _store(user, tries)


@transaction.atomic
def note_wrong_code(user: User) -> None:
    """Count a wrong code for the notice, and record it in the audit."""
    tries = _locked(user)
    tries.wrong, tries.since = tries.wrong + 1, tries.since or time.time()
    _store(user, tries)
    services.record_sign_in(user=user, action=Action.MEMBER_CODE_REFUSED, by=Principal.of(user))


def _network_of(address: str) -> str:
    parsed = ipaddress.ip_address(address)
    # An IPv4 address in the form of IPv6 (::ffff:…) is stored as it came. Its /64 would be all of IPv4.
    if isinstance(parsed, ipaddress.IPv4Address) or parsed.ipv4_mapped is not None:
        return str(parsed)
    return str(ipaddress.ip_network((parsed, 64), strict=False))


def _locked(user: User) -> CodeTries:
    User.objects.select_for_update(no_key=True).get(pk=user.pk)
    return code_tries_of(user)


def _store(user: User, tries: CodeTries) -> None:
    cache.set(_key(user), asdict(tries), timeout=_REMEMBERED_SECONDS)


def _key(user: User) -> str:
    return f"code_tries:{user.pk}"
