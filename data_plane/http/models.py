"""`GET /v1/models`: what an access key reaches, made a little at a time and kept as bytes, in the caller's format.

Source: docs/decisions/0058-short-steps.md, docs/decisions/0087-calls-beside-the-surfaces.md.
"""

import asyncio
import re
from collections import Counter, OrderedDict
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final, NamedTuple
from urllib.parse import parse_qs

import msgspec

from data_plane import errors
from data_plane.state.held import HeldAccount
from gateway_core.account_snapshot import AccountSnapshot
from gateway_core.catalog import BUILT_IN, Catalog, Format, Surface
from gateway_core.plans import Plan
from gateway_core.policy import MOST_ATTEMPTS, SnapshotIncomplete, reachable_models

# For all accounts together.
_KEPT_BYTES: Final = 16 * 1024 * 1024
_AT_ONCE: Final = 128
_USUAL_PAGE: Final = 20
_LONGEST_PAGE: Final = 1000
_LONGEST_NUMBER: Final = 4
# A release's date stands in its name, or nowhere.
_DATE: Final = re.compile(r"(?<![0-9])(20[0-9]{2})-?(0[1-9]|1[0-2])-?([0-2][0-9]|3[01])(?![0-9])")
_encode: Final = msgspec.json.Encoder().encode


class _Kept(NamedTuple):
    """A list, and what it was made of."""

    snapshot: AccountSnapshot
    version: int
    catalog: Catalog
    # By ID, in the list's order.
    models: dict[str, bytes]
    # The answer without pages; empty where there are pages.
    body: bytes

    @property
    def length(self) -> int:
        """About how many bytes it holds."""
        return len(self.body) + sum(map(len, self.models.values()))


class Page(NamedTuple):
    """Which part of a list a caller of Anthropic's format asks for."""

    limit: int = _USUAL_PAGE
    after: str = ""
    before: str = ""

    @classmethod
    def parse(cls, query: bytes) -> "Page":
        """Read it from a query.

        Raises:
            BadRequest: the limit is no number from 1 to 1000.
        """
        given = parse_qs(query.decode("latin-1"), keep_blank_values=True)
        limit = given.get("limit", [str(_USUAL_PAGE)])[-1]
        is_number = limit.isascii() and limit.isdigit() and len(limit) <= _LONGEST_NUMBER
        if not is_number or not 1 <= int(limit) <= _LONGEST_PAGE:
            raise errors.BadRequest(f"'limit' must be a whole number from 1 to {_LONGEST_PAGE}.", param="limit")
        return cls(int(limit), given.get("after_id", [""])[-1], given.get("before_id", [""])[-1])


