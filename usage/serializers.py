"""The wire form of usage and credits."""

from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any, Final

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from accounts.owned.serializers import TextIdField
from gateway_core import ids
from gateway_core.catalog import BUILT_IN, Catalog
from gateway_core.traces import Completion, RetryAction
from rest import uris
from rest.fields import StrictIntegerField, TimestampField, id_pattern
from rest.serializers import ShownSerializer, StrictSerializer
from usage.checkout import MAX_CENTS
from usage.models import Event, KeySource, LedgerEntry
from usage.traces import RequestTrace

_PLACES: Final = Decimal("0.00001")
_COST: Final = {
    "type": "string",
    "pattern": r"^[0-9]+\.[0-9]{5}$",
    "description": "US dollars at list price, whoever paid the upstream.",
}
_TIMESTAMP: Final = {"type": "string", "format": "date-time"}
_COUNT: Final = {"type": "integer", "minimum": 0}


def cost_text(cost: Decimal) -> str:
    """A cost as the wire shows it: five places."""
    return str(cost.quantize(_PLACES, ROUND_HALF_EVEN))


@extend_schema_field(_COST)
class CostField(serializers.Field[Any, Any, str, Any]):
    """A decimal as text with five places."""

    def to_representation(self, value: Decimal) -> str:
        """The cost as text with five decimal places."""
        return cost_text(value)


class CountField(serializers.IntegerField):
    """A number of things."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"min_value": 0, **options})


class EventIdField(serializers.RegexField):
    """The ID of something that an event names; it may have been deleted since."""

    def __init__(self, prefix: ids.Prefix, **options: Any) -> None:
        super().__init__(id_pattern(prefix), **options)
        self.prefix = prefix

    def to_representation(self, value: Any) -> str:
        """The ID as text."""
        return ids.to_text(self.prefix, value)


@extend_schema_field({"type": "object", "additionalProperties": _COUNT})
class TokensByKindField(serializers.Field[Any, Any, Any, Any]):
    """Counts by kind."""

    def to_representation(self, value: Any) -> Any:
        """As they are kept."""
        return value


class Names:
    """What providers and models are called: an account's own providers, and the catalog.

    Those that are gone keep the name that stands in the event.
    """

    def __init__(self, custom: dict[str, str], catalog: Catalog) -> None:
        self._custom = custom
        self._catalog = catalog

    def of_provider(self, provider: str) -> str:
        """A provider's display name."""
        if provider in self._custom:
            return self._custom[provider]
        return BUILT_IN[provider].display_name if provider in BUILT_IN else provider

    def of_model(self, provider: str, model: str) -> str:
        """A model's display name."""
        found = self._catalog.find(provider, model)
        return (found.name if found else None) or model


class UsageEventSerializer(ShownSerializer):
    """One attempt at an upstream. Needs `names` in its context."""

    id = TextIdField(ids.Prefix.USAGE_EVENT)
    event_time = TimestampField(help_text="When the attempt began.")
    request_id = serializers.CharField(help_text="The `x-request-id` of the answer; its attempts share it.")
    access_key_id = EventIdField(ids.Prefix.ACCESS_KEY, help_text="The access key that the request showed.")
    provider = serializers.CharField()
    provider_display_name = serializers.SerializerMethodField("get_provider_display_name")
    model = serializers.CharField(help_text="As it was sent to the provider.")
    model_display_name = serializers.SerializerMethodField("get_model_display_name")
    attempt_number = serializers.IntegerField(
        source="attempt", min_value=1, help_text="The place among the request's attempts, from 1."
    )
    is_final_attempt = serializers.BooleanField(source="is_final", help_text="Whether its outcome was the caller's.")
    status_code = serializers.IntegerField(
        source="status", min_value=0, max_value=999, help_text="The upstream's; 0 where it gave none."
    )
    timed_out = serializers.BooleanField(help_text="Whether a time limit ended it.")
    is_error = serializers.BooleanField(help_text="Whether it failed.")
    is_streaming = serializers.BooleanField(help_text="Whether a stream was asked for.")
    stop_reason = serializers.CharField(allow_blank=True, help_text="The upstream's word; empty where there is none.")
    input_tokens = CountField(help_text="All that went in, those read from and written to a cache included.")
    output_tokens = CountField(help_text="All that came out, reasoning included.")
    cache_read_tokens = CountField(help_text="Of `inputTokens`, those that the upstream read from its cache.")
    reasoning_tokens = CountField(help_text="Of `outputTokens`, those of reasoning.")
    total_cost = CostField(source="cost")
    key_source = serializers.SerializerMethodField(
        "get_key_source",
        help_text="`ngrok`: managed inference. `user`: an upstream of the account's own, with or without a key.",
    )
    provider_key_id = EventIdField(
        ids.Prefix.PROVIDER_KEY, required=False, help_text="With `user` only, where the provider wants a key."
    )
    provider_key_display_name = serializers.CharField(
        source="mask", required=False, help_text="With `providerKeyId`: the key's mask as it was then."
    )
    latency_ms = CountField(
        required=False,
        help_text="Milliseconds from the beginning of the request to the end of this attempt. "
        "Left out where the worker did not say.",
    )
    first_byte_ms = CountField(
        required=False,
        help_text="Milliseconds from the beginning of this attempt to that of its answer: the first content of a "
        "stream, the head of any other. Left out where none began.",
    )
    kinds = TokensByKindField(
        required=False,
        help_text="What has a price of its own within the numbers above: tokens that a cache keeps for an hour, of "
        "sounds and of pictures; and searches beside them. Left out where there was none.",
    )
    service_tier = serializers.CharField(
        required=False, help_text="The tier that served it, in the upstream's spelling. Left out for the usual one."
    )
    usage_estimated = serializers.BooleanField(
        required=False, help_text="True where a number had to be estimated; else left out."
    )

    def get_provider_display_name(self, event: Event) -> str:
        """The provider's name as it is now."""
        return self._names.of_provider(event.provider)

    def get_model_display_name(self, event: Event) -> str:
        """The model's name in the catalog, or the model itself."""
        return self._names.of_model(event.provider, event.model)

    @extend_schema_field({"type": "string", "enum": ["ngrok", "user"]})
    def get_key_source(self, event: Event) -> str:
        """`ngrok` for managed inference, `user` for an upstream of the account's own, with or without a key."""
        return "ngrok" if event.key_source == KeySource.MANAGED else "user"

    @property
    def _names(self) -> Names:
        names: Names = self.context["names"]
        return names


