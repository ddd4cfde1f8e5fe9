"""Build provider keys' documents for the data plane. Their values are sealed."""

from collections.abc import Collection, Iterator

import msgspec
from django.db.models import F, Q, Window
from django.db.models.functions import RowNumber

from accounts.models import Account
from gateway_core import ids
from gateway_core.snapshot import ProviderKeyDocument
from provider_keys.models import ProviderKey

_CHUNK = 500


def documents(account: Account, names: Collection[str]) -> dict[str, msgspec.Struct | None]:
    """The named documents in their current state; None for one that must be deleted."""
    found: dict[str, msgspec.Struct | None] = dict.fromkeys(names)
    identities = [ids.from_text(ids.Prefix.PROVIDER_KEY, name.partition(":")[2]) for name in names]
    for provider_key in ProviderKey.objects.filter(account=account, id__in=identities):
        found[provider_key.snapshot_document] = build(provider_key)
    return found


def all_documents(accounts: Collection[Account]) -> Iterator[tuple[Account, str, msgspec.Struct]]:
    """Yield (account, name, document) for every provider key of these accounts, row by row."""
    owners = {account.id: account for account in accounts}
    for row in ProviderKey.objects.filter(account__in=accounts).order_by("id").iterator(_CHUNK):
        yield owners[row.account_id], row.snapshot_document, build(row)


def without_values(
    account: Account, names: Collection[str], *, newest: int
) -> Iterator[tuple[str, ProviderKeyDocument]]:
    """Yield (name, document without its sealed value) for the named keys, and for the newest ones of each provider.

    Args:
        account: the account.
        names: document names.
        newest: how many of each provider. A decision about a request uses no more (gateway_core.policy).
    """
    identities = [ids.from_text(ids.Prefix.PROVIDER_KEY, name.partition(":")[2]) for name in names]
    keys = ProviderKey.objects.filter(account=account)
    place = Window(RowNumber(), partition_by=F("provider"), order_by=F("id").desc())
    first = keys.annotate(place=place).filter(place__lte=newest).values("id")
    for key in keys.filter(Q(id__in=identities) | Q(id__in=first)).only("provider", "key_redacted"):
        yield key.snapshot_document, ProviderKeyDocument(provider=key.provider, mask=key.key_redacted, sealed=b"")


def build(provider_key: ProviderKey) -> ProviderKeyDocument:
    """The document of one provider key."""
    return ProviderKeyDocument(
        provider=provider_key.provider, mask=provider_key.key_redacted, sealed=bytes(provider_key.sealed)
    )
