"""The wire form of the explain routes: the question and its answer (contract, section 8)."""

from typing import Any

from rest_framework import serializers

from configurations.explain import Question
from configurations.serializers import AccessField, RouterField
from gateway_core import ids
from gateway_core.catalog import Surface
from gateway_core.plans import KeySource, Strategy
from rest.fields import (
    IdField,
    StrictBooleanField,
    StrictCharField,
    StrictChoiceField,
    StrictListField,
    TimestampField,
)
from rest.serializers import ShownSerializer, StrictSerializer

_MAX_MODELS = 20
_MAX_NAME = 512


class AssumeForm(StrictSerializer):
    """The assumptions of an explanation."""

    failing = StrictListField(
        child=StrictCharField(max_length=255),
        required=False,
        max_length=100,
        help_text="Provider keys (aigpk_…) and providers whose calls are assumed to fail; the next attempt follows.",
    )


class ExplainForm(StrictSerializer):
    """A request as the data plane would get it. It has `model`, or `models`, or both."""

    model = StrictCharField(max_length=_MAX_NAME, required=False, help_text="The model, as a request names it.")
    models = StrictListField(
        child=StrictCharField(max_length=_MAX_NAME),
        required=False,
        min_length=1,
        max_length=_MAX_MODELS,
        help_text="Models that are tried in order, after `model` or alone.",
    )
    surface = StrictChoiceField(
        [surface.value for surface in Surface],
        required=False,
        help_text="The surface that the request uses; `chat-completions` by default.",
    )
    streaming = StrictBooleanField(
        required=False, help_text="Has no effect: streamed and other requests are routed in the same way."
    )
    assume = AssumeForm(required=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Require `model` or `models`."""
        if not attrs.get("model") and not attrs.get("models"):
            raise serializers.ValidationError({"model": ["Name a model, or several in models."]})
        return attrs


class DraftExplainForm(ExplainForm):
    """A request with a stored configuration, or with an access and a router that are not stored, never with both."""

    configuration_id = IdField(ids.Prefix.CONFIGURATION, required=False, help_text="A stored configuration.")
    access = AccessField(required=False)
    router = RouterField(required=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Refuse a stored configuration together with a draft."""
        attrs = super().validate(attrs)
        if "configuration_id" in attrs and ("access" in attrs or "router" in attrs):
            raise serializers.ValidationError(
                {"configurationId": ["Give a stored configuration, or access and router of a draft, not both."]}
            )
        return attrs


def question_of(values: dict[str, Any]) -> Question:
    """The question of a validated form."""
    first = [values["model"]] if values.get("model") else []
    return Question(
        requested=[*first, *values.get("models", ())],
        surface=Surface(values.get("surface", Surface.CHAT_COMPLETIONS)),
        failing=values.get("assume", {}).get("failing", ()),
    )


class ChangeSerializer(ShownSerializer):
    """The smallest change that would allow a refused candidate."""

    msg = serializers.CharField()
    path = serializers.CharField(required=False)
    add = serializers.CharField(required=False, help_text="The value to add there.")


class ExplainedCandidateSerializer(ShownSerializer):
    """A provider and model that the request could mean."""

    requested = serializers.CharField(help_text="The model, as the request names it.")
    is_allowed = serializers.BooleanField(help_text="Whether the request may go there.")
    provider = serializers.CharField(required=False)
    model = serializers.CharField(required=False)
    allowed_by = serializers.ListField(
        child=serializers.CharField(),
        help_text="The JSON paths of the entries that allow it; empty where the access scope restricts nothing.",
    )
    credentials_from = serializers.CharField(required=False)
    error_code = serializers.CharField(required=False)
    msg = serializers.CharField(required=False)
    change = ChangeSerializer(required=False)


class CoolingAtSerializer(ShownSerializer):
    """A worker that passes the key of an attempt over for its model, unless the attempt is the last one."""

    worker_id = serializers.CharField(help_text="As `GET /data-plane/workers` names it.")
    cause = serializers.CharField(help_text="`key_refused`, `rate_limited` or `failing`.")
    since = TimestampField(help_text="Since when the key cools.")
    until = TimestampField(help_text="Until when at the least.")


class ExplainedAttemptSerializer(ShownSerializer):
    """One call that would be made upstream, if those before it failed."""

    attempt_number = serializers.IntegerField(min_value=1, help_text="The place in the order, from 1.")
    provider = serializers.CharField()
    model = serializers.CharField()
    key_source = serializers.ChoiceField(
        [source.value for source in KeySource],
        help_text="`user`: a provider key of the account. `ngrok`: managed inference. `none`: no credentials.",
    )
    credentials_from = serializers.CharField()
    provider_key_id = serializers.CharField(required=False, help_text="The provider key that the attempt uses.")
    key_redacted = serializers.CharField(required=False)
    removed_params = serializers.ListField(
        child=serializers.CharField(),
        required=False,
        help_text="The parameters that are left out or renamed for this model, where a request has them.",
    )
    key_selection_strategy = serializers.ChoiceField(
        [strategy.value for strategy in Strategy if strategy is not Strategy.ORDERED],
        required=False,
        help_text="Each request brings the keys of this step into an order of its own. Left out for `ordered`.",
    )
    cooling = CoolingAtSerializer(
        many=True,
        required=False,
        help_text="The workers that pass it over now, by their newest reports. Left out where there is none.",
    )
    outcome = serializers.ChoiceField(
        ["answers", "fails", "isNotReached"], help_text="`fails` by assumption; `isNotReached` behind one that answers."
    )


class ExplainedStepSerializer(ShownSerializer):
    """A step that is skipped although its candidate is allowed."""

    provider = serializers.CharField()
    model = serializers.CharField()
    error_code = serializers.CharField()
    msg = serializers.CharField()
    path = serializers.CharField(required=False)


class ExplanationSerializer(ShownSerializer):
    """What the data plane would do, and why."""

    is_allowed = serializers.BooleanField(help_text="Whether an attempt would be made.")
    surface = serializers.ChoiceField(
        [surface.value for surface in Surface], help_text="The surface that the request uses."
    )
    candidates = ExplainedCandidateSerializer(many=True, help_text="What the names may mean, in order.")
    attempts = ExplainedAttemptSerializer(many=True, help_text="The attempts in their order.")
    skipped_steps = ExplainedStepSerializer(many=True, help_text="The steps that give no attempt.")
    error_code = serializers.CharField(required=False)
    msg = serializers.CharField(required=False)
    change = ChangeSerializer(required=False)
