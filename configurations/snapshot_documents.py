"""Build configurations' documents for the data plane; they name providers by `providerId` and keys by ID."""

import uuid
from collections.abc import Callable, Collection, Iterator
from typing import Final

import msgspec

from accounts.models import Account
from configurations.models import Configuration
from configurations.router import compile_rules
from configurations.scope import compile_scope
from gateway_core import ids
from gateway_core.catalog import built_in_model
from gateway_core.snapshot import ConfigurationDocument

_CHUNK: Final = 500


def documents(account: Account, names: Collection[str]) -> dict[str, msgspec.Struct | None]:
    """The named documents in their current state; None for one that must be deleted."""
    found: dict[str, msgspec.Struct | None] = dict.fromkeys(names)
    identities = [ids.from_text(ids.Prefix.CONFIGURATION, name.partition(":")[2]) for name in names]
    for configuration in Configuration.objects.filter(account=account, id__in=identities).with_named():
        found[configuration.snapshot_document] = build(configuration)
    return found


def all_documents(accounts: Collection[Account]) -> Iterator[tuple[Account, str, msgspec.Struct]]:
    """Yield (account, name, document) for every configuration of these accounts, row by row."""
    owners = {account.id: account for account in accounts}
    for row in Configuration.objects.filter(account__in=accounts).with_named().order_by("id").iterator(_CHUNK):
        yield owners[row.account_id], row.snapshot_document, build(row)


def build(configuration: Configuration) -> ConfigurationDocument:
    """The document of one configuration, read with `with_named`."""
    slug_of = _resolver(configuration)
    return ConfigurationDocument(
        scope=compile_scope(configuration.access, slug_of), rules=compile_rules(configuration.router, slug_of)
    )


def _resolver(configuration: Configuration) -> Callable[[str], str]:
    slugs: dict[str, str] = {}
    for row in configuration.named:
        slugs[ids.to_text(ids.Prefix.PROVIDER, uuid.UUID(row["id"]))] = row["slug"]
        # The account's own provider, and not the alias of a built-in one.
        slugs[row["slug"]] = row["slug"]

    def slug_of(name: str) -> str:
        return slugs.get(name) or built_in_model(name, "").provider

    return slug_of
