"""The wire form of limits (contract, section 8)."""

import re
from contextlib import suppress
from datetime import datetime
from typing import Any, Final

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.exceptions import ValidationError

from account_settings.limits import amount_of, limit_of
from gateway_core.catalog import ALIASES
from gateway_core.limits.limit import (
    CALENDAR_PERIODS,
    MOST,
    MOST_LIMITS,
    MOST_NAMES,
    MOST_OVERRIDES,
    MOST_REQUESTS_A_MINUTE,
    Measure,
    Mode,
    Period,
    identity,
)
from gateway_core.limits.windows import TimeZoneUnknown, zone_of
from rest.fields import NAME_LENGTH, Strict, StrictCharField, StrictChoiceField, StrictListField, TimestampField
from rest.serializers import ShownSerializer, StrictSerializer

_PERIODS: Final = [period.value for period in Period if period is not Period.NONE]
_PLACES: Final = 5
_DOLLARS: Final = re.compile(rf"[0-9]{{1,7}}(\.[0-9]{{1,{_PLACES}}})?")
# A provider's own name; not the ID of its row.
_PROVIDER_ID: Final = re.compile(r"(?!aigp_)[a-z0-9](?:[a-z0-9_-]*[a-z0-9])?")
# Names that mean another zone on another machine, or that are not IANA's.
_OF_A_MACHINE: Final = ("localtime", "posixrules", "posix/", "right/")
# What a read adds to a limit; a client may send it back.
_STATE: Final = ("used", "reserved", "remaining", "resetsAt")
_PROVIDERS_TEXT: Final = "IDs of providers: `openai`, or a custom provider's `providerId`."
_MODELS_TEXT: Final = "Names of models, `gpt-4o` or `openai:gpt-4o`, as they are sent upstream; case does not matter."
_KEY_SOURCES_TEXT: Final = "`ngrok`: managed inference. `user`: the account's own provider keys."
_UNTIL_TEXT: Final = "When the limit's own amount holds again."
_REASON_TEXT: Final = "Why; the audit shows it."
_AMOUNT_TEXT: Final = "How much may be used in a window: US dollars as a decimal text for `cost`."
_OVERRIDE_AMOUNT_TEXT: Final = "The amount that holds until then."
_MODE_TEXT: Final = "`enforce` (the default) refuses; `observe` only counts."
_COUNTS_TEXT: Final = "The attempts that are counted; missing: all."
_OVERRIDES_TEXT: Final = "Other amounts until a moment; of several the largest holds."
_TIME_ZONE_TEXT: Final = "The IANA name of the zone in which days, weeks and months begin; UTC."
_WINDOW_TEXT: Final = (
    "When counting begins again; `concurrency` has none. Requests a `minute` are a steady rate with a "
    "burst of the amount; all others are calendar windows."
)
_KEY_SOURCES: Final = ["ngrok", "user"]
_AMOUNT: Final = {
    "oneOf": [
        {"type": "string", "pattern": f"^{_DOLLARS.pattern}$", "description": "US dollars, for `cost`."},
        {"type": "integer", "minimum": 1, "maximum": MOST[Measure.TOKENS], "description": "For any other measure."},
    ],
    "example": "50.00",
}


@extend_schema_field(_AMOUNT)
class AmountField(Strict, serializers.Field[Any, Any, Any, Any]):
    """US dollars as a decimal text, or a whole number. Which one it must be depends on the measure."""

    default_error_messages = {"required": "This field is required.", "null": "This field may not be null."}

    def to_internal_value(self, data: Any) -> Any:
        """The value as it was sent, if it is either."""
        if isinstance(data, bool) or not isinstance(data, str | int):
            raise ValidationError("This must be a decimal text for `cost`, else an integer.")
        return data

    def to_representation(self, value: Any) -> Any:
        """The value as it was written."""
        return value


@extend_schema_field(
    {
        "oneOf": [
            {"type": "string", "pattern": r"^[0-9]+\.[0-9]{5}$", "description": "US dollars, for `cost`."},
            {"type": "integer", "minimum": 0, "description": "For any other measure."},
        ],
        "example": "12.34500",
    }
)
class StateField(AmountField):
    """What is used, reserved or left."""


