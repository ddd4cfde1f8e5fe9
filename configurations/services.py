"""Every write to configurations.

A configuration is checked whole before anything of it is written (configurations.scope, configurations.router). What it
names may vanish between the check and the write; then a foreign key refuses the write, and the check, done again, says
what is missing. So a provider key is never deleted under a rule, and a rule never names one that is gone.
"""

import uuid
from typing import Any, Final, TypedDict, Unpack

from django.db import IntegrityError, connection, transaction
from django.db.models import Manager

from accounts.models import Account
from accounts.owned.services import apply_changes, build, set_attributes
from accounts.principals import Principal
from accounts.quota_limits import Quota
from accounts.quotas import Held, held
from audit.actions import Action
from configurations import revisions
from configurations import router as routers
from configurations import scope as scopes
from configurations.faults import Faults
from configurations.models import Configuration, NamedProvider, RoutedKey
from gateway_core import ids
from provider_keys.models import ProviderKey
from provider_keys.services import add_provider_key
from providers.provider_names import KnownProviders
from rest.errors import Conflict, InvalidRequest, NotFound
from rest.preconditions import ANY, IfMatch
from rest.violations import is_reference_violation
from snapshots.writing import published

_MOST_NAMED: Final = 10
Json = Any


class ConfigurationInvalid(InvalidRequest):
    """The access scope or the router breaks a rule; `details` has every fault by JSON path."""

    code = "configuration_invalid"


class ConfigurationUnknown(InvalidRequest):
    """The account has no configuration with this ID."""

    code = "configuration_unknown"


class ConfigurationInUse(Conflict):
    """An access key is linked to this configuration; unlink it first."""

    code = "configuration_in_use"


class ConfigurationChanges(TypedDict, total=False):
    """The fields that an update may change. None clears all but the name."""

    name: str
    description: str | None
    metadata: str | None
    access: Json | None
    router: Json | None


def create_configuration(
    *,
    account: Account,
    by: Principal,
    name: str,
    description: str | None = None,
    metadata: str | None = None,
    access: Json | None = None,
    router: Json | None = None,
) -> Configuration:
    """Create a configuration, and the provider keys that its router contains.

    Args:
        account: the account that will own it.
        by: the principal.
        name: a name for people.
        description: a text for people.
        metadata: the client's own text.
        access: unchecked JSON in the contract's form.
        router: unchecked JSON in the contract's form; its inline keys' values are strings.

    Raises:
        ConfigurationInvalid: access or router breaks a rule. Nothing was written.
        QuotaReached: the account has as many configurations, provider keys or bytes of configurations as it may have.
    """
    configuration = build(Configuration, account=account, by=by, name=name, description=description, metadata=metadata)
    with (
        held(account.id) as quotas,
        published.creating(configuration, by=by, action=Action.CONFIGURATION_CREATED),
    ):
        quotas.take(Quota.CONFIGURATIONS)
        return _write(configuration, by, quotas, {"access": access, "router": router}, is_new=True)


def update_configuration(
    *, configuration: Configuration, by: Principal, if_match: IfMatch = ANY, **changes: Unpack[ConfigurationChanges]
) -> Configuration:
    """Change the given fields; `access` and `router` are replaced as a whole. Without fields nothing changes.

    Raises:
        ConfigurationInvalid: the new access or router breaks a rule. Nothing was written.
        NotFound, PreconditionFailed: as rest.preconditions.locked.
        QuotaReached: the account has as many provider keys or bytes of configurations as it may have.
    """
    with (
        held(configuration.account_id) as quotas,
        published.changing(configuration, by=by, action=Action.CONFIGURATION_UPDATED, if_match=if_match) as row,
    ):
        return _write(row, by, quotas, dict(changes))


