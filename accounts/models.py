"""Accounts, the users who are their members, and their API keys.

An account is one tenant. Every query for an object is limited to an account, so another account's ID is answered with
404 (contract, section 1). The shared parts of all those objects are in accounts.owned.
"""

import uuid
from typing import Any

from django.contrib.auth.models import AbstractUser
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models.functions import Now
from django.utils import timezone

from accounts.owned.models import TokenModel
from gateway_core import ids


class Account(models.Model):
    """One tenant of this gateway."""

    id = models.UUIDField(primary_key=True, default=ids.new_id, editable=False)
    name = models.CharField(max_length=255)
    created_at = models.DateTimeField(default=timezone.now, db_default=Now(), editable=False)

    def __str__(self) -> str:
        return self.name

    @property
    def text_id(self) -> str:
        """The ID as text: `ac_…`."""
        return ids.to_text(ids.Prefix.ACCOUNT, self.id)

    @property
    def account_id(self) -> uuid.UUID:
        """Its own ID; the audit needs the owner of every object."""
        return self.id

    @property
    def audit_name(self) -> str:
        """The name that the audit shows."""
        return self.name

    def audit_state(self) -> dict[str, Any]:
        """The fields that the audit may show."""
        return {"name": self.name}


class AccountQuotas(models.Model):
    """How many objects an account has, and the limits that an operator set for it (accounts.quotas).

    The database writes the counts: the triggers of migration 0005 and of its sisters. Code writes only `limits`.
    """

    account = models.OneToOneField(Account, on_delete=models.CASCADE, primary_key=True, related_name="quotas")
    access_keys = models.BigIntegerField(default=0, db_default=0)
    provider_keys = models.BigIntegerField(default=0, db_default=0)
    providers = models.BigIntegerField(default=0, db_default=0)
    provider_models = models.BigIntegerField(default=0, db_default=0)
    configurations = models.BigIntegerField(default=0, db_default=0)
    api_keys = models.BigIntegerField(default=0, db_default=0)
    members = models.BigIntegerField(default=0, db_default=0)
    invitations = models.BigIntegerField(default=0, db_default=0)
    # What configurations and custom providers hold of `access`, `router` and surfaces, as text.
    snapshot_bytes = models.BigIntegerField(default=0, db_default=0)
    # {a quota's name: the limit for this account}
    limits = models.JSONField(default=dict, db_default={})

    def __str__(self) -> str:
        return str(self.account_id)


class User(AbstractUser):
    """A person who signs in to the dashboard."""

    id = models.UUIDField(primary_key=True, default=ids.new_id, editable=False)

    @property
    def text_id(self) -> str:
        """The ID as text: `usr_…`."""
        return ids.to_text(ids.Prefix.USER, self.id)

    @property
    def account_id(self) -> None:
        """None: no account owns a user. An account owns the membership."""
        return

    @property
    def audit_name(self) -> str:
        """The name that the audit shows."""
        return self.username

    def audit_state(self) -> dict[str, Any]:
        """The fields that the audit may show."""
        return {"username": self.username, "email": self.email}


class Membership(models.Model):
    """A user's role in an account."""

    class Role(models.TextChoices):
        OWNER = "owner"
        EDITOR = "editor"
        VIEWER = "viewer"

    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="memberships")
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=16, choices=Role, default=Role.VIEWER)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["account", "user"], name="one_membership_per_user_and_account")]

    def __str__(self) -> str:
        return f"{self.user} in {self.account}: {self.role}"

    @property
    def text_id(self) -> str:
        """The user's ID; it identifies the member within an account."""
        return self.user.text_id

    @property
    def audit_name(self) -> str:
        """The name that the audit shows."""
        return self.user.username

    def audit_state(self) -> dict[str, Any]:
        """The fields that the audit may show."""
        return {"username": self.user.username, "email": self.user.email, "role": self.role}


class Invitation(models.Model):
    """Lets the holder of its token join an account, once and until it expires. It is deleted when it is used."""

    id = models.UUIDField(primary_key=True, default=ids.new_id, editable=False)
    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="invitations")
    # The invited person, in the inviter's words. It is not checked against the user who joins.
    name = models.CharField(max_length=255)
    role = models.CharField(max_length=16, choices=Membership.Role)
    digest = models.CharField(max_length=64, editable=False)
    expires_at = models.DateTimeField()
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    created_by = models.CharField(max_length=64, editable=False)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["digest"], name="one_invitation_per_token")]

    def __str__(self) -> str:
        return self.text_id

    @property
    def text_id(self) -> str:
        """The ID as text: `inv_…`."""
        return ids.to_text(ids.Prefix.INVITATION, self.id)

    @property
    def audit_name(self) -> str:
        """The name that the audit shows."""
        return self.name

    def audit_state(self) -> dict[str, Any]:
        """The fields that the audit may show."""
        return {"name": self.name, "role": self.role, "expiresAt": self.expires_at}


class ApiKey(TokenModel):
    """A token for the management API. It is valid until it is deleted, is disabled, or reaches `expires_at`."""

    id_prefix = ids.Prefix.API_KEY
    path = "api-keys"

    # The API keys that made this one, the first maker first; empty if a person made it (accounts.heirs).
    makers = ArrayField(models.UUIDField(), default=list, db_default=[], editable=False)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["digest"], name="one_api_key_per_token")]
        # Lists: the account's keys, newest first.
        indexes = [
            models.Index("account", models.F("id").desc(), name="api_keys_newest_first"),
            models.Index("account", "name", models.F("id").desc(), name="api_keys_by_name"),
        ]


class IdempotencyRecord(models.Model):
    """The sealed answer to a request with an Idempotency-Key, kept for as long as the request may be repeated.

    The row alone is not enough to decrypt `answer`: its key is derived from the client's Idempotency-Key, and only a
    keyed digest of that is stored (docs/decisions/0021-idempotency.md).
    """

    api_key = models.ForeignKey(ApiKey, on_delete=models.CASCADE, related_name="idempotency_records")
    digest = models.CharField(max_length=64)
    fingerprint = models.CharField(max_length=64)
    answer = models.BinaryField()
    expires_at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["digest"], name="one_answer_per_idempotency_key")]
        # The hourly task that deletes expired records.
        indexes = [models.Index("expires_at", name="idempotency_records_by_expiry")]

    def __str__(self) -> str:
        return self.digest[:8]