class ModelLists:
    """The lists that were made, the one that was asked for last at the end."""

    def __init__(self, kept_bytes: int = _KEPT_BYTES) -> None:
        self._kept_bytes = kept_bytes
        self._kept: OrderedDict[tuple[str, str | None, Format], _Kept] = OrderedDict()
        self._length = 0

    async def whole(self, account: HeldAccount, catalog: Catalog, configuration: str | None) -> bytes:
        """The answer to `GET /v1/models` in OpenAI's format.

        Args:
            account: whose access key asks.
            catalog: the present one.
            configuration: the `aigac_…` ID of the access key's configuration, if it has one.

        Raises:
            SnapshotUnfit: the account's snapshot is not whole.
        """
        return (await self._list(account, catalog, configuration, Format.OPENAI)).body

    async def page(self, account: HeldAccount, catalog: Catalog, configuration: str | None, asked: Page) -> bytes:
        """The answer to `GET /v1/models` in Anthropic's format.

        Args:
            account, catalog, configuration: as for `whole`.
            asked: the page.

        Raises:
            BadRequest: `after_id` or `before_id` is not in the list.
            SnapshotUnfit: as `whole`.
        """
        models = (await self._list(account, catalog, configuration, Format.ANTHROPIC)).models
        known = list(models)
        first, last = 0, len(known)
        if asked.after:
            first = _place(known, asked.after, "after_id") + 1
        if asked.before:
            last = _place(known, asked.before, "before_id")
            if not asked.after:
                first = max(0, last - asked.limit)
        shown = known[first : min(last, first + asked.limit)]
        is_backward = bool(asked.before and not asked.after)
        told = {
            "data": [msgspec.Raw(models[one]) for one in shown],
            "has_more": first > 0 if is_backward else first + len(shown) < last,
            "first_id": shown[0] if shown else None,
            "last_id": shown[-1] if shown else None,
        }
        return _encode(told)

    async def _list(
        self, account: HeldAccount, catalog: Catalog, configuration: str | None, written_as: Format
    ) -> _Kept:
        asked = (account.id, configuration, written_as)
        snapshot, version = account.snapshot, account.snapshot.version
        kept = self._kept.get(asked)
        if kept is not None and kept.snapshot is snapshot and kept.version == version and kept.catalog is catalog:
            self._kept.move_to_end(asked)
            return kept
        found: list[tuple[str, str]] = []
        try:
            for models in reachable_models(snapshot, catalog, configuration=configuration):
                found.extend(models)
                await asyncio.sleep(0)
        except SnapshotIncomplete:
            raise errors.SnapshotUnfit from None
        told: dict[str, bytes] = {}
        for number, (name, provider, model) in enumerate(_named(found)):
            told[name] = _encode(_told(name, provider, model, catalog, written_as))
            if number % _AT_ONCE == 0:
                await asyncio.sleep(0)
        if written_as is Format.OPENAI:
            body = b'{"object":"list","data":[' + b",".join(told.values()) + b"]}"
            made = _Kept(snapshot, version, catalog, {}, body)
        else:
            made = _Kept(snapshot, version, catalog, told, b"")
        if account.snapshot is snapshot and snapshot.version == version:
            self._keep(asked, made)
        return made

    def _keep(self, asked: tuple[str, str | None, Format], made: _Kept) -> None:
        if (old := self._kept.pop(asked, None)) is not None:
            self._length -= old.length
        self._kept[asked] = made
        self._length += made.length
        while self._length > self._kept_bytes:
            _, oldest = self._kept.popitem(last=False)
            self._length -= oldest.length

    @staticmethod
    def one(account: HeldAccount, catalog: Catalog, configuration: str | None, name: str, written_as: Format) -> bytes:
        """The answer to `GET /v1/models/<name>`.

        Args:
            account, catalog, configuration: as for `whole`.
            name: as a request may name a model.
            written_as: the caller's format.

        Raises:
            ModelNotReachable: a request with this name would reach no model that is known.
            SnapshotUnfit: as `whole`.
        """
        for surface in Surface:
            try:
                plan = account.resolve(catalog, configuration, (name,), surface, MOST_ATTEMPTS)
            except SnapshotIncomplete:
                raise errors.SnapshotUnfit from None
            if isinstance(plan, Plan):
                attempt = plan.attempts[0]
                if _is_known(account.snapshot, catalog, attempt.provider, attempt.model):
                    shown = f"{attempt.provider}:{attempt.model}"
                    return _encode(_told(shown, attempt.provider, attempt.model, catalog, written_as))
        raise errors.ModelNotReachable


def _named(found: list[tuple[str, str]]) -> Iterator[tuple[str, str, str]]:
    """Each model as (name, provider, model), the newest first where dates are known.

    Behind them the models whose name alone means one of them, by that name.
    """
    dates = {pair: created for pair in found if (created := _created(pair[1]))}
    ordered = sorted(dates, key=lambda pair: -dates[pair]) + [pair for pair in found if pair not in dates]
    for provider, model in ordered:
        yield f"{provider}:{model}", provider, model
    counts = Counter(model.casefold() for _, model in found)
    for provider, model in ordered:
        if counts[model.casefold()] == 1 and not {":", "/"} & set(model):
            yield model, provider, model


def _is_known(snapshot: AccountSnapshot, catalog: Catalog, provider: str, model: str) -> bool:
    custom = snapshot.providers.get(provider)
    if custom is None:
        return catalog.find(provider, model) is not None
    # One that lists no models takes any name.
    return not custom.models or snapshot.spelling(provider, model) is not None


def _created(model: str) -> int:
    """Seconds since 1970 of the date in a model's name; 0 where there is none."""
    found = _DATE.search(model)
    if found is None:
        return 0
    try:
        return int(datetime(*map(int, found.groups()), tzinfo=UTC).timestamp())  # type: ignore[arg-type, misc]
    except ValueError:
        return 0


def _told(name: str, provider: str, model: str, catalog: Catalog, written_as: Format) -> dict[str, object]:
    created = _created(model)
    if written_as is Format.OPENAI:
        return {"id": name, "object": "model", "created": created, "owned_by": provider}
    known = catalog.find(provider, model) if provider in BUILT_IN else None
    return {
        "type": "model",
        "id": name,
        "display_name": (known.name if known is not None else None) or model,
        "created_at": datetime.fromtimestamp(created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


def _place(known: list[str], name: str, param: str) -> int:
    try:
        return known.index(name)
    except ValueError:
        raise errors.BadRequest(f"'{param}' names no model of this list.", param=param) from None
