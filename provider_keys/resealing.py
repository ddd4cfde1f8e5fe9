"""Move stored values to the current sealing key. The control plane does all steps but opening the values.

New values are sealed to SEALING_PUBLIC_KEY as soon as the control plane has it. Values that were sealed before go
through the data plane (gateway_core.resealing). A value that was rotated or deleted meanwhile is not changed.

Source: docs/decisions/0110-moving-sealing-keys.md.
"""

import uuid
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from django.conf import settings
from django.db import transaction

from audit.actions import Action
from audit.recording import NOTHING, record_act
from gateway_core import ids
from gateway_core.resealing import SealedValue, StreamRefused, digest, managed_value
from gateway_core.sealing import SealBroken, SealingKey, sealing_key_id
from provider_keys.models import ProviderKey
from providers import managed
from snapshots import outbox

CHUNK: Final = 200


class ResealingResult(NamedTuple):
    """The numbers of values that were moved or not changed."""

    moved: int
    # Values that were rotated or deleted since the export: the blob that they would replace does not exist any more.
    passed_over: int


def present_key() -> SealingKey:
    """The sealing key that values are moved to."""
    key: SealingKey | None = settings.SEALING_KEY
    if key is None:
        raise RuntimeError("SEALING_PUBLIC_KEY is not set")
    return key


def sealing_key_of(blob: bytes) -> str:
    """The ID of the sealing key that a stored blob names; `unreadable` if it names none."""
    try:
        return sealing_key_id(blob)
    except SealBroken:
        return "unreadable"


def values_to_move() -> Iterator[SealedValue]:
    """Yield each stored value that is not sealed to the current key, by account. Call it in a transaction."""
    present = present_key().id
    for provider, sealed in managed.sealed_keys():
        if sealing_key_of(sealed) != present:
            yield managed_value(provider, sealed)
    rows = ProviderKey.objects.order_by("account_id", "id").values_list("id", "account_id", "provider", "sealed")
    for identity, account, provider, blob in rows.iterator(CHUNK):
        sealed = bytes(blob)
        if sealing_key_of(sealed) != present:
            yield SealedValue(
                ids.to_text(ids.Prefix.ACCOUNT, account),
                provider,
                ids.to_text(ids.Prefix.PROVIDER_KEY, identity),
                sealed,
            )


@transaction.atomic
def take_back(values: Iterable[SealedValue]) -> ResealingResult:
    """Store values that were sealed again. Each replaces the blob that it was made from.

    Neither `updated_at` nor the ETag changes: clients see no change.

    Raises:
        StreamRefused: a value is not sealed to the current key, or its key's ID is invalid. No value was stored.
    """
    values = list(values)
    for value in values:
        if value.was is None or sealing_key_of(value.sealed) != present_key().id:
            raise StreamRefused("The input contains a value that is not sealed to SEALING_PUBLIC_KEY.")
    moved = 0
    for value in values:
        if value.is_managed:
            moved += managed.replace_sealed(provider=value.provider, was=value.was or "", sealed=value.sealed)
    by_id = {_identity(value): value for value in values if not value.is_managed}
    for row in (
        ProviderKey.objects.select_for_update(no_key=True).filter(id__in=list(by_id)).order_by("account_id", "id")
    ):
        value = by_id[row.id]
        if digest(bytes(row.sealed)) == value.was and _place_of(row) == (value.account, value.provider):
            row.sealed = value.sealed
            row.save(update_fields=["sealed"])
            outbox.record(row)
            record_act(None, Action.PROVIDER_KEY_RESEALED, row, changes=NOTHING)
            moved += 1
    return ResealingResult(moved, len(values) - moved)


def _identity(value: SealedValue) -> uuid.UUID:
    try:
        return ids.from_text(ids.Prefix.PROVIDER_KEY, value.key)
    except ids.InvalidId:
        raise StreamRefused("The input names something that is not a provider key.") from None


def _place_of(row: ProviderKey) -> tuple[str, str]:
    return ids.to_text(ids.Prefix.ACCOUNT, row.account_id), row.provider
