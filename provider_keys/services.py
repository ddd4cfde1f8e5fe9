"""Every write to provider keys.

A value arrives wrapped (provider_keys.values) and is sealed before the row is inserted; only the request holds it.
"""

import uuid
from typing import Any, Final, TypedDict, Unpack

from django.db import IntegrityError, connection

from accounts.models import Account
from accounts.owned.services import apply_changes, build, set_attributes
from accounts.principals import Principal
from accounts.quota_limits import Quota
from accounts.quotas import Held, QuotaReached, held
from audit.actions import Action
from gateway_core import ids
from gateway_core.sealing import Binding
from provider_keys.models import ProviderKey
from provider_keys.values import PlainValue
from providers.provider_names import KnownProviders, ProviderUnknown
from rest.errors import Conflict
from rest.preconditions import ANY, IfMatch
from rest.violations import is_reference_violation
from snapshots.writing import published

_MOST_NAMED: Final = 10
# A new value resets the health: it describes the old value.
_UNTRIED: Final = {"last_success_at": None, "last_refusal_at": None, "last_refusal_status": None}


class ProviderKeyInUse(Conflict):
    """A routing rule uses this provider key; remove it from the configurations first."""

    code = "provider_key_in_use"


class ProviderKeyChanges(TypedDict, total=False):
    """The fields that an update may change. None clears description or metadata."""

    name: str
    description: str | None
    metadata: str | None


def create_provider_key(
    *,
    account: Account,
    by: Principal,
    provider_id: str,
    name: str,
    value: PlainValue,
    description: str | None = None,
    metadata: str | None = None,
) -> ProviderKey:
    """Store an upstream secret of the account.

    Args:
        account: the account that will own it.
        by: the principal.
        provider_id: a built-in provider's ID, or a custom one's `providerId` or `aigp_…` ID.
        name: a name for people.
        value: the secret, which this function seals.
        description: a text for people.
        metadata: the client's own text.

    Raises:
        ProviderUnknown: neither the catalog nor the account has this provider.
        QuotaReached: the account has as many provider keys as it may have, in all or of this provider.
    """
    providers = KnownProviders.of(account)
    try:
        with held(account.id) as quotas:
            provider_key = _insert(
                account=account,
                by=by,
                quotas=quotas,
                providers=providers,
                provider_id=provider_id,
                value=value,
                name=name,
                description=description,
                metadata=metadata,
            )
            # Foreign keys are deferred: without this, only the commit would notice a provider deleted meanwhile.
            connection.check_constraints()
    except IntegrityError as violation:
        if not is_reference_violation(violation, ProviderKey):
            raise
        raise ProviderUnknown(details={"providerId": providers.refusal(provider_id)}) from None
    return provider_key


def add_provider_key(
    *,
    account: Account,
    by: Principal,
    quotas: Held,
    providers: KnownProviders,
    provider_id: str,
    name: str,
    value: PlainValue,
) -> ProviderKey:
    """Store an upstream secret as a part of another write. The caller checks the constraints after all writes.

    Raises:
        ProviderUnknown, QuotaReached: as `create_provider_key`.
    """
    return _insert(
        account=account, by=by, quotas=quotas, providers=providers, provider_id=provider_id, value=value, name=name
    )


def update_provider_key(
    *, provider_key: ProviderKey, by: Principal, if_match: IfMatch = ANY, **changes: Unpack[ProviderKeyChanges]
) -> ProviderKey:
    """Change the given fields of a provider key. Without fields nothing changes, not even `updated_at`.

    Raises:
        NotFound, PreconditionFailed: as rest.preconditions.locked.
    """
    with published.changing(provider_key, by=by, action=Action.PROVIDER_KEY_UPDATED, if_match=if_match) as row:
        apply_changes(row, by=by, changes=changes)
    return row


def rotate_provider_key(
    *, provider_key: ProviderKey, by: Principal, name: str, value: PlainValue, if_match: IfMatch = ANY
) -> ProviderKey:
    """Store a new value and a new name under the same ID. Configurations that name the key use the new value.

    Raises:
        NotFound, PreconditionFailed: as rest.preconditions.locked.
    """
    # A new value may have the same name and the same mask as the old one.
    with published.changing(
        provider_key, by=by, action=Action.PROVIDER_KEY_ROTATED, if_match=if_match, is_always_event=True
    ) as row:
        apply_changes(row, by=by, changes={"name": name, **_at_rest(row, value), **_UNTRIED})
    return row


def delete_provider_key(*, provider_key: ProviderKey, by: Principal, if_match: IfMatch = ANY) -> None:
    """Delete a provider key.

    Raises:
        ProviderKeyInUse: a routing rule names it; details name up to 10 of the configurations.
        NotFound, PreconditionFailed: as rest.preconditions.locked.
    """
    with held(provider_key.account_id):
        published.delete_unless_used(
            provider_key,
            by=by,
            action=Action.PROVIDER_KEY_DELETED,
            if_match=if_match,
            # The referring model belongs to a room that imports this one, so it is found by its foreign key.
            users=[ProviderKey.routed_in.rel.related_model],
            in_use=lambda: ProviderKeyInUse(details=_users_of(provider_key.id)),
        )


def _insert(
    *,
    account: Account,
    by: Principal,
    quotas: Held,
    providers: KnownProviders,
    provider_id: str,
    value: PlainValue,
    **texts: str | None,
) -> ProviderKey:
    provider = providers.find(provider_id)
    if provider is None:
        raise ProviderUnknown(details={"providerId": providers.refusal(provider_id)})
    provider_key = build(
        ProviderKey,
        account=account,
        by=by,
        provider=provider,
        provider_as_written=provider_id,
        custom_provider_id=providers.custom_id(provider),
        **texts,
    )
    quotas.take(Quota.PROVIDER_KEYS)
    most = quotas.limit(Quota.PROVIDER_KEYS_OF_A_PROVIDER)
    if ProviderKey.objects.filter(account=account, provider=provider)[:most].count() >= most:
        raise QuotaReached.of(Quota.PROVIDER_KEYS_OF_A_PROVIDER, most)
    set_attributes(provider_key, _at_rest(provider_key, value))
    with published.creating(provider_key, by=by, action=Action.PROVIDER_KEY_CREATED):
        provider_key.save(force_insert=True)
    return provider_key


def _at_rest(provider_key: ProviderKey, value: PlainValue) -> dict[str, Any]:
    """The stored form of a value, by column. Its seal is bound to the account, the provider and the key's own ID."""
    account = ids.to_text(ids.Prefix.ACCOUNT, provider_key.account_id)
    binding = Binding(account=account, provider_id=provider_key.provider, provider_key_id=provider_key.text_id)
    return {
        "sealed": value.seal(binding),
        "key_redacted": value.mask,
        "fingerprint": value.fingerprint(account=account, provider_key=provider_key.text_id),
    }


def _users_of(provider_key_id: uuid.UUID) -> dict[str, str]:
    """The newest configurations whose rules name a provider key, as {ID: name}."""
    users = (
        ProviderKey.objects.filter(pk=provider_key_id)
        .order_by("-routed_in__configuration_id")
        .values_list("routed_in__configuration_id", "routed_in__configuration__name")
    )
    return {
        ids.to_text(ids.Prefix.CONFIGURATION, identity): name or ""
        for identity, name in users[:_MOST_NAMED]
        if identity
    }
