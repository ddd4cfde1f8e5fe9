"""Build access keys' documents for the data plane, named by the token's digest so that a worker can look one up."""

from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec

from access_keys.models import AccessKey
from account_settings.limits import limits_of
from accounts.models import Account
from gateway_core import ids
from gateway_core.snapshot import TokenDocument, token_document

_CHUNK: Final = 2000
# The columns of a row that a document contains, in the order of `_document`.
_COLUMNS: Final = ("id", "configuration_id", "expires_at", "disabled", "limits")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def documents(account: Account, names: Collection[str]) -> dict[str, msgspec.Struct | None]:
    """The named documents in their current state; None for one that must be deleted."""
    found: dict[str, msgspec.Struct | None] = dict.fromkeys(names)
    digests = [name.partition(":")[2] for name in names]
    for access_key in AccessKey.objects.filter(account=account, digest__in=digests):
        found[access_key.snapshot_document] = build(account, access_key)
    return found


def all_documents(accounts: Collection[Account]) -> Iterator[tuple[Account, str, msgspec.Struct]]:
    """Yield (account, name, document) for every access key of these accounts, row by row."""
    owners = {account.id: (account, account.text_id) for account in accounts}
    rows = AccessKey.objects.filter(account__in=accounts).order_by("account_id", "id")
    # No model instances: for a million rows they would take half of a rebuild's time.
    for owner, digest, *columns in rows.values_list("account_id", "digest", *_COLUMNS).iterator(_CHUNK):
        account, text = owners[owner]
        yield account, token_document(digest), _document(text, columns)


def owners(names: Collection[str]) -> dict[str, Account]:
    """The account of each named access key. For the comparison of Redis alone, which finds a digest without one."""
    digests = [name.partition(":")[2] for name in names]
    found = AccessKey.objects.filter(digest__in=digests).select_related("account")
    return {access_key.snapshot_document: access_key.account for access_key in found}


def build(account: Account, access_key: AccessKey) -> TokenDocument:
    """The document of one access key."""
    return _document(account.text_id, [getattr(access_key, column) for column in _COLUMNS])


def _document(account: str, columns: Sequence[Any]) -> TokenDocument:
    access_key, configuration, expires_at, disabled, limits = columns
    return TokenDocument(
        account=account,
        access_key=ids.to_text(ids.Prefix.ACCESS_KEY, access_key),
        configuration=ids.to_text(ids.Prefix.CONFIGURATION, configuration) if configuration else None,
        expires_at=(expires_at - _EPOCH) // timedelta(microseconds=1) if expires_at else None,
        disabled=disabled,
        limits=None if limits is None else limits_of(limits),
        # A worker of a release that does not know limits must not serve the key without them.
        must_understand=("limits",) if limits else (),
    )
