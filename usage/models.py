"""Usage events with their costs, and the ledger of credits.

An `Event` is one attempt at an upstream. It arrives through Redis, is counted once and never changes. It is deleted
with its month when the retention ends (usage.partitions). A `Rollup` is a sum of events, so that an overview does not
read each of them. It is written in the transaction that adds the events.

Credits are a ledger: `LedgerEntry` is append-only, and triggers of the database refuse anything else. `Balance`, `Lot`
and `Period` are sums over it, written in the entry's transaction. They can be computed from the ledger at any time.

Source: docs/decisions/0060-usage-events.md to 0065-checkout.md.
"""

from decimal import Decimal
from typing import Any

from django.db import models
from django.db.models.functions import Now
from django.utils import timezone

from accounts.models import Account
from gateway_core import ids

# The cost of an attempt is in US dollars with 12 decimal places, credits are in cents with 10. The smallest step of
# both is the same amount, so a conversion does not round.
DOLLAR_PLACES = 12
CENT_PLACES = 10


class KeySource(models.TextChoices):
    """Whose credentials an attempt was made with (gateway_core.usage_events)."""

    USER = "user"
    MANAGED = "ngrok"
    NONE = "none"


class Event(models.Model):
    """One attempt as a worker reported it, with its cost.

    The table is partitioned by month of `event_time`; migration 0001 makes it by hand. It refers to nothing by foreign
    key: an event outlives the keys that it names, and the check would cost more than the insert.
    """

    # The database holds it unique within a partition only. That is enough: the time in an ID puts it in one partition.
    id = models.UUIDField(primary_key=True)
    event_time = models.DateTimeField()
    account_id = models.UUIDField()
    access_key_id = models.UUIDField()
    request_id = models.TextField()
    provider = models.TextField()
    # The model as it was sent upstream, and as the caller named it.
    model = models.TextField()
    requested_model = models.TextField()
    attempt = models.IntegerField()
    is_final = models.BooleanField()
    status = models.SmallIntegerField()
    timed_out = models.BooleanField()
    is_error = models.BooleanField()
    is_streaming = models.BooleanField()
    stop_reason = models.TextField()
    input_tokens = models.IntegerField()
    output_tokens = models.IntegerField()
    cache_read_tokens = models.IntegerField()
    cache_write_tokens = models.IntegerField()
    reasoning_tokens = models.IntegerField()
    # US dollars at list price.
    cost = models.DecimalField(max_digits=30, decimal_places=DOLLAR_PLACES)
    # Cents taken from the credits: the processing fee, and the list price where the operator's key was used.
    charge = models.DecimalField(max_digits=30, decimal_places=CENT_PLACES)
    key_source = models.TextField(choices=KeySource)
    provider_key_id = models.UUIDField(null=True)
    mask = models.TextField(null=True)
    duration_ms = models.IntegerField()
    # The next three are null where the worker was of an older release, the first also where no answer began.
    first_byte_ms = models.IntegerField(null=True)
    # When the request had been read. Its attempts have the same.
    requested_at = models.DateTimeField(null=True)
    # gateway_core.traces.Trace
    trace = models.JSONField(null=True)
    # The next three are null where there is nothing to say. Counts by wire name, of those that have no column.
    kinds = models.JSONField(null=True)
    service_tier = models.TextField(null=True)
    usage_estimated = models.BooleanField(null=True)

    class Meta:
        db_table = "usage_event"
        indexes = [
            # GET /usage: the account's events, newest first. Also the parts of an overview that are not whole hours.
            models.Index(
                "account_id", models.F("event_time").desc(), models.F("id").desc(), name="events_newest_first"
            ),
            # GET /usage with `accessKeyId`.
            models.Index(
                "access_key_id", models.F("event_time").desc(), models.F("id").desc(), name="events_of_an_access_key"
            ),
            # The same two without `includeRetries`. There may be a thousand failed attempts for each final one.
            models.Index(
                "account_id",
                models.F("event_time").desc(),
                models.F("id").desc(),
                condition=models.Q(is_final=True),
                name="final_events_newest_first",
            ),
            models.Index(
                "access_key_id",
                models.F("event_time").desc(),
                models.F("id").desc(),
                condition=models.Q(is_final=True),
                name="final_events_of_an_access_key",
            ),
            # GET /usage/requests/{requestId}. Callers may use an ID as often as they like.
            models.Index("account_id", "request_id", models.F("event_time").desc(), name="events_of_a_request"),
        ]

    def __str__(self) -> str:
        return self.text_id

    @property
    def text_id(self) -> str:
        """The ID as text: `aigue_…`."""
        return ids.to_text(ids.Prefix.USAGE_EVENT, self.id)

    @property
    def latency_ms(self) -> int | None:
        """From the beginning of the request to the end of this attempt; None where the worker did not say."""
        if self.requested_at is None:
            return None
        return max(0, round((self.event_time - self.requested_at).total_seconds() * 1000)) + self.duration_ms

    @property
    def access_key_text_id(self) -> str:
        """The access key's ID as text: `aigk_…`."""
        return ids.to_text(ids.Prefix.ACCESS_KEY, self.access_key_id)


