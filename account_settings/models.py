"""The gateway configuration: settings for every request of an account, with any access key.

Every account has one. The first write creates its row; until then the defaults apply.

Source: docs/decisions/0071-gateway-configuration.md.
"""

from typing import Any, Final

from django.db import models

from account_settings.limits import shown
from accounts.models import Account
from gateway_core import ids
from gateway_core.snapshot import SETTINGS_DOCUMENT, SettingsDocument

_DEFAULTS: Final = SettingsDocument()


class GatewayConfiguration(models.Model):
    """An account's time-outs and caps. Durations are Go duration strings, stored as the client wrote them."""

    account = models.OneToOneField(
        Account, on_delete=models.CASCADE, primary_key=True, related_name="gateway_configuration"
    )
    total_timeout = models.CharField(max_length=64, default=_DEFAULTS.total_timeout)
    per_request_timeout = models.CharField(max_length=64, default=_DEFAULTS.per_request_timeout)
    stream_timeout = models.CharField(
        max_length=64, default=_DEFAULTS.stream_timeout, db_default=_DEFAULTS.stream_timeout
    )
    max_input_tokens = models.BigIntegerField(null=True)
    max_output_tokens = models.BigIntegerField(null=True)
    # As account_settings.limits stores them: of the account, and of its access keys that have none of their own.
    limits = models.JSONField(null=True)
    access_key_limits = models.JSONField(null=True)
    metadata = models.CharField(max_length=4096, null=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=models.Q(max_input_tokens=None) | models.Q(max_input_tokens__gte=1),
                name="an_input_cap_is_above_zero",
            ),
            models.CheckConstraint(
                condition=models.Q(max_output_tokens=None) | models.Q(max_output_tokens__gte=1),
                name="an_output_cap_is_above_zero",
            ),
        ]

    def __str__(self) -> str:
        return f"of {self.text_account_id}"

    @classmethod
    def of(cls, account: Account) -> "GatewayConfiguration":
        """The account's row, or an unsaved one with the defaults."""
        return cls.objects.filter(account=account).first() or cls(account=account)

    @property
    def text_account_id(self) -> str:
        """The account's ID as text: `ac_…`."""
        return ids.to_text(ids.Prefix.ACCOUNT, self.account_id)

    @property
    def text_id(self) -> str:
        """The account's ID; each account has one gateway configuration."""
        return self.text_account_id

    @property
    def audit_name(self) -> str:
        """An empty text: a gateway configuration has no name."""
        return ""

    def audit_state(self) -> dict[str, Any]:
        """The fields that the audit may show."""
        return {
            "totalTimeout": self.total_timeout,
            "perRequestTimeout": self.per_request_timeout,
            "streamTimeout": self.stream_timeout,
            "maxInputTokens": self.max_input_tokens,
            "maxOutputTokens": self.max_output_tokens,
            "limits": None if self.limits is None else shown(self.limits),
            "accessKeyLimits": None if self.access_key_limits is None else shown(self.access_key_limits),
            "metadata": self.metadata,
        }

    @property
    def snapshot_document(self) -> str:
        """The name of its document."""
        return SETTINGS_DOCUMENT
