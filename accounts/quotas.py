"""Hold an account to its quotas: no write may leave it with more than it may have.

The database counts (migration 0005): triggers keep the account's row of `AccountQuotas` in the transaction that adds or
removes rows, whichever code does that. A service that changes what is counted locks that row first, by `held`. So two
writes at once cannot both take the last place, and no two writers wait for each other's locks in a circle.

Source: docs/decisions/0103-quotas.md.
"""

import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final, NamedTuple

from django.conf import settings
from django.db import transaction

from accounts.models import AccountQuotas
from accounts.quota_limits import OF_ONE_OBJECT, Quota
from rest.errors import ROOT, Conflict

# From this share on the dashboard says that a quota is nearly used up.
_NEARLY: Final = 80
_ALMOST: Final = 90


class QuotaReached(Conflict):
    """A quota of this account is reached; `details` names it."""

    code = "quota_reached"

    @classmethod
    def of(cls, quota: Quota, limit: int, *, path: str = ROOT) -> "QuotaReached":
        """The refusal of a write that would pass a quota.

        Args:
            quota: the quota.
            limit: how many the account may have.
            path: the JSON path of the request that needs the room; the whole request if there is none.
        """
        advice = "Remove some that are not used" if quota is not Quota.SNAPSHOT_BYTES else "Make some smaller"
        return cls(
            details={
                path: f"The quota {quota} is {limit} {quota.noun}. {advice}, or ask the operator for a higher one."
            }
        )


class QuotaUse(NamedTuple):
    """One quota of an account, and how much of it is used; None where it holds for each object by itself."""

    name: Quota
    limit: int
    used: int | None

    @property
    def remaining(self) -> int | None:
        """How many more the account may have; 0 where it has more than it may."""
        return None if self.used is None else max(self.limit - self.used, 0)

    @property
    def percent(self) -> int:
        """How many percent of the quota are used, from 0 to 100."""
        if self.used is None:
            return 0
        return 100 if self.used >= self.limit else self.used * 100 // self.limit

    @property
    def level(self) -> str:
        """`reached`, `almost` (90 %), `nearly` (80 %), or empty."""
        if self.remaining == 0:
            return "reached"
        return "almost" if self.percent >= _ALMOST else "nearly" if self.percent >= _NEARLY else ""


class Held:
    """An account's locked counts."""

    def __init__(self, row: AccountQuotas) -> None:
        self._row = row

    def limit(self, quota: Quota) -> int:
        """How many the account may have."""
        return _limit(self._row, quota)

    def take(self, quota: Quota, count: int = 1, *, path: str = ROOT) -> None:
        """Check that there is room for so many more.

        Raises:
            QuotaReached: there is not.
        """
        if count and quota.column is not None and getattr(self._row, quota.column) + count > self.limit(quota):
            raise QuotaReached.of(quota, self.limit(quota), path=path)

    def check_grown(self, *quotas: Quota, path: str = ROOT) -> None:
        """Check after a write that it has not made one of these counts grow above its limit.

        Raises:
            QuotaReached: one has.
        """
        now = AccountQuotas.objects.get(pk=self._row.pk)
        for quota in quotas:
            before, after = (getattr(row, quota.column or "") for row in (self._row, now))
            if after > before and after > self.limit(quota):
                raise QuotaReached.of(quota, self.limit(quota), path=path)


@contextmanager
def held(account_id: uuid.UUID) -> Iterator[Held]:
    """A transaction that locks an account's counts first. Every service that adds or removes what is counted uses it.

    Lock this row before any other. Two writers that lock in different orders would wait for each other.
    """
    with transaction.atomic():
        yield Held(_locked(account_id))


def limit_of(account_id: uuid.UUID, quota: Quota) -> int:
    """The limit of a quota for an account, read without a lock."""
    return _limit(_read(account_id), quota)


def uses_of(account_id: uuid.UUID) -> list[QuotaUse]:
    """Every quota of an account. It reads one row."""
    row = _read(account_id)
    return [
        QuotaUse(quota, _limit(row, quota), None if quota in OF_ONE_OBJECT else getattr(row, quota.column or ""))
        for quota in Quota
    ]


def nearly_full(uses: list[QuotaUse]) -> list[QuotaUse]:
    """The quotas of which 80 % or more are used, the fullest first."""
    return sorted((use for use in uses if use.level), key=lambda use: use.percent, reverse=True)


def set_limits(account_id: uuid.UUID, limits: Mapping[Quota, int | None]) -> None:
    """Set limits of one account; None puts the deployment's limit back. What the account has above a limit stays."""
    with transaction.atomic():
        row = _locked(account_id)
        for quota, limit in limits.items():
            if limit is None:
                row.limits.pop(quota, None)
            else:
                row.limits[quota] = limit
        row.save(update_fields=["limits"])


def _limit(row: AccountQuotas, quota: Quota) -> int:
    limit: int = row.limits.get(quota, settings.QUOTAS[quota])
    return limit


def _read(account_id: uuid.UUID) -> AccountQuotas:
    return AccountQuotas.objects.filter(pk=account_id).first() or AccountQuotas(account_id=account_id)


def _locked(account_id: uuid.UUID) -> AccountQuotas:
    rows = AccountQuotas.objects.select_for_update(no_key=True).filter(pk=account_id)
    found = rows.first()
    if found is None:
        # Two may do so at once; the second one waits and then has no effect.
        AccountQuotas.objects.bulk_create([AccountQuotas(account_id=account_id)], ignore_conflicts=True)
        found = rows.get()
    return found
