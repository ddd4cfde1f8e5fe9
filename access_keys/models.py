"""Access keys: the tokens that apps send to the data plane.

Only the answer that creates a key contains its token; the table stores the digest. A key exists until it is deleted.
"""

from typing import Any

from django.db import models

from account_settings.limits import shown
from accounts.owned.models import TokenModel
from configurations.models import Configuration
from gateway_core import ids
from gateway_core.snapshot import token_document


class AccessKey(TokenModel):
    """One app's key, with a configuration or without one (then everything is allowed)."""

    id_prefix = ids.Prefix.ACCESS_KEY
    path = "access-keys"

    # RESTRICT: a configuration that is still linked cannot be deleted (configurations.services).
    configuration = models.ForeignKey(Configuration, null=True, on_delete=models.RESTRICT, related_name="access_keys")

    # As account_settings.limits stores them. None: those that the account has for its access keys.
    limits = models.JSONField(null=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["digest"], name="one_access_key_per_token")]
        indexes = [
            models.Index("account", models.F("id").desc(), name="access_keys_newest_first"),
            models.Index("account", "name", models.F("id").desc(), name="access_keys_by_name"),
            models.Index("configuration", models.F("id").desc(), name="access_keys_of_configuration"),
        ]

    def audit_state(self) -> dict[str, Any]:
        """The fields that the audit may show."""
        linked = self.configuration_id
        configuration = ids.to_text(ids.Prefix.CONFIGURATION, linked) if linked else None
        limits = None if self.limits is None else shown(self.limits)
        return {**super().audit_state(), "accessKeyConfigurationId": configuration, "limits": limits}

    @property
    def snapshot_document(self) -> str:
        """The name of its document in the snapshot."""
        return token_document(self.digest)
