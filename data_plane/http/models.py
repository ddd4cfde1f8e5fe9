"""`GET /v1/models`: what an access key reaches, made a little at a time and kept as bytes.

Source: docs/decisions/0058-short-steps.md.
"""

import asyncio
from collections import OrderedDict
from typing import Final, NamedTuple

import msgspec

from data_plane import errors
from data_plane.state.held import HeldAccount
from gateway_core.account_snapshot import AccountSnapshot
from gateway_core.catalog import Catalog
from gateway_core.policy import SnapshotIncomplete, reachable_models

# For all accounts together.
_KEPT_BYTES: Final = 16 * 1024 * 1024
_encode: Final = msgspec.json.Encoder().encode


class _Kept(NamedTuple):
    """A list, and what it was made of."""

    snapshot: AccountSnapshot
    version: int
    catalog: Catalog
    body: bytes


class ModelLists:
    """The lists that were made, the one that was asked for last at the end."""

    def __init__(self, kept_bytes: int = _KEPT_BYTES) -> None:
        self._kept_bytes = kept_bytes
        self._kept: OrderedDict[tuple[str, str | None], _Kept] = OrderedDict()
        self._length = 0

    async def whole(self, account: HeldAccount, catalog: Catalog, configuration: str | None) -> bytes:
        """The answer to `GET /v1/models`.

        Args:
            account: whose access key asks.
            catalog: the present one.
            configuration: the `aigac_…` ID of the access key's configuration, if it has one.

        Raises:
            SnapshotUnfit: the account's snapshot is not whole.
        """
        asked = (account.id, configuration)
        snapshot, version = account.snapshot, account.snapshot.version
        kept = self._kept.get(asked)
        if kept is not None and kept.snapshot is snapshot and kept.version == version and kept.catalog is catalog:
            self._kept.move_to_end(asked)
            return kept.body
        pieces: list[bytes] = []
        try:
            for models in reachable_models(snapshot, catalog, configuration=configuration):
                pieces.extend(_encode(_told(provider, model)) for provider, model in models)
                await asyncio.sleep(0)
        except SnapshotIncomplete:
            raise errors.SnapshotUnfit from None
        body = b'{"object":"list","data":[' + b",".join(pieces) + b"]}"
        if account.snapshot is snapshot and snapshot.version == version:
            self._keep(asked, _Kept(snapshot, version, catalog, body))
        return body

    def _keep(self, asked: tuple[str, str | None], made: _Kept) -> None:
        if (old := self._kept.pop(asked, None)) is not None:
            self._length -= len(old.body)
        self._kept[asked] = made
        self._length += len(made.body)
        while self._length > self._kept_bytes:
            _, oldest = self._kept.popitem(last=False)
            self._length -= len(oldest.body)

    @staticmethod
    async def one(account: HeldAccount, catalog: Catalog, configuration: str | None, name: str) -> bytes:
        """The answer to `GET /v1/models/<name>`.

        Args:
            account, catalog, configuration: as for `whole`.
            name: `provider:model`, or the model alone.

        Raises:
            ModelNotReachable: the key reaches none of this name.
            SnapshotUnfit: as `whole`.
        """
        try:
            for models in reachable_models(account.snapshot, catalog, configuration=configuration):
                for provider, model in models:
                    if name in {model, f"{provider}:{model}"}:
                        return _encode(_told(provider, model))
                await asyncio.sleep(0)
        except SnapshotIncomplete:
            raise errors.SnapshotUnfit from None
        raise errors.ModelNotReachable


def _told(provider: str, model: str) -> dict[str, object]:
    return {"id": f"{provider}:{model}", "object": "model", "created": 0, "owned_by": provider}
