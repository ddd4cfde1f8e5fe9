"""Accounts, the users who are their members, and their API keys.

An account is one tenant. Its objects are looked up in it and never without it: another account's ID does not exist
(contract, section 1). What all those objects have in common is in accounts.owned.
"""

import uuid
from typing import Any

from django.contrib.auth.models import AbstractUser
from django.db import models
from django.db.models.functions import Now
from django.utils import timezone

from accounts.owned.models import TokenModel
from gateway_core import ids


class Account(models.Model):
    """One tenant."""

    id = models.UUIDField(primary_key=True, default=ids.new_id, editable=False)
    name = models.CharField(max_length=255)
    created_at = models.DateTimeField(default=timezone.now, db_default=Now(), editable=False)

    def __str__(self) -> str:
        return self.name

    @property
    def text_id(self) -> str:
        """`ac_…`"""
        return ids.to_text(ids.Prefix.ACCOUNT, self.id)

    @property
    def account_id(self) -> uuid.UUID:
        """Whose it is: its own."""
        return self.id

    @property
    def audit_name(self) -> str:
        """What the audit calls it."""
        return self.name

    def audit_state(self) -> dict[str, Any]:
        """What the audit may tell of it."""
        return {"name": self.name}


class User(AbstractUser):
    """A person who signs in to the dashboard."""

    id = models.UUIDField(primary_key=True, default=ids.new_id, editable=False)

    @property
    def text_id(self) -> str:
        """`usr_…`"""
        return ids.to_text(ids.Prefix.USER, self.id)

    @property
    def account_id(self) -> None:
        """Whose it is: no account's. What an account knows of a user is the membership."""
        return

    @property
    def audit_name(self) -> str:
        """What the audit calls the user."""
        return self.username

    def audit_state(self) -> dict[str, Any]:
        """What the audit may tell of it."""
        return {"username": self.username, "email": self.email}


class Membership(models.Model):
    """What a user may do in an account."""

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
        """The user's: within an account a member is told by it."""
        return self.user.text_id

    @property
    def audit_name(self) -> str:
        """What the audit calls the member."""
        return self.user.username

    def audit_state(self) -> dict[str, Any]:
        """What the audit may tell of it."""
        return {"username": self.user.username, "email": self.user.email, "role": self.role}


class Invitation(models.Model):
    """A way into an account for whoever holds its token: once, and only until it expires. Gone when it was used."""

    id = models.UUIDField(primary_key=True, default=ids.new_id, editable=False)
    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="invitations")
    # Whom it is meant for, in the inviter's words; it does not bind the one who comes.
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
        """`inv_…`"""
        return ids.to_text(ids.Prefix.INVITATION, self.id)

    @property
    def audit_name(self) -> str:
        """What the audit calls it."""
        return self.name

    def audit_state(self) -> dict[str, Any]:
        """What the audit may tell of it."""
        return {"name": self.name, "role": self.role, "expiresAt": self.expires_at}


class ApiKey(TokenModel):
    """A token that manages this API. It dies by deletion, by `disabled`, or by `expires_at`."""

    id_prefix = ids.Prefix.API_KEY
    path = "api-keys"

    class Meta:
        constraints = [models.UniqueConstraint(fields=["digest"], name="one_api_key_per_token")]
        # Lists: the account's keys, newest first.
        indexes = [models.Index("account", models.F("id").desc(), name="api_keys_newest_first")]


class IdempotencyRecord(models.Model):
    """The sealed answer to a request that came with an Idempotency-Key, for as long as it may be asked for again.

    The row alone opens nothing: the key that seals `answer` comes from the client's Idempotency-Key, of which only a
    keyed digest is kept (docs/decisions/0021-idempotency.md).
    """

    api_key = models.ForeignKey(ApiKey, on_delete=models.CASCADE, related_name="idempotency_records")
    digest = models.CharField(max_length=64)
    fingerprint = models.CharField(max_length=64)
    answer = models.BinaryField()
    expires_at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["digest"], name="one_answer_per_idempotency_key")]
        # The hourly task that forgets what has expired.
        indexes = [models.Index("expires_at", name="idempotency_records_by_expiry")]

    def __str__(self) -> str:
        return self.digest[:8]
