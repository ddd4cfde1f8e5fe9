"""The abstract models of the objects that an account owns: ID, author and dates, free texts, tokens."""

from typing import Any

from django.db import models
from django.utils import timezone

from gateway_core import ids


class OwnedModel(models.Model):
    """The columns that every resource of an account has.

    The ID is a UUIDv7, so "newest first" is descending ID, and a page is one range scan of the index on (account, id)
    whatever the size of the table (rest.pagination). The principals are stored as text, because the API keys and users
    that they name may be deleted.
    """

    # Each resource sets its ID prefix (contract, section 1, IDs) and the path of its list.
    id_prefix: ids.Prefix
    path: str

    id = models.UUIDField(primary_key=True, default=ids.new_id, editable=False)
    account = models.ForeignKey("accounts.Account", on_delete=models.CASCADE, related_name="%(class)s_set")
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    updated_at = models.DateTimeField(default=timezone.now, editable=False)
    created_by = models.CharField(max_length=64, editable=False)
    last_updated_by = models.CharField(max_length=64, editable=False)

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return self.text_id

    @property
    def text_id(self) -> str:
        """The ID as text, as clients see it."""
        return ids.to_text(self.id_prefix, self.id)


class DescribedModel(OwnedModel):
    """An owned resource with name, description and metadata. Each resource decides which of them are required."""

    name = models.CharField(max_length=255, null=True)
    description = models.CharField(max_length=255, null=True)
    metadata = models.CharField(max_length=4096, null=True)

    class Meta:
        abstract = True

    @property
    def audit_name(self) -> str:
        """The name that the audit shows; may be empty."""
        return self.name or ""

    def audit_state(self) -> dict[str, Any]:
        """The fields that the audit may show, by the API's names. A mask of a secret is allowed, the secret is not."""
        return {"name": self.name, "description": self.description, "metadata": self.metadata}


class TokenModel(DescribedModel):
    """A bearer token that we issue. It is shown once and stored as a digest (docs/decisions/0006-tokens.md)."""

    digest = models.CharField(max_length=64, editable=False)
    key_redacted = models.CharField(max_length=32, editable=False)
    last_used = models.DateTimeField(null=True, editable=False)
    expires_at = models.DateTimeField(null=True)
    disabled = models.BooleanField(default=False)
    # Whether `disabled` was written, true or false: only then is it shown.
    disabled_is_set = models.BooleanField(default=False, db_default=False, editable=False)

    class Meta:
        abstract = True

    @property
    def audit_name(self) -> str:
        """The name that the audit shows: the token's name, or its mask."""
        return self.name or self.key_redacted

    def audit_state(self) -> dict[str, Any]:
        """The fields that the audit may show."""
        return {
            **super().audit_state(),
            "keyRedacted": self.key_redacted,
            "expiresAt": self.expires_at,
            "disabled": self.disabled or (False if self.disabled_is_set else None),
        }