def restore_revision(
    *, configuration: Configuration, number: int, by: Principal, if_match: IfMatch = ANY
) -> Configuration:
    """Write the content of an earlier revision again, with all checks of an update. This creates a new revision.

    If the configuration has this content already, nothing changes.

    Raises:
        ConfigurationInvalid: the revision names a deleted object, or breaks a newer rule. Nothing was written.
        NotFound: the revision does not exist; or as rest.preconditions.locked.
        PreconditionFailed: as rest.preconditions.locked.
        QuotaReached: as `update_configuration`.
    """
    with (
        held(configuration.account_id) as quotas,
        published.changing(configuration, by=by, action=Action.CONFIGURATION_RESTORED, if_match=if_match) as row,
    ):
        revision = row.revisions.filter(number=number).first()
        if revision is None:
            raise NotFound
        is_same = revision.content == row.content
        return _write(row, by, quotas, {} if is_same else dict(revision.content))


def delete_configuration(*, configuration: Configuration, by: Principal, if_match: IfMatch = ANY) -> None:
    """Delete a configuration. Its provider keys stay.

    Raises:
        ConfigurationInUse: an access key links to it; details name up to 10 of them.
        NotFound, PreconditionFailed: as rest.preconditions.locked.
    """
    with held(configuration.account_id):
        published.delete_unless_used(
            configuration,
            by=by,
            action=Action.CONFIGURATION_DELETED,
            if_match=if_match,
            # The referring model belongs to a room that imports this one, so it is found by its foreign key.
            users=[Configuration.access_keys.rel.related_model],
            in_use=lambda: ConfigurationInUse(details=_users_of(configuration.id)),
        )


def find_faults(*, account: Account, access: Json | None, router: Json | None) -> dict[str, str]:
    """The faults that a write of `access` and `router` would have, by JSON path. Nothing is written."""
    return _check(account, {"access": access, "router": router}, KnownProviders.of(account)).faults.by_path


class CheckedContent:
    """The objects that a new access and router name, and the faults of both."""

    def __init__(self, providers: KnownProviders) -> None:
        self.providers = providers
        self.faults = Faults()
        # {"access" or "router": the `providerId`s that it names}
        self.named: dict[str, set[str]] = {}
        self.keys: set[uuid.UUID] = set()
        self.inline_keys: list[routers.InlineKey] = []


def _check(account: Account, changes: dict[str, Json | None], providers: KnownProviders) -> CheckedContent:
    checked = CheckedContent(providers)
    access, router = changes.get("access"), changes.get("router")
    if access is not None:
        checked.named["access"] = scopes.check(access, providers=checked.providers, faults=checked.faults)
    if router is not None:
        found = routers.check(
            router,
            providers=checked.providers,
            provider_keys=_providers_of(account, routers.named_keys(router)),
            faults=checked.faults,
        )
        checked.named["router"] = found.providers
        checked.keys, checked.inline_keys = found.keys, found.inline_keys
    return checked


def _write(
    configuration: Configuration, by: Principal, quotas: Held, changes: dict[str, Any], *, is_new: bool = False
) -> Configuration:
    """Check and write the given fields, if any. Returns the row, read with `with_named`."""
    if not changes:
        return Configuration.objects.with_named().get(pk=configuration.pk)
    checked = valid_content(configuration.account, changes)
    try:
        with transaction.atomic():
            _put(configuration, by, quotas, changes, checked, is_new=is_new)
            # Foreign keys are deferred: without this, only the commit would notice an object deleted meanwhile.
            connection.check_constraints()
    except IntegrityError as refusal:
        if not any(is_reference_violation(refusal, model) for model in (RoutedKey, NamedProvider, ProviderKey)):
            raise
        valid_content(configuration.account, changes)
        raise
    written = Configuration.objects.with_named().get(pk=configuration.pk)
    quotas.check_grown(Quota.SNAPSHOT_BYTES)
    revisions.keep(written, by, most=quotas.limit(Quota.REVISIONS_OF_A_CONFIGURATION))
    return written