@extend_schema_field({"type": "string", "minLength": 1, "maxLength": 64, "example": "Europe/Berlin"})
class TimeZoneField(StrictCharField):
    """The IANA name of a time zone. Whether there is such a zone is checked with the limit's other members."""


class CountsForm(StrictSerializer):
    """The attempts that a limit counts. A member that is missing lets every attempt count."""

    providers = StrictListField(
        child=StrictCharField(max_length=NAME_LENGTH),
        required=False,
        min_length=1,
        max_length=MOST_NAMES,
        help_text=_PROVIDERS_TEXT,
    )
    models = StrictListField(
        child=StrictCharField(max_length=NAME_LENGTH),
        required=False,
        min_length=1,
        max_length=MOST_NAMES,
        help_text=_MODELS_TEXT,
    )
    key_sources = StrictListField(
        child=StrictChoiceField(_KEY_SOURCES),
        required=False,
        min_length=1,
        max_length=2,
        help_text=_KEY_SOURCES_TEXT,
    )

    def validate_providers(self, names: list[str]) -> list[str]:
        """Refuse a name that no attempt has, since such a limit would count nothing."""
        faults: Any = {}
        for place, name in enumerate(names):
            if name in ALIASES:
                faults[place] = f"Another name does not count. Write {ALIASES[name]}."
            elif not _PROVIDER_ID.fullmatch(name):
                faults[place] = "This is not a providerId: write it in lower case as GET /providers shows it."
        if faults:
            raise ValidationError(faults)
        return names

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """The stored form."""
        wire = {"providers": "providers", "models": "models", "key_sources": "keySources"}
        return {wire[name]: value for name, value in attrs.items() if value is not None}


class OverrideForm(StrictSerializer):
    """Another amount until a moment."""

    amount = AmountField(help_text=_OVERRIDE_AMOUNT_TEXT)
    until = TimestampField(help_text=_UNTIL_TEXT)
    reason = StrictCharField(max_length=NAME_LENGTH, help_text=_REASON_TEXT)


class LimitForm(StrictSerializer):
    """One limit of an access key or an account."""

    measure = StrictChoiceField([measure.value for measure in Measure], help_text="What is counted.")
    amount = AmountField(help_text=_AMOUNT_TEXT)
    window = StrictChoiceField(
        _PERIODS,
        required=False,
        help_text=_WINDOW_TEXT,
    )
    time_zone = TimeZoneField(required=False, max_length=64, help_text=_TIME_ZONE_TEXT)
    mode = StrictChoiceField(
        [mode.value for mode in Mode],
        required=False,
        help_text=_MODE_TEXT,
    )
    counts = CountsForm(required=False, help_text=_COUNTS_TEXT)
    overrides = StrictListField(
        child=OverrideForm(),
        required=False,
        max_length=MOST_OVERRIDES,
        help_text=_OVERRIDES_TEXT,
    )

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        """The stored form. What a read has added may be sent back, and is not looked at."""
        if isinstance(data, dict):
            data = {name: value for name, value in data.items() if name not in _STATE}
        return super().to_internal_value(data)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """The stored form, if its members go together."""
        given = {name: value for name, value in attrs.items() if value is not None}
        measure, period = Measure(given["measure"]), Period(given.get("window", ""))
        faults: dict[str, Any] = {}
        if measure is Measure.CONCURRENCY and period is not Period.NONE:
            faults["window"] = "A limit on concurrency has no window."
        elif measure is not Measure.CONCURRENCY and period is Period.NONE:
            faults["window"] = "This field is required."
        if "time_zone" in given:
            if period not in CALENDAR_PERIODS:
                faults["timeZone"] = "Only a day, a week and a month have a time zone."
            elif fault := _fault_of_zone(given["time_zone"]):
                faults["timeZone"] = fault
        most = (
            min(MOST[measure], MOST_REQUESTS_A_MINUTE)
            if period is Period.MINUTE and _is_rate(measure)
            else MOST[measure]
        )
        if fault := _fault_of(measure, given["amount"], most):
            faults["amount"] = fault
        overrides = {
            place: {"amount": fault}
            for place, one in enumerate(given.get("overrides", ()))
            if (fault := _fault_of(measure, one["amount"], most))
        }
        if overrides:
            faults["overrides"] = overrides
        if faults:
            raise ValidationError(faults)
        stored = {"measure": given["measure"], "amount": given["amount"]}
        for name, wire in (("window", "window"), ("time_zone", "timeZone"), ("mode", "mode"), ("counts", "counts")):
            if name in given:
                stored[wire] = given[name]
        if "overrides" in given:
            stored["overrides"] = [
                {"amount": one["amount"], "until": _written(one["until"]), "reason": one["reason"]}
                for one in given["overrides"]
            ]
        return stored