class TracedAttemptSerializer(ShownSerializer):
    """One attempt of a request, and what followed it."""

    event = UsageEventSerializer()
    served = serializers.BooleanField(help_text="Whether the caller got its answer, or a part of it.")
    completion = serializers.ChoiceField(
        [one.value for one in Completion],
        help_text="How it ended. `stream_failed`: after a part of its answer had gone to the caller. `unknown`: the "
        "caller left before the end, or the worker did not say.",
    )
    retry_action = serializers.ChoiceField(
        [one.value for one in RetryAction],
        required=False,
        help_text="What the gateway did next. `next_backend`: another provider or model. `fail_fast`: it stopped, "
        "though there may have been further attempts. `exhausted`: there was none. Left out where the worker did not "
        "say.",
    )
    upstream_duration_ms = CountField(help_text="Milliseconds from its start to its end.")
    first_byte_ms = CountField(required=False, help_text="As in `event`.")
    credentials_from = serializers.CharField(required=False)


class NotTriedSerializer(ShownSerializer):
    """A candidate, or a key of one, that was passed over."""

    before_attempt = serializers.IntegerField(min_value=1, help_text="The number of the attempt made instead.")
    provider = serializers.CharField(required=False)
    model = serializers.CharField(help_text="The model, or the name in the request where it means none.")
    provider_key_id = serializers.CharField(required=False, help_text="The key that cooled.")
    reason = serializers.CharField(help_text="`cooling`, or the slug of the policy's denial, as `explain` has it.")
    cause = serializers.CharField(
        required=False, help_text="With `cooling`: `key_refused`, `rate_limited` or `failing`."
    )
    since = TimestampField(required=False, help_text="With `cooling`: since when.")


class RequestTraceSerializer(ShownSerializer):
    """How a request went. Needs `request` and `names` in its context."""

    uri = serializers.SerializerMethodField()
    request_id = serializers.CharField(source="last.request_id", help_text="The `x-request-id` of the answer.")
    access_key_id = EventIdField(
        ids.Prefix.ACCESS_KEY, source="last.access_key_id", help_text="The access key that the request showed."
    )
    requested_model = serializers.CharField(source="last.requested_model", help_text="As the caller named it.")
    requested_at = TimestampField(
        source="last.requested_at", required=False, help_text="When the request had been read."
    )
    snapshot_version = serializers.IntegerField(
        required=False, min_value=1, help_text="The version of the account's snapshot that decided."
    )
    access_key_configuration_id = serializers.CharField(
        source="configuration", required=False, help_text="The configuration that decided; it may have changed since."
    )
    attempts = TracedAttemptSerializer(many=True, help_text="The first hundred, in their order.")
    passed_over = NotTriedSerializer(many=True, help_text="What was not tried: the first eight before each attempt.")

    @extend_schema_field({"type": "string", "format": "uri"})
    def get_uri(self, _trace: RequestTrace) -> str:
        """The request's own URI."""
        return uris.own(self.context["request"])


