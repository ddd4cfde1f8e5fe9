"""Bounds on tries to sign in, beside axes' bound on a user name and an address.

A network (one IPv4 address, one IPv6 /64) has a number of wrong tries, whatever the user names are. They are counted
before a password is hashed. A user has a number of codes in an hour, whatever the addresses. A code is asked for only
after the right password, so other people cannot use up a user's codes. The counts of codes are in the cache in
PostgreSQL; the user's row is locked while they change.
"""

import ipaddress
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Final

from axes.models import AccessAttempt
from django.conf import settings
from django.core.cache import cache
from django.db import transaction
from django.db.models import Sum
from django.utils import timezone

from accounts import services
from accounts.models import User
from accounts.principals import Principal
from audit.actions import Action

NETWORK_TRIES: Final = 50
CODES: Final = 10
_HOUR: Final = 3600
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
    of_network = attempts.extra(where=["ip_address <<= %s::inet"], params=[network])
    return (of_network.aggregate(wrong=Sum("failures_since_start"))["wrong"] or 0) >= NETWORK_TRIES


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
