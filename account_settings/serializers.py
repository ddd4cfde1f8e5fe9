"""The wire form of the gateway configuration."""

from typing import Any, Final

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.exceptions import ValidationError

from account_settings.limit_counts import Owned, states_of, with_states
from account_settings.limit_forms import LimitSerializer, LimitsField
from account_settings.limits import limits_of
from gateway_core import durations, ids
from rest import uris
from rest.fields import MetadataField, StrictCharField, StrictIntegerField, id_pattern
from rest.serializers import ShownSerializer, StrictSerializer

_PART = r"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:ns|us|µs|μs|ms|s|m|h)"
DURATION_PATTERN: Final = f"^\\+?(?=.*[1-9])(?:{_PART})+$"
_DURATION = {"type": "string", "pattern": DURATION_PATTERN, "maxLength": 64, "example": "1m30s"}


@extend_schema_field(_DURATION)
class DurationField(StrictCharField):
    """A Go duration above zero, stored as the client wrote it."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"required": False, **options})

    def to_internal_value(self, data: Any) -> str:
        """Return the text unchanged if it is a valid duration."""
        text = super().to_internal_value(data)
        try:
            durations.parse(text)
        except durations.InvalidDuration as refusal:
            raise ValidationError(str(refusal), code="invalid") from None
        return text


class GatewayConfigurationForm(StrictSerializer):
    """PATCH of the gateway configuration."""

    total_timeout = DurationField(
        help_text="A Go duration above zero (30s, 2m, 1m30s, 1.5h): the limit for all attempts of a request together, "
        "of a stream until its first content. "
        "Null restores the default, 120s."
    )
    per_request_timeout = DurationField(
        help_text="A Go duration above zero: the limit for one attempt. For a stream it applies until the first byte "
        "and then between chunks. Null restores the default, 60s. The total limit applies as well."
    )
    stream_timeout = DurationField(
        help_text="A Go duration above zero: the limit for a running stream, from its first content to its end. "
        "Null restores the default, 30m."
    )
    max_input_tokens = StrictIntegerField(
        required=False, min_value=1, help_text="A request with more estimated input tokens is refused; null: no cap."
    )
    max_output_tokens = StrictIntegerField(
        required=False, min_value=1, help_text="Lowers the request's own maximum; null: no cap."
    )
    limits = LimitsField(help_text="What the account may use, over all of its access keys; null: no limits.")
    access_key_limits = LimitsField(
        help_text="What each access key may use that has no limits of its own; null: no limits."
    )
    metadata = MetadataField()


class GatewayConfigurationSerializer(ShownSerializer):
    """The gateway configuration of the account."""

    account_id = serializers.RegexField(
        id_pattern(ids.Prefix.ACCOUNT), source="text_account_id", help_text="The account's ID."
    )
    uri = serializers.SerializerMethodField()
    total_timeout = serializers.CharField(
        help_text="The limit for all attempts of a request together, of a stream until its first content."
    )
    per_request_timeout = serializers.CharField(help_text="The limit for one attempt.")
    stream_timeout = serializers.CharField(help_text="The limit for a running stream.")
    max_input_tokens = serializers.IntegerField(
        allow_null=True, help_text="A request with more estimated input tokens is refused; null: no cap."
    )
    max_output_tokens = serializers.IntegerField(
        allow_null=True, help_text="Lowers the request's own maximum; null: no cap."
    )
    limits = LimitSerializer(
        many=True, required=False, help_text="What the account may use. Only where it was written."
    )
    access_key_limits = LimitSerializer(
        many=True, required=False, help_text="What each access key may use that has no limits of its own."
    )
    metadata = serializers.CharField(allow_null=True)

    def to_representation(self, instance: Any) -> dict[str, Any]:
        """As the shape, with what is used of the account's limits."""
        found = super().to_representation(instance)
        if instance.limits:
            limits = [
                Owned(one, instance.text_account_id, ids.made_at(instance.account_id))
                for one in limits_of(instance.limits)
            ]
            found["limits"] = with_states(found["limits"], states_of(limits))
        return found

    @extend_schema_field({"type": "string", "format": "uri"})
    def get_uri(self, _configuration: Any) -> str:
        """The absolute URI of the one gateway configuration that the API key can reach."""
        return uris.absolute(self.context["request"], "gateway-config")
