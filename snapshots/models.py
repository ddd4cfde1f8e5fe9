"""Changes that are not published yet, and the state of publications.

A `Change` is written in the transaction of the write that it describes, and deleted in the transaction that publishes
it. `Publication` keeps the version that an account has reached. `Epoch` names the current epoch of Redis. A
`Lease` lets one process at a time rebuild Redis.
"""

from typing import Final

from django.db import models
from django.utils import timezone

from accounts.models import Account
from gateway_core import ids

# In place of a document's name: all documents of the account. Only the publisher writes it, when it finds that Redis is
# ahead of PostgreSQL. Only the relay acts on it.
WHOLE_ACCOUNT: Final = "*"


class Change(models.Model):
    """One document of an account that must be written or deleted in Redis (the transactional outbox).

    It names the document and has no content: the publisher reads the object's state at that time.
    """

    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="changes")
    # `token:<digest>`, or a field of the account's hash: `configuration:aigac_…`, `providerKey:aigpk_…`,
    # `provider:<providerId>`, `settings` (gateway_core.snapshot).
    document = models.CharField(max_length=320)
    recorded_at = models.DateTimeField(default=timezone.now)
    # A change that cannot be published is set aside with its reason, so that it does not block other changes.
    parked_at = models.DateTimeField(null=True)
    reason = models.TextField(null=True)

    class Meta:
        # For the publisher: the pending changes of an account. For the relay: the accounts with pending changes.
        indexes = [models.Index("account", "id", condition=models.Q(parked_at=None), name="changes_pending")]

    def __str__(self) -> str:
        return self.document


class Publication(models.Model):
    """The version that an account's snapshot has reached. A publisher locks it, so only one works on an account."""

    account = models.OneToOneField(Account, on_delete=models.CASCADE, primary_key=True, related_name="publication")
    # Microseconds since 1970; each publication increases it: greatest(version + 1, the database's clock).
    version = models.BigIntegerField(default=0)
    # The number of this account's newest entry in the change stream.
    number = models.BigIntegerField(default=0)
    published_at = models.DateTimeField(null=True)

    class Meta:
        # The relay reads the highest number of all accounts each second.
        indexes = [models.Index(models.F("number").desc(), name="publications_by_number")]

    def __str__(self) -> str:
        return f"{self.account_id} at {self.version}"


class Epoch(models.Model):
    """The epoch that Redis must have, as a single row.

    A rebuild begins a new epoch. Redis refuses publications of an older one.
    """

    id = models.UUIDField(primary_key=True, default=ids.new_id)
    singleton = models.BooleanField(default=True, unique=True)
    started_at = models.DateTimeField(default=timezone.now)
    completed_at = models.DateTimeField(null=True)
    # The highest number in the change stream that does not belong to an account: the catalog's newest publication, or
    # the beginning of the epoch.
    number = models.BigIntegerField(default=0)

    class Meta:
        constraints = [models.CheckConstraint(condition=models.Q(singleton=True), name="there_is_one_epoch")]

    def __str__(self) -> str:
        return str(self.id)


class Lease(models.Model):
    """The right of one process to do something that only one may do at a time (snapshots.lease)."""

    name = models.CharField(max_length=60, primary_key=True)
    holder = models.UUIDField()
    # By PostgreSQL's clock. From then on another process may take the lease.
    expires_at = models.DateTimeField()

    def __str__(self) -> str:
        return self.name