class Rollup(models.Model):
    """The sums of an account's events in one hour or one UTC day, by provider or by access key."""

    class Span(models.TextChoices):
        DAY = "d"
        HOUR = "h"

    class Dimension(models.TextChoices):
        PROVIDER = "p"
        ACCESS_KEY = "k"

    # Every query gives one account, one dimension, one span and a range of times, so the primary key is its index.
    pk = models.CompositePrimaryKey("account_id", "dimension", "span", "start", "group_key")
    account_id = models.UUIDField()
    dimension = models.CharField(max_length=1, choices=Dimension)
    span = models.CharField(max_length=1, choices=Span)
    start = models.DateTimeField()
    # A `providerId`, or an access key's UUID as text.
    group_key = models.TextField()
    # All attempts, US dollars.
    cost = models.DecimalField(max_digits=38, decimal_places=DOLLAR_PLACES)
    # Final attempts, and those of them that ended in an error.
    requests = models.BigIntegerField()
    errors = models.BigIntegerField()
    # Tokens of all attempts.
    input_tokens = models.BigIntegerField(default=0, db_default=0)
    output_tokens = models.BigIntegerField(default=0, db_default=0)

    def __str__(self) -> str:
        return f"{self.group_key} at {self.start}"


class LimitRound(models.Model):
    """What one round of ingest added to counts of limits, until Redis has taken it.

    Written in the round's transaction, so that the IDs rise in the order of the rounds.
    """

    id = models.BigAutoField(primary_key=True)
    # Of each count and worker: the count's name, the worker's name in it, the life of the count that the worker knew,
    # what was used, and what the worker had counted.
    added = models.JSONField()

    def __str__(self) -> str:
        return str(self.id)


