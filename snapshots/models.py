"""What has still to be published, and what has been.

A `Change` is written in the transaction of the write that it tells of, and deleted in the transaction that published
it. The other two rows are the publisher's memory: how far an account has got, and which life of Redis is current.
"""

from typing import Final

from django.db import models
from django.utils import timezone

from accounts.models import Account
from gateway_core import ids

# Instead of a document's name: everything of the account. Only the publisher writes it, where it finds that Redis and
# PostgreSQL have parted; only the relay acts on it.
WHOLE_ACCOUNT: Final = "*"


class Change(models.Model):
    """One document of an account that has to be written anew, or deleted, in Redis (the transactional outbox).

    It names the document, not its content: the publisher reads the object as it is by then.
    """

    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="changes")
    # `token:<digest>`, or a field of the account's hash: `configuration:aigac_…`, `providerKey:aigpk_…`,
    # `provider:<providerId>`, `settings` (gateway_core.snapshot).
    document = models.CharField(max_length=320)
    recorded_at = models.DateTimeField(default=timezone.now)
    # A change that cannot be published is set aside with its reason, so that it holds nothing else up.
    parked_at = models.DateTimeField(null=True)
    reason = models.TextField(null=True)

    class Meta:
        # The publisher: what an account has pending. The relay: which accounts have anything pending.
        indexes = [models.Index("account", "id", condition=models.Q(parked_at=None), name="changes_pending")]

    def __str__(self) -> str:
        return self.document


class Publication(models.Model):
    """How far an account's snapshot has got. Its row lock is what lets one publisher at a time work on the account."""

    account = models.OneToOneField(Account, on_delete=models.CASCADE, primary_key=True, related_name="publication")
    # Microseconds since 1970, and always higher than before: greatest(version + 1, the database's clock).
    version = models.BigIntegerField(default=0)
    # The place of this account's newest entry in the change stream.
    number = models.BigIntegerField(default=0)
    published_at = models.DateTimeField(null=True)

    class Meta:
        # The relay asks each second for the highest number of all.
        indexes = [models.Index(models.F("number").desc(), name="publications_by_number")]

    def __str__(self) -> str:
        return f"{self.account_id} at {self.version}"


class Epoch(models.Model):
    """The life of Redis that PostgreSQL believes in: a single row.

    A rebuild begins a new epoch; publications of an older one are refused by Redis itself.
    """

    id = models.UUIDField(primary_key=True, default=ids.new_id)
    singleton = models.BooleanField(default=True, unique=True)
    started_at = models.DateTimeField(default=timezone.now)
    completed_at = models.DateTimeField(null=True)
    # The highest number in the change stream that no account's publication holds: the catalog's, or where the epoch
    # began.
    number = models.BigIntegerField(default=0)

    class Meta:
        constraints = [models.CheckConstraint(condition=models.Q(singleton=True), name="there_is_one_epoch")]

    def __str__(self) -> str:
        return str(self.id)
