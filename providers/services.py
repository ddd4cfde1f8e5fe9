"""Every write to custom providers.

The caller has checked the `baseUrl` before (providers.base_url_check): the resolver is too slow for a transaction.
"""

import uuid
from collections.abc import Sequence
from typing import Any, Final, TypedDict, Unpack

from django.db import IntegrityError

from accounts.models import Account
from accounts.owned.services import apply_changes, build
from accounts.principals import Principal
from accounts.quota_limits import Quota
from accounts.quotas import held
from audit.actions import Action
from gateway_core import ids
from gateway_core.catalog import ALIASES, BUILT_IN, FINE_TUNED, model_key
from providers.base_url_check import VettedUrl
from providers.models import Provider, ProviderModel
from rest.errors import Conflict, InvalidRequest
from rest.preconditions import ANY, IfMatch
from rest.violations import is_uniqueness_violation
from snapshots.writing import published

_MOST_NAMED: Final = 10
# `aigp_…` names a provider by its ID wherever a provider is named.
_ID_LEAD: Final = f"{ids.Prefix.PROVIDER}_"


_RESERVED: Final = frozenset((*BUILT_IN, *ALIASES, FINE_TUNED))


class ProviderIdReserved(InvalidRequest):
    """This providerId belongs to a built-in provider or is another name of one, or looks like an ID."""

    code = "provider_id_reserved"


class ProviderExists(Conflict):
    """The account already has a custom provider with this providerId."""

    code = "provider_exists"


class ProviderInUse(Conflict):
    """Provider keys or configurations name this provider; delete the keys, and remove it from the configurations."""

    code = "provider_in_use"


class ModelListedTwice(InvalidRequest):
    """A model is listed twice; names are compared without case and without the provider's own prefix."""

    code = "model_listed_twice"


class ProviderChanges(TypedDict, total=False):
    """The fields that an update may change. None clears a field that is not required."""

    name: str
    base_url: VettedUrl
    metadata: str | None
    supported_api_surfaces: list[dict[str, Any]] | None
    models: Sequence[str] | None
    auth: dict[str, str] | None
    headers: dict[str, str] | None
    paths: dict[str, str] | None
    dialect: str | None


def create_provider(
    *,
    account: Account,
    by: Principal,
    provider_id: str,
    name: str,
    base_url: VettedUrl,
    metadata: str | None = None,
    supported_api_surfaces: list[dict[str, Any]] | None = None,
    models: Sequence[str] | None = None,
    auth: dict[str, str] | None = None,
    headers: dict[str, str] | None = None,
    paths: dict[str, str] | None = None,
    dialect: str | None = None,
) -> Provider:
    """Create a custom provider of the account.

    Args:
        account: the account that will own it.
        by: the principal.
        provider_id: a slug, the `providerId`.
        name: a name for people.
        base_url: its checked base URL.
        metadata: the client's own text.
        supported_api_surfaces: `[{format, surface?, supportedParams?: [{name}]}]`, as the wire has it.
        models: the names of the models that it serves.
        auth, headers, paths, dialect: how requests to it deviate (gateway_core.upstream_requests), as the wire has it.

    Raises:
        ProviderIdReserved: a built-in provider has this ID, or this other name.
        ProviderExists: a custom one of the account has it.
        ModelListedTwice: details name the second place.
        QuotaReached: the account has as many providers, models or bytes of them as it may have.
    """
    if provider_id in _RESERVED or provider_id.startswith(_ID_LEAD):
        raise ProviderIdReserved(details={"providerId": ProviderIdReserved.message()})
    provider = build(
        Provider,
        account=account,
        by=by,
        slug=provider_id,
        name=name,
        base_url=base_url.written,
        metadata=metadata,
        supported_api_surfaces=supported_api_surfaces or [],
        auth=auth,
        headers=headers,
        paths=paths,
        dialect=dialect,
    )
    try:
        with (
            held(account.id) as quotas,
            published.creating(provider, by=by, action=Action.PROVIDER_CREATED),
        ):
            quotas.take(Quota.PROVIDERS)
            provider.save(force_insert=True)
            _replace_models(provider, models or ())
            quotas.check_grown(Quota.MODELS, path="models")
            quotas.check_grown(Quota.SNAPSHOT_BYTES)
    except IntegrityError as refusal:
        if not is_uniqueness_violation(refusal, "one_provider_per_slug"):
            raise
        raise ProviderExists(details={"providerId": ProviderExists.message()}) from None
    return provider


