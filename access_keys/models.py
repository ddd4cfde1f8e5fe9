"""Access keys: the tokens that apps show to the data plane.

The token exists only in the answer that creates it; the table keeps its digest. A key lives until it is deleted.
"""

from typing import Any

from django.db import models

from accounts.owned.models import TokenModel
from configurations.models import Configuration
from gateway_core import ids
from gateway_core.snapshot import token_document


class AccessKey(TokenModel):
    """One app's key, under a configuration or under none (everything allowed)."""

    id_prefix = ids.Prefix.ACCESS_KEY
    path = "access-keys"

    # RESTRICT: deleting a configuration that is still linked is refused (configurations.services).
    configuration = models.ForeignKey(Configuration, null=True, on_delete=models.RESTRICT, related_name="access_keys")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["digest"], name="one_access_key_per_token")]
        indexes = [models.Index("account", models.F("id").desc(), name="access_keys_newest_first")]

    def audit_state(self) -> dict[str, Any]:
        """What the audit may tell of it."""
        linked = self.configuration_id
        configuration = ids.to_text(ids.Prefix.CONFIGURATION, linked) if linked else None
        return {**super().audit_state(), "accessKeyConfigurationId": configuration}

    @property
    def snapshot_document(self) -> str:
        """The name of its document in the snapshot."""
        return token_document(self.digest)
