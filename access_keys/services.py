"""Every write to access keys. The data plane uses a write as soon as it is published (snapshots)."""

import uuid
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db import transaction

from access_keys.models import AccessKey
from account_settings.limits import Stored, counted_since
from accounts.models import Account
from accounts.owned.services import apply_changes, build, with_disabled_set
from accounts.principals import Principal
from accounts.quota_limits import Quota
from accounts.quotas import held
from audit.actions import Action
from configurations.models import Configuration
from configurations.services import ConfigurationUnknown
from gateway_core import tokens
from gateway_core.redaction import mask
from rest.preconditions import ANY, IfMatch
from snapshots.writing import published


@dataclass(frozen=True)
class IssuedAccessKey:
    """A new access key with its token. The token is not stored and cannot be shown again."""

    access_key: AccessKey
    token: str = field(repr=False)


def create_access_key(
    *,
    account: Account,
    by: Principal,
    configuration_id: uuid.UUID | None = None,
    name: str | None = None,
    description: str | None = None,
    metadata: str | None = None,
    expires_at: datetime | None = None,
    disabled: bool | None = None,
    limits: Stored | None = None,
) -> IssuedAccessKey:
    """Create an access key for an app, with a configuration or without one (then everything is allowed).

    Raises:
        ConfigurationUnknown: the account has no configuration with this ID.
        QuotaReached: the account has as many access keys as it may have.
    """
    token = tokens.generate(tokens.ACCESS_KEY_PREFIX)
    with held(account.id) as quotas:
        quotas.take(Quota.ACCESS_KEYS)
        access_key = build(
            AccessKey,
            account=account,
            by=by,
            configuration=_configuration_of(account, configuration_id),
            name=name,
            description=description,
            metadata=metadata,
            expires_at=expires_at,
            disabled=bool(disabled),
            disabled_is_set=disabled is not None,
            limits=counted_since(limits, None, is_new_owner=True),
            digest=tokens.digest(token),
            key_redacted=mask(token),
        )
        with published.creating(access_key, by=by, action=Action.ACCESS_KEY_CREATED):
            access_key.save(force_insert=True)
    return IssuedAccessKey(access_key=access_key, token=token)


@transaction.atomic
def update_access_key(*, access_key: AccessKey, by: Principal, if_match: IfMatch = ANY, **changes: Any) -> AccessKey:
    """Change the given fields: name, description, metadata, configuration_id, expires_at, disabled,
    limits. None clears one.

    Raises:
        NotFound: it has been deleted meanwhile.
        PreconditionFailed: it has changed since the version that the caller knows.
        ConfigurationUnknown: the account has no configuration with this ID.
    """
    if changes.get("configuration_id"):
        # Before the access key's own lock: every writer that locks both locks the configuration first.
        _configuration_of(access_key.account, changes["configuration_id"])
    with published.changing(access_key, by=by, action=Action.ACCESS_KEY_UPDATED, if_match=if_match) as row:
        if "limits" in changes:
            changes["limits"] = counted_since(changes["limits"], row.limits)
        apply_changes(row, by=by, changes=with_disabled_set(changes))
    return row


def disable_by_operator(*, access_key: AccessKey) -> None:
    """Disable an access key from a management command, without a signed-in principal.

    Raises:
        NotFound: it has been deleted meanwhile.
    """
    with published.changing(access_key, by=None, action=Action.ACCESS_KEY_UPDATED) as row:
        apply_changes(row, by=None, changes={"disabled": True})


def delete_access_key(*, access_key: AccessKey, by: Principal, if_match: IfMatch = ANY) -> None:
    """Delete an access key.

    Raises:
        NotFound: it has been deleted meanwhile.
        PreconditionFailed: it has changed since the version that the caller knows.
    """
    with held(access_key.account_id):
        published.delete(access_key, by=by, action=Action.ACCESS_KEY_DELETED, if_match=if_match)


def _configuration_of(account: Account, configuration_id: uuid.UUID | None) -> Configuration | None:
    """The account's configuration, locked so that it cannot be deleted before the link to it is committed."""
    if configuration_id is None:
        return None
    found = Configuration.objects.select_for_update(no_key=True).filter(account=account, id=configuration_id).first()
    if found is None:
        raise ConfigurationUnknown(details={"accessKeyConfigurationId": ConfigurationUnknown.message()})
    return found