# For the OpenAPI document alone: the view writes the answer by itself.
class OverviewSerializer(ShownSerializer):
    """Sums by UTC day, and by provider or access key."""

    uri = serializers.URLField()
    buckets = serializers.SerializerMethodField()
    totals = serializers.SerializerMethodField()

    @extend_schema_field(
        {
            "type": "array",
            "description": "By day, then by key. Days and keys without usage are not listed.",
            "items": {
                "type": "object",
                "title": "UsageBucket",
                "description": "The sums of one day for one provider or access key.",
                "properties": {
                    "bucketStart": {**_TIMESTAMP, "description": "The UTC day's first moment."},
                    "groupKey": {"type": "string", "description": "A `providerId`, or an access key's ID."},
                    "cost": {**_COST, "description": "US dollars at list price, of all attempts."},
                    "requests": {**_COUNT, "description": "Final attempts."},
                    "errors": {**_COUNT, "description": "Final attempts that failed."},
                },
                "required": ["bucketStart", "groupKey", "cost", "requests", "errors"],
                "additionalProperties": False,
            },
        }
    )
    def get_buckets(self, buckets: Any) -> Any:
        """Return them unchanged."""
        return buckets

    @extend_schema_field(
        {
            "type": "object",
            "title": "UsageTotals",
            "description": "The sums of all buckets.",
            "properties": {
                "cost": {**_COST, "description": "US dollars at list price, of all attempts."},
                "requests": {**_COUNT, "description": "Final attempts."},
                "errors": {**_COUNT, "description": "Final attempts that failed."},
            },
            "required": ["cost", "requests", "errors"],
            "additionalProperties": False,
        }
    )
    def get_totals(self, totals: Any) -> Any:
        """Return them unchanged."""
        return totals


class BalanceSerializer(ShownSerializer):
    """What the account's credits are worth."""

    balance_cents = serializers.IntegerField(
        help_text="Whole cents, never more than there is. Negative: usage that no credits were left for."
    )


class CreditsSerializer(ShownSerializer):
    """Credits that came in."""

    type = serializers.SerializerMethodField(help_text="What kind of transaction this is.")
    amount_cents = serializers.IntegerField(min_value=1, source="amount", help_text="What came in, in cents.")
    category = serializers.ChoiceField(
        choices=LedgerEntry.Category.values, help_text="Whether they were bought or given."
    )
    expires_at = TimestampField(allow_null=True, help_text="When what is left of them is lost; null: never.")
    created_at = TimestampField()

    @extend_schema_field({"type": "string", "const": "credits"})
    def get_type(self, _entry: Any) -> str:
        """What kind of transaction this is."""
        return "credits"


class _MonthSerializer(ShownSerializer):
    """A month of usage. `totalCents` = `appliedCreditsCents` + `amountDueCents`."""

    created_at = TimestampField()
    period_start = TimestampField(help_text="The month's first moment.")
    period_end = TimestampField(help_text="The next month's first moment.")
    total_cents = CountField(help_text="What was charged in the month.")
    applied_credits_cents = CountField(help_text="What credits have paid.")
    amount_due_cents = CountField(help_text="What no credits were left for.")
    amount_paid_cents = CountField(help_text="Of that, what credits of later months have settled.")
    amount_remaining_cents = CountField(help_text="What is still to be paid of `amountDueCents`.")


class UsageInvoiceSerializer(_MonthSerializer):
    """A closed month in which something was charged."""

    type = serializers.SerializerMethodField(help_text="What kind of transaction this is.")
    invoice_url = serializers.SerializerMethodField(
        "get_invoice_url", help_text="Always null: an invoice has no other document."
    )

    @extend_schema_field({"type": "string", "const": "usageInvoice"})
    def get_type(self, _invoice: Any) -> str:
        """What kind of transaction this is."""
        return "usageInvoice"

    # Generators have no class for a type that is only null.
    @extend_schema_field({"type": ["string", "null"]})
    def get_invoice_url(self, _invoice: Any) -> None:
        """Always None: an invoice has no other document."""
        return

    def to_representation(self, instance: Any) -> dict[str, Any]:
        """The month, with the null of `invoiceUrl`."""
        return {**super().to_representation(instance), "invoiceUrl": None}


class UsageInvoicePreviewSerializer(_MonthSerializer):
    """The running month, whose charges may still grow."""

    type = serializers.SerializerMethodField(help_text="What kind of transaction this is.")

    @extend_schema_field({"type": "string", "const": "usageInvoicePreview"})
    def get_type(self, _invoice: Any) -> str:
        """What kind of transaction this is."""
        return "usageInvoicePreview"


class CheckoutSessionForm(StrictSerializer):
    """POST of a checkout session."""

    amount = StrictIntegerField(min_value=1, max_value=MAX_CENTS, help_text="Cents of credits to buy.")


class CheckoutSessionSerializer(ShownSerializer):
    """A payment page that waits for its buyer."""

    session_id = serializers.CharField(help_text="The payment provider's ID of the session.")
    session_url = serializers.URLField(help_text="The page to pay at.")
