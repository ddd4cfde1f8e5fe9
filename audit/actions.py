"""Every action that the audit records: `<kind of object>.<what was done to it>`."""

from enum import StrEnum


class Action(StrEnum):
    """The actions. Stored events contain these texts and never change, so the texts must not change either."""

    ACCOUNT_CREATED = "account.created"
    MEMBER_ADDED = "member.added"
    MEMBER_PASSWORD_RESET = "member.password_reset"  # noqa: S105 -- the name of an action
    MEMBER_PASSWORD_CHANGED = "member.password_changed"  # noqa: S105 -- as above
    MEMBER_AUTHENTICATOR_ADDED = "member.authenticator_added"
    MEMBER_AUTHENTICATOR_REMOVED = "member.authenticator_removed"
    MEMBER_RECOVERY_CODES_RENEWED = "member.recovery_codes_renewed"
    MEMBER_CODE_REFUSED = "member.code_refused"
    MEMBER_ROLE_CHANGED = "member.role_changed"
    MEMBER_REMOVED = "member.removed"
    INVITATION_CREATED = "invitation.created"
    INVITATION_REVOKED = "invitation.revoked"
    API_KEY_CREATED = "api_key.created"
    API_KEY_UPDATED = "api_key.updated"
    API_KEY_DELETED = "api_key.deleted"
    ACCESS_KEY_CREATED = "access_key.created"
    ACCESS_KEY_UPDATED = "access_key.updated"
    ACCESS_KEY_DELETED = "access_key.deleted"
    CONFIGURATION_CREATED = "configuration.created"
    CONFIGURATION_UPDATED = "configuration.updated"
    CONFIGURATION_RESTORED = "configuration.restored"
    CONFIGURATION_DELETED = "configuration.deleted"
    PROVIDER_KEY_CREATED = "provider_key.created"
    PROVIDER_KEY_UPDATED = "provider_key.updated"
    PROVIDER_KEY_ROTATED = "provider_key.rotated"
    # The same value, sealed to another sealing key.
    PROVIDER_KEY_RESEALED = "provider_key.resealed"
    PROVIDER_KEY_DELETED = "provider_key.deleted"
    PROVIDER_CREATED = "provider.created"
    PROVIDER_UPDATED = "provider.updated"
    PROVIDER_DELETED = "provider.deleted"
    MANAGED_KEY_SET = "managed_key.set"
    MANAGED_KEY_RESEALED = "managed_key.resealed"
    MANAGED_KEY_REMOVED = "managed_key.removed"
    GATEWAY_CONFIGURATION_UPDATED = "gateway_configuration.updated"
    # The oldest events were deleted, by age.
    AUDIT_FORGOTTEN = "audit.forgotten"
    CREDITS_GRANTED = "credits.granted"
    CREDITS_REFUNDED = "credits.refunded"
    CREDITS_CHECKOUT_STARTED = "credits.checkout_started"

    @property
    def object_kind(self) -> str:
        """The kind of the object, for example `access_key`."""
        return self.partition(".")[0]

    @property
    def verb(self) -> str:
        """The verb of the action, for example `created`."""
        return self.partition(".")[2]
