"""Provider keys: the secrets that upstreams gave to an account.

A value is sealed the moment it arrives, to a key that only data-plane workers hold; this process cannot open it again
(docs/decisions/0005-sealing.md). Rotating puts a new value under the same ID. A key lives until it is deleted, which
the database refuses while a routing rule names it.
"""

from typing import Any

from django.db import models

from accounts.owned.models import DescribedModel
from gateway_core import ids
from gateway_core.snapshot import provider_key_document
from providers.models import Provider


class ProviderKey(DescribedModel):
    """One upstream secret: sealed blob, mask and fingerprint."""

    id_prefix = ids.Prefix.PROVIDER_KEY
    path = "provider-keys"

    # The `providerId` of the wire: a built-in provider's, or that of `custom_provider`.
    provider = models.CharField(max_length=255)
    # The same as the client named it, which may be the custom provider's `aigp_…` ID; shown as it was written.
    provider_as_written = models.CharField(max_length=255)
    custom_provider = models.ForeignKey(Provider, null=True, on_delete=models.RESTRICT, related_name="provider_keys")
    sealed = models.BinaryField()
    key_redacted = models.CharField(max_length=32)
    # Keyed over account, provider key and value: tells "the same value again" and nothing else. Never leaves the row.
    fingerprint = models.CharField(max_length=64)
    last_used = models.DateTimeField(null=True)
    # How the value fares in real traffic (provider_keys.key_health); a rotation resets it. A refusal is an answer after
    # which the worker tries the next attempt: its status, or 0 where the upstream gave none.
    last_success_at = models.DateTimeField(null=True)
    last_refusal_at = models.DateTimeField(null=True)
    last_refusal_status = models.SmallIntegerField(null=True)

    class Meta:
        indexes = [
            models.Index("account", models.F("id").desc(), name="provider_keys_newest_first"),
            # The list filter `provider=`, and the default routing of keys without a configuration.
            models.Index("account", "provider", models.F("id").desc(), name="provider_keys_of_a_provider"),
        ]

    def __repr__(self) -> str:
        return f"<ProviderKey {self.text_id}>"

    def audit_state(self) -> dict[str, Any]:
        """What the audit may tell of it."""
        return {"providerId": self.provider, **super().audit_state(), "keyRedacted": self.key_redacted}

    @property
    def is_refused(self) -> bool:
        """Whether the newest that traffic told of its value is a refusal."""
        if self.last_refusal_at is None:
            return False
        return self.last_success_at is None or self.last_success_at < self.last_refusal_at

    @property
    def snapshot_document(self) -> str:
        """The name of its document."""
        return provider_key_document(self.text_id)
