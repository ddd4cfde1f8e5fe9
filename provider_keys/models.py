"""Provider keys: the secrets that upstreams gave to an account.

A value is sealed as soon as it arrives, to a key that only data-plane workers hold, so this process cannot open it
(docs/decisions/0005-sealing.md). A rotation stores a new value under the same ID. The database refuses to delete a key
while a routing rule names it.
"""

from typing import Any

from django.db import models

from accounts.owned.models import DescribedModel
from gateway_core import ids
from gateway_core.snapshot import provider_key_document
from providers.models import Provider


class ProviderKey(DescribedModel):
    """One upstream secret, stored as a sealed blob, a mask and a fingerprint."""

    id_prefix = ids.Prefix.PROVIDER_KEY
    path = "provider-keys"

    # The `providerId` of the wire: a built-in provider's, or the one of `custom_provider`.
    provider = models.CharField(max_length=255)
    # The provider as the client wrote it, which may be a custom provider's `aigp_…` ID; it is shown like this.
    provider_as_written = models.CharField(max_length=255)
    custom_provider = models.ForeignKey(Provider, null=True, on_delete=models.RESTRICT, related_name="provider_keys")
    sealed = models.BinaryField()
    key_redacted = models.CharField(max_length=32)
    # A keyed digest of account, provider key and value. It only shows whether the same value was sent again, and it is
    # never shown.
    fingerprint = models.CharField(max_length=64)
    last_used = models.DateTimeField(null=True)
    # How requests with this value ended (provider_keys.key_health). A rotation resets it. The status is the upstream's,
    # or 0 if it did not answer.
    last_success_at = models.DateTimeField(null=True)
    last_refusal_at = models.DateTimeField(null=True)
    last_refusal_status = models.SmallIntegerField(null=True)

    class Meta:
        indexes = [
            models.Index("account", models.F("id").desc(), name="provider_keys_newest_first"),
            models.Index("account", "name", models.F("id").desc(), name="provider_keys_by_name"),
            # The list filter `provider=`, and the default routing of keys without a configuration.
            models.Index("account", "provider", models.F("id").desc(), name="provider_keys_of_a_provider"),
        ]

    def __repr__(self) -> str:
        return f"<ProviderKey {self.text_id}>"

    def audit_state(self) -> dict[str, Any]:
        """The fields that the audit may show."""
        return {"providerId": self.provider, **super().audit_state(), "keyRedacted": self.key_redacted}

    @property
    def is_refused(self) -> bool:
        """Whether the newest outcome of its value in traffic is a refusal."""
        if self.last_refusal_at is None:
            return False
        return self.last_success_at is None or self.last_success_at < self.last_refusal_at

    @property
    def snapshot_document(self) -> str:
        """The name of its document."""
        return provider_key_document(self.text_id)