def update_provider(
    *, provider: Provider, by: Principal, if_match: IfMatch = ANY, **changes: Unpack[ProviderChanges]
) -> Provider:
    """Change the given fields, if any. `models` replaces all models; a model that stays keeps its ID.

    Raises:
        ModelListedTwice: details name the second place.
        NotFound, PreconditionFailed: as rest.preconditions.locked.
        QuotaReached: as `create_provider`.
    """
    with (
        held(provider.account_id) as quotas,
        published.changing(provider, by=by, action=Action.PROVIDER_UPDATED, if_match=if_match) as row,
    ):
        columns: dict[str, Any] = {name: value for name, value in changes.items() if name != "models"}
        if "base_url" in changes:
            columns["base_url"] = changes["base_url"].written
        # A change of the models alone changes the provider's `updated_at` and ETag too.
        is_changed = "models" in changes and _replace_models(row, changes["models"] or ())
        apply_changes(row, by=by, changes=columns, is_changed=is_changed)
        quotas.check_grown(Quota.MODELS, path="models")
        quotas.check_grown(Quota.SNAPSHOT_BYTES)
    return row


def delete_provider(*, provider: Provider, by: Principal, if_match: IfMatch = ANY) -> None:
    """Delete a provider.

    Raises:
        ProviderInUse: a provider key or a configuration names it; details name up to 10 of them.
        NotFound, PreconditionFailed: as rest.preconditions.locked.
    """
    with held(provider.account_id):
        published.delete_unless_used(
            provider,
            by=by,
            action=Action.PROVIDER_DELETED,
            if_match=if_match,
            # Both are of rooms above; this room knows them by their foreign keys alone.
            users=[Provider.provider_keys.rel.related_model, Provider.named_in.rel.related_model],
            in_use=lambda: ProviderInUse(details=_users_of(provider.id)),
        )


def _replace_models(provider: Provider, names: Sequence[str]) -> bool:
    """Make the provider's models these. Returns whether they were others."""
    wanted: dict[str, str] = {}
    twice: dict[str, str] = {}
    for place, name in enumerate(names):
        key = model_key(provider.slug, name)
        if key in wanted:
            twice[f"models[{place}].modelId"] = ModelListedTwice.message()
        wanted.setdefault(key, name)
    if twice:
        raise ModelListedTwice(details=twice)
    present = {model_key(provider.slug, model.model_id): model for model in provider.models.all()}
    gone = [model.id for key, model in present.items() if key not in wanted]
    ProviderModel.objects.filter(id__in=gone).delete()
    respelt = []
    for key, model in present.items():
        if key in wanted and wanted[key] != model.model_id:
            model.model_id = wanted[key]
            respelt.append(model)
    ProviderModel.objects.bulk_update(respelt, ["model_id"])
    new = [ProviderModel(provider=provider, model_id=name) for key, name in wanted.items() if key not in present]
    ProviderModel.objects.bulk_create(new)
    return bool(gone or respelt or new)


def _users_of(provider_id: uuid.UUID) -> dict[str, str]:
    """The newest provider keys, then configurations, that name a provider: ID and name."""
    found: dict[str, str] = {}
    for prefix, users in (
        (ids.Prefix.PROVIDER_KEY, "provider_keys"),
        (ids.Prefix.CONFIGURATION, "named_in__configuration"),
    ):
        rows = (
            Provider.objects.filter(pk=provider_id)
            .exclude(**{f"{users}__id": None})
            .order_by(f"-{users}__id")
            .values_list(f"{users}__id", f"{users}__name")
        )
        found |= {ids.to_text(prefix, identity): name or "" for identity, name in rows[: _MOST_NAMED - len(found)]}
    return found
