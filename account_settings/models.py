"""The gateway configuration: what holds for every request of an account, whatever access key it comes with.

Every account has one. Its row is made by the first write to it; until then the defaults hold.

Source: docs/decisions/0071-gateway-configuration.md.
"""

from typing import Any, Final

from django.db import models

from accounts.models import Account
from gateway_core import ids
from gateway_core.snapshot import SETTINGS_DOCUMENT, SettingsDocument

_DEFAULTS: Final = SettingsDocument()


class GatewayConfiguration(models.Model):
    """An account's timeouts and caps. Durations are Go duration strings, kept as they were written."""

    account = models.OneToOneField(
        Account, on_delete=models.CASCADE, primary_key=True, related_name="gateway_configuration"
    )
    total_timeout = models.CharField(max_length=64, default=_DEFAULTS.total_timeout)
    per_request_timeout = models.CharField(max_length=64, default=_DEFAULTS.per_request_timeout)
    max_input_tokens = models.BigIntegerField(null=True)
    max_output_tokens = models.BigIntegerField(null=True)
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
        """The account's row, or the defaults where it has none yet."""
        return cls.objects.filter(account=account).first() or cls(account=account)

    @property
    def text_account_id(self) -> str:
        """`ac_…`"""
        return ids.to_text(ids.Prefix.ACCOUNT, self.account_id)

    @property
    def text_id(self) -> str:
        """The account's: each has one."""
        return self.text_account_id

    @property
    def audit_name(self) -> str:
        """It has no name."""
        return ""

    def audit_state(self) -> dict[str, Any]:
        """What the audit may tell of it."""
        return {
            "totalTimeout": self.total_timeout,
            "perRequestTimeout": self.per_request_timeout,
            "maxInputTokens": self.max_input_tokens,
            "maxOutputTokens": self.max_output_tokens,
            "metadata": self.metadata,
        }

    @property
    def snapshot_document(self) -> str:
        """The name of its document."""
        return SETTINGS_DOCUMENT
