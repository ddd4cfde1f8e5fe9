"""How access keys look to the data plane: by the digest of their token, so that a worker finds one by itself."""

from collections.abc import Collection, Iterator
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from access_keys.models import AccessKey
from accounts.models import Account
from gateway_core import ids
from gateway_core.snapshot import TokenDocument, token_document

_CHUNK: Final = 500
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def documents(account: Account, names: Collection[str]) -> dict[str, msgspec.Struct | None]:
    """The named documents as they have to be now; None for those that have to go."""
    found: dict[str, msgspec.Struct | None] = dict.fromkeys(names)
    digests = [name.partition(":")[2] for name in names]
    for access_key in AccessKey.objects.filter(account=account, digest__in=digests):
        found[access_key.snapshot_document] = build(account, access_key)
    return found


def all_documents(account: Account) -> Iterator[tuple[str, msgspec.Struct]]:
    """Every access key of the account, a row at a time."""
    for access_key in AccessKey.objects.filter(account=account).order_by("id").iterator(_CHUNK):
        yield token_document(access_key.digest), build(account, access_key)


def build(account: Account, access_key: AccessKey) -> TokenDocument:
    """The document of one access key."""
    configuration = access_key.configuration_id
    expires_at = access_key.expires_at
    return TokenDocument(
        account=account.text_id,
        access_key=access_key.text_id,
        configuration=ids.to_text(ids.Prefix.CONFIGURATION, configuration) if configuration else None,
        expires_at=(expires_at - _EPOCH) // timedelta(microseconds=1) if expires_at else None,
        disabled=access_key.disabled,
    )
