"""The wire form of API keys, and the forms of accounts and their members."""

from typing import Any

from django.contrib.auth.validators import UnicodeUsernameValidator
from rest_framework import serializers

from accounts.models import Membership
from accounts.owned.serializers import TextIdField, TokenForm, TokenSerializer
from accounts.quota_limits import Quota
from accounts.services import IssuedApiKey
from gateway_core import ids
from rest.fields import NameField, StrictCharField, StrictChoiceField
from rest.serializers import ShownSerializer, StrictSerializer


class ApiKeyForm(TokenForm):
    """POST and PATCH of an API key."""


class ApiKeySerializer(TokenSerializer):
    """An API key."""

    id = TextIdField(ids.Prefix.API_KEY)


class IssuedApiKeySerializer(ApiKeySerializer):
    """A new API key with its token; only the answer that creates it contains the token."""

    token = serializers.CharField()

    def to_representation(self, instance: IssuedApiKey) -> dict[str, Any]:
        """The key with its token."""
        return {**ApiKeySerializer(instance.api_key, context=self.context).data, "token": instance.token}


class AccountForm(StrictSerializer):
    """A new account. This form and the next ones are the dashboard's: the management API has no members."""

    name = NameField()


class InvitationForm(StrictSerializer):
    """An invitation to an account."""

    name = NameField()
    role = StrictChoiceField(Membership.Role.values)


class MemberForm(StrictSerializer):
    """A member's new role."""

    role = StrictChoiceField(Membership.Role.values)


class JoinForm(StrictSerializer):
    """The code that a user enters to join an account."""

    code = StrictCharField(max_length=255)


class NewUserForm(JoinForm):
    """The code and the fields that a new user enters to join an account."""

    username = StrictCharField(max_length=150, validators=[UnicodeUsernameValidator()])
    email = serializers.EmailField(required=False, allow_blank=True, max_length=254)
    password = StrictCharField(max_length=255)


class QuotaSerializer(ShownSerializer):
    """One quota of the account."""

    name = serializers.ChoiceField(choices=[str(quota) for quota in Quota], help_text="What the quota counts.")
    limit = serializers.IntegerField(min_value=0, help_text="How many the account may have.")
    used = serializers.IntegerField(
        min_value=0, allow_null=True, help_text="How many it has; null where the quota holds for each object by itself."
    )
    remaining = serializers.IntegerField(
        min_value=0, allow_null=True, help_text="How many more it may have; null as `used`."
    )


class QuotasSerializer(ShownSerializer):
    """Every quota of the account."""

    quotas = QuotaSerializer(many=True, help_text="All of them, in a fixed order.")