def valid_content(account: Account, changes: dict[str, Any]) -> CheckedContent:
    """Check a new `access` and `router`, and return the objects that they name. Nothing is written.

    Raises:
        ConfigurationInvalid: they break a rule; `details` has every fault by JSON path.
    """
    checked = _check(account, changes, KnownProviders.of(account))
    if checked.faults.by_path:
        raise ConfigurationInvalid(details=checked.faults.by_path)
    return checked


def _put(
    configuration: Configuration,
    by: Principal,
    quotas: Held,
    changes: dict[str, Any],
    checked: CheckedContent,
    *,
    is_new: bool,
) -> None:
    """Write the row, the new provider keys, and the rows whose foreign keys protect the named objects."""
    changes = dict(changes)
    if changes.get("router") is not None:
        quotas.take(Quota.PROVIDER_KEYS, len(checked.inline_keys), path="router")
        stored = _store_inline_keys(configuration.account, by, quotas, checked)
        changes["router"] = routers.stored_form(
            changes["router"],
            {place: ids.to_text(ids.Prefix.PROVIDER_KEY, identity) for place, identity in stored.items()},
        )
        checked.keys.update(stored.values())
    if is_new:
        set_attributes(configuration, changes)
        configuration.save(force_insert=True)
    else:
        apply_changes(configuration, by=by, changes=changes)
    if "router" in changes:
        _hold(RoutedKey, configuration, "provider_key_id", checked.keys)
    if "router" in changes or "access" in changes:
        # The rows for the unchanged field stay.
        halves = {"access": configuration.access, "router": configuration.router}
        kept = {name: half for name, half in halves.items() if name not in changes}
        named = {**_check(configuration.account, kept, checked.providers).named, **checked.named}
        slugs = set().union(*named.values())
        held = {identity for slug in slugs if (identity := checked.providers.custom_id(slug)) is not None}
        _hold(NamedProvider, configuration, "provider_id", held)


def _store_inline_keys(
    account: Account, by: Principal, quotas: Held, checked: CheckedContent
) -> dict[tuple[int, int, int], uuid.UUID]:
    """Store the new provider keys of a router. Returns {place: `aigpk_…` ID}."""
    return {
        inline.place: add_provider_key(
            account=account,
            by=by,
            quotas=quotas,
            providers=checked.providers,
            provider_id=inline.provider,
            name=inline.name,
            value=inline.value,
        ).id
        for inline in checked.inline_keys
    }


def _hold(
    model: type[RoutedKey | NamedProvider], configuration: Configuration, column: str, wanted: set[uuid.UUID]
) -> None:
    """Make a configuration's rows of `model` refer to exactly these objects."""
    manager: Manager[Any] = model._default_manager
    rows = manager.filter(configuration=configuration)
    held: set[uuid.UUID] = set(rows.values_list(column, flat=True))
    rows.filter(**{f"{column}__in": held - wanted}).delete()
    # In the order of the IDs, so that two writes which name the same keys lock them in the same order.
    manager.bulk_create([model(configuration=configuration, **{column: one}) for one in sorted(wanted - held)])


def _providers_of(account: Account, provider_keys: set[uuid.UUID]) -> dict[uuid.UUID, str]:
    """{provider key's UUID: its provider} of those keys that the account has."""
    found = (
        ProviderKey.objects.filter(account=account, id__in=provider_keys)
        if provider_keys
        else ProviderKey.objects.none()
    )
    return dict(found.values_list("id", "provider"))


def _users_of(configuration_id: uuid.UUID) -> dict[str, str]:
    """The newest access keys that link to a configuration, as {ID: name, or mask if there is no name}."""
    users = (
        Configuration.objects.filter(pk=configuration_id)
        .order_by("-access_keys__id")
        .values_list("access_keys__id", "access_keys__name", "access_keys__key_redacted")
    )
    return {
        ids.to_text(ids.Prefix.ACCESS_KEY, identity): name or mask
        for identity, name, mask in users[:_MOST_NAMED]
        if identity
    }