class LedgerEntry(models.Model):
    """One movement of an account's credits. Triggers of migration 0001 refuse to change or delete it.

    A lot is what is left of a grant: the sum of the grant and of the entries that name it as their `lot`. The entries
    without a lot, grants aside, add up to the debt.
    """

    class Kind(models.TextChoices):
        # Credits come in.
        GRANT = "grant"
        # Usage takes credits. The entry has no lot where no credits were left.
        CHARGE = "charge"
        # The rest of a grant when it expires.
        EXPIRY = "expiry"
        # A grant pays an earlier debt by two entries that add up to zero: one takes from the lot, one lowers the debt.
        SETTLEMENT = "settlement"
        # The money of a purchase was given back: what is left of it goes. What was spent of it is charged again.
        REFUND = "refund"

    class Category(models.TextChoices):
        PURCHASE = "purchase"
        PROMOTIONAL = "promotional"

    id = models.UUIDField(primary_key=True, default=ids.new_id, editable=False)
    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="ledger_entries")
    kind = models.CharField(max_length=10, choices=Kind)
    # Cents; negative where credits go out.
    amount = models.DecimalField(max_digits=30, decimal_places=CENT_PLACES)
    # The grant whose credits move. None for a grant itself, and for an entry that changes the debt.
    lot = models.ForeignKey("self", null=True, on_delete=models.PROTECT, related_name="movements")
    # Of grants only.
    category = models.CharField(max_length=11, choices=Category, null=True)
    expires_at = models.DateTimeField(null=True)
    # Why a grant was made, for example `stripe:` and a checkout session's ID. A reference can be granted once.
    reference = models.CharField(max_length=255, null=True)
    # The payment provider's ID of the payment that a purchase was paid by, and that a refund gives back.
    payment = models.CharField(max_length=255, null=True)
    created_at = models.DateTimeField(default=timezone.now, db_default=Now(), editable=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["reference"], name="one_grant_per_reference"),
            models.CheckConstraint(
                condition=(
                    models.Q(kind="grant", amount__gt=0, category__isnull=False, lot=None)
                    | models.Q(kind__in=["charge", "expiry", "refund"], amount__lt=0, category=None)
                    | models.Q(kind="settlement", category=None)
                ),
                name="entries_move_the_way_of_their_kind",
            ),
        ]
        indexes = [
            # GET /credits/transactions: the account's grants, newest first.
            models.Index(
                "account", models.F("id").desc(), condition=models.Q(kind="grant"), name="grants_newest_first"
            ),
            # A notice of a refund names the payment.
            models.Index("payment", condition=models.Q(payment__isnull=False), name="entries_of_a_payment"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.amount}"

    @property
    def text_id(self) -> str:
        """Its UUID. No route returns a single entry, so it has no prefix."""
        return str(self.id)

    @property
    def audit_name(self) -> str:
        """The name that the audit shows; may be empty."""
        return self.reference or ""

    def audit_state(self) -> dict[str, Any]:
        """The fields of a grant or a refund that the audit may show. A grant is a whole number of cents."""
        return {
            "cents": int(self.amount),
            "category": self.category and str(self.category),
            "expiresAt": self.expires_at,
            "reference": self.reference,
        }


class Balance(models.Model):
    """The sum of an account's entries. A movement of credits locks this row first."""

    account = models.OneToOneField(Account, on_delete=models.PROTECT, primary_key=True, related_name="balance")
    # Cents; below zero is debt.
    amount = models.DecimalField(max_digits=30, decimal_places=CENT_PLACES, default=Decimal(0))
    # What was charged when no credits were left, and is not paid yet. Never negative.
    debt = models.DecimalField(max_digits=30, decimal_places=CENT_PLACES, default=Decimal(0))

    class Meta:
        constraints = [models.CheckConstraint(condition=models.Q(debt__gte=0), name="debts_are_not_negative")]

    def __str__(self) -> str:
        return str(self.amount)


class Lot(models.Model):
    """The rest of one grant."""

    grant = models.OneToOneField(LedgerEntry, on_delete=models.PROTECT, primary_key=True, related_name="left")
    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="lots")
    remaining = models.DecimalField(max_digits=30, decimal_places=CENT_PLACES)
    expires_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [models.CheckConstraint(condition=models.Q(remaining__gte=0), name="lots_are_not_overdrawn")]
        indexes = [
            # A charge reads the account's open lots, the soonest to expire first.
            models.Index("account", "expires_at", condition=models.Q(remaining__gt=0), name="open_lots"),
            # The expiry task reads the lots of all accounts that are due.
            models.Index("expires_at", condition=models.Q(remaining__gt=0), name="lots_by_expiry"),
        ]

    def __str__(self) -> str:
        return str(self.remaining)


class Period(models.Model):
    """The charges of one account in one month, in cents. When the month is over, this is its invoice."""

    pk = models.CompositePrimaryKey("account_id", "start")
    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="periods")
    # The month's first moment, UTC.
    start = models.DateTimeField()
    charged = models.DecimalField(max_digits=30, decimal_places=CENT_PLACES, default=Decimal(0))
    # Parts of `charged`: what credits covered within the month, and what grants of later months paid.
    applied = models.DecimalField(max_digits=30, decimal_places=CENT_PLACES, default=Decimal(0))
    paid = models.DecimalField(max_digits=30, decimal_places=CENT_PLACES, default=Decimal(0))

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=models.Q(applied__gte=0, paid__gte=0, charged__gte=models.F("applied") + models.F("paid")),
                name="periods_pay_what_was_charged",
            )
        ]

    def __str__(self) -> str:
        return f"{self.start:%Y-%m}"
