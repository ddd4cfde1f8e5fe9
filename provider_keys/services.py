"""Every write to provider keys.

A value arrives wrapped (provider_keys.values), is sealed before the row is inserted, and is gone with the request.
"""

import uuid
from typing import Any, Final, TypedDict, Unpack

from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from accounts.models import Account
from accounts.principals import Principal
from accounts.services import apply_changes
from audit.actions import Action
from audit.recording import NOTHING, differences, record, record_act
from gateway_core import ids
from gateway_core.sealing import Binding
from provider_keys.models import ProviderKey
from provider_keys.values import PlainValue
from providers.provider_names import KnownProviders, ProviderUnknown
from rest.errors import Conflict
from rest.preconditions import ANY, IfMatch, locked
from rest.violations import is_reference_violation
from snapshots import outbox

_MOST_NAMED: Final = 10
# What traffic told of a value that is no more says nothing of the new one.
_UNTRIED: Final = {"last_success_at": None, "last_refusal_at": None, "last_refusal_status": None}


class ProviderKeyInUse(Conflict):
    """A routing rule uses this provider key; take it out of the configurations first."""

    code = "provider_key_in_use"


class ProviderKeyChanges(TypedDict, total=False):
    """What an update may change. A description or metadata of None is cleared."""

    name: str
    description: str | None
    metadata: str | None


@transaction.atomic
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
        account: whose it becomes.
        by: who writes.
        provider_id: a built-in provider's ID, or a custom one's `providerId` or `aigp_…` ID.
        name: for people.
        value: the secret; sealed here.
        description: for people.
        metadata: the client's own.

    Raises:
        ProviderUnknown: the account can name no such provider.
    """
    providers = KnownProviders.of(account)
    try:
        with transaction.atomic():
            provider_key = _insert(
                account=account,
                by=by,
                providers=providers,
                provider_id=provider_id,
                value=value,
                name=name,
                description=description,
                metadata=metadata,
            )
            # Foreign keys are deferred: without this, a provider deleted meanwhile would only show at the commit.
            connection.check_constraints()
    except IntegrityError as violation:
        if not is_reference_violation(violation, ProviderKey):
            raise
        raise ProviderUnknown(details={"providerId": providers.refusal(provider_id)}) from None
    return provider_key


def add_provider_key(
    *, account: Account, by: Principal, providers: KnownProviders, provider_id: str, name: str, value: PlainValue
) -> ProviderKey:
    """Store an upstream secret as a part of another write, whose service checks the constraints when all is written.

    Raises:
        ProviderUnknown: as `create_provider_key`.
    """
    return _insert(account=account, by=by, providers=providers, provider_id=provider_id, value=value, name=name)


@transaction.atomic
def update_provider_key(
    *, provider_key: ProviderKey, by: Principal, if_match: IfMatch = ANY, **changes: Unpack[ProviderKeyChanges]
) -> ProviderKey:
    """Change what is said about a provider key; no changes leave it as it is, `updated_at` included.

    Raises:
        NotFound, PreconditionFailed: as rest.preconditions.locked.
    """
    provider_key = locked(provider_key, if_match)
    if not changes:
        return provider_key
    before = provider_key.audit_state()
    apply_changes(provider_key, by=by, changes=dict(changes))
    outbox.record(provider_key)
    record(by, Action.PROVIDER_KEY_UPDATED, provider_key, before=before)
    return provider_key


@transaction.atomic
def rotate_provider_key(
    *, provider_key: ProviderKey, by: Principal, name: str, value: PlainValue, if_match: IfMatch = ANY
) -> ProviderKey:
    """Put a new value, and a new name, under the same ID. Whatever names the key goes on with the new value.

    Raises:
        NotFound, PreconditionFailed: as rest.preconditions.locked.
    """
    provider_key = locked(provider_key, if_match)
    before = provider_key.audit_state()
    apply_changes(provider_key, by=by, changes={"name": name, **_at_rest(provider_key, value), **_UNTRIED})
    outbox.record(provider_key)
    # A new value is one even under the same name and mask.
    changes = differences(before, provider_key.audit_state())
    record_act(by, Action.PROVIDER_KEY_ROTATED, provider_key, changes=changes)
    return provider_key


@transaction.atomic
def delete_provider_key(*, provider_key: ProviderKey, by: Principal, if_match: IfMatch = ANY) -> None:
    """Forget a provider key for good.

    Raises:
        ProviderKeyInUse: a routing rule names it; details name up to 10 of the configurations.
        NotFound, PreconditionFailed: as rest.preconditions.locked.
    """
    provider_key = locked(provider_key, if_match)
    identity = provider_key.id
    outbox.record(provider_key)
    record(by, Action.PROVIDER_KEY_DELETED, provider_key, before=provider_key.audit_state(), after=NOTHING)
    try:
        with transaction.atomic():
            provider_key.delete()
            # Django looked for rules before it deleted. One that was committed in between shows here.
            connection.check_constraints()
    except IntegrityError as refusal:
        # The referring model is of a room above; this room knows it by its foreign key alone.
        routed_key = ProviderKey.routed_in.rel.related_model
        if not is_reference_violation(refusal, routed_key):
            raise
        raise ProviderKeyInUse(details=_users_of(identity)) from None


def _insert(
    *,
    account: Account,
    by: Principal,
    providers: KnownProviders,
    provider_id: str,
    value: PlainValue,
    **texts: str | None,
) -> ProviderKey:
    provider = providers.find(provider_id)
    if provider is None:
        raise ProviderUnknown(details={"providerId": providers.refusal(provider_id)})
    now = timezone.now()
    provider_key = ProviderKey(
        account=account,
        provider=provider,
        provider_as_written=provider_id,
        custom_provider_id=providers.custom_id(provider),
        created_at=now,
        updated_at=now,
        created_by=by.id,
        last_updated_by=by.id,
        **texts,
    )
    for column, content in _at_rest(provider_key, value).items():
        setattr(provider_key, column, content)
    provider_key.save(force_insert=True)
    outbox.record(provider_key)
    record(by, Action.PROVIDER_KEY_CREATED, provider_key)
    return provider_key


def _at_rest(provider_key: ProviderKey, value: PlainValue) -> dict[str, Any]:
    """What is kept of a value, by column. Its seal is bound to the account, the provider and the key's own ID."""
    account = ids.to_text(ids.Prefix.ACCOUNT, provider_key.account_id)
    binding = Binding(account=account, provider_id=provider_key.provider, provider_key_id=provider_key.text_id)
    return {
        "sealed": value.seal(binding),
        "key_redacted": value.mask,
        "fingerprint": value.fingerprint(account=account, provider_key=provider_key.text_id),
    }


def _users_of(provider_key_id: uuid.UUID) -> dict[str, str]:
    """The newest configurations whose rules name a provider key, as ID and name."""
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
