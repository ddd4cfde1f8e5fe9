"""Access keys: the tokens that apps show to the data plane.

The token exists only in the answer that creates it; the table keeps its digest. A key lives until it is deleted.
"""

from django.db import models

from accounts.models import Token
from configurations.models import Configuration
from gateway_core import ids
from gateway_core.snapshot import token_document


class AccessKey(Token):
    """One app's key, under a configuration or under none (everything allowed)."""

    id_prefix = ids.Prefix.ACCESS_KEY
    path = "access-keys"

    # RESTRICT: deleting a configuration that is still linked is refused (configurations.services).
    configuration = models.ForeignKey(Configuration, null=True, on_delete=models.RESTRICT, related_name="access_keys")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["digest"], name="one_access_key_per_token")]
        indexes = [models.Index("account", models.F("id").desc(), name="access_keys_newest_first")]

    @property
    def snapshot_document(self) -> str:
        """The name of its document in the snapshot."""
        return token_document(self.digest)