class LimitsField(StrictListField):
    """A list of limits, none of which counts the same as another one."""

    def __init__(self, **options: Any) -> None:
        super().__init__(child=LimitForm(), **{"required": False, "max_length": MOST_LIMITS, **options})

    def to_internal_value(self, data: Any) -> list[dict[str, Any]]:
        """The stored form."""
        found: list[dict[str, Any]] = super().to_internal_value(data)
        seen: set[str] = set()
        faults = {}
        for place, one in enumerate(found):
            name = identity(limit_of(one))
            if name in seen:
                faults[place] = {"measure": ["Another limit counts the same in the same window."]}
            seen.add(name)
        if faults:
            raise ValidationError(faults)  # type: ignore[arg-type]
        return found


class CountsSerializer(ShownSerializer):
    """The attempts that a limit counts."""

    providers = serializers.ListField(child=serializers.CharField(), required=False, help_text=_PROVIDERS_TEXT)
    models = serializers.ListField(child=serializers.CharField(), required=False, help_text=_MODELS_TEXT)
    key_sources = serializers.ListField(
        child=serializers.ChoiceField(_KEY_SOURCES), required=False, help_text=_KEY_SOURCES_TEXT
    )


class OverrideSerializer(ShownSerializer):
    """Another amount until a moment."""

    amount = AmountField(help_text=_OVERRIDE_AMOUNT_TEXT)
    until = TimestampField(help_text=_UNTIL_TEXT)
    reason = serializers.CharField(help_text=_REASON_TEXT)


class LimitSerializer(ShownSerializer):
    """A limit, and what is used of it: true to within 10 seconds, and missing where it is not known."""

    measure = serializers.ChoiceField([measure.value for measure in Measure], help_text="What is counted.")
    amount = AmountField(help_text=_AMOUNT_TEXT)
    window = serializers.ChoiceField(_PERIODS, required=False, help_text=_WINDOW_TEXT)
    time_zone = serializers.CharField(required=False, help_text=_TIME_ZONE_TEXT)
    mode = serializers.ChoiceField([mode.value for mode in Mode], required=False, help_text=_MODE_TEXT)
    counts = CountsSerializer(required=False, help_text=_COUNTS_TEXT)
    overrides = OverrideSerializer(many=True, required=False, help_text=_OVERRIDES_TEXT)
    used = StateField(required=False, help_text="What requests have used in this window.")
    reserved = StateField(required=False, help_text="What requests in flight may still use.")
    remaining = StateField(required=False, help_text="What is left of the amount.")
    resets_at = TimestampField(required=False, help_text="When the window ends.")

    def to_representation(self, instance: dict[str, Any]) -> dict[str, Any]:
        """A stored limit has the members of the wire already."""
        return {name: value for name, value in instance.items() if name != "since"}


def _is_rate(measure: Measure) -> bool:
    return measure is Measure.REQUESTS


def _fault_of_zone(name: str) -> str | None:
    if not name.startswith(_OF_A_MACHINE):
        with suppress(TimeZoneUnknown):
            zone_of(name)
            return None
    return "There is no time zone of this name."


def _fault_of(measure: Measure, amount: Any, most: int) -> str | None:
    """What is wrong with an amount; None where nothing is."""
    if measure is not Measure.COST:
        if not isinstance(amount, int):
            return "This must be an integer."
        return None if 1 <= amount <= most else f"This must be from 1 to {most}."
    if not isinstance(amount, str):
        return 'This must be a decimal text: "50.00".'
    if not _DOLLARS.fullmatch(amount):
        return f'This must be a decimal text with at most {_PLACES} places: "50.00".'
    return None if 0 < amount_of(measure, amount) <= most else "This must be above 0 and at most 1000000."


def _written(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")
