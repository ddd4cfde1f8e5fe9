"""Every write to the operator's own upstream keys (managed inference).

A key is sealed before it reaches the database, to the data plane alone; the catalog publishes it (providers.catalog).

Source: docs/decisions/0073-managed-keys.md.
"""

import re
from typing import Final

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from audit.actions import Action
from audit.recording import NOTHING, differences, record, record_act
from gateway_core.catalog import BUILT_IN
from gateway_core.redaction import mask
from gateway_core.resealing import digest
from gateway_core.sealing import SealingKey, managed_binding
from providers.models import ManagedKey

MANAGED: Final = tuple(provider.id for provider in BUILT_IN.values() if provider.is_managed)

_VALUE: Final = re.compile(r"[!-~]{1,4096}")


class ManagedKeyRefused(ValueError):
    """The operator's input cannot be stored. The text gives the reason and does not repeat the input."""


@transaction.atomic
def set_managed_key(*, provider: str, value: str) -> ManagedKey:
    """Store the operator's key for a provider. It replaces an earlier one.

    Args:
        provider: one of MANAGED.
        value: the plain key; white space around it is trimmed.

    Raises:
        ManagedKeyRefused: the provider is not one of them, or the value cannot be a key.
    """
    if provider not in MANAGED:
        raise ManagedKeyRefused(f"Managed inference is offered for {' and '.join(MANAGED)} only.")
    value = value.strip()
    if not _VALUE.fullmatch(value):
        raise ManagedKeyRefused("A key is 1 to 4096 printable ASCII characters, without white space within.")
    sealing_key: SealingKey | None = settings.SEALING_KEY
    if sealing_key is None:
        raise RuntimeError("SEALING_PUBLIC_KEY is not set")
    former = ManagedKey.objects.select_for_update(no_key=True).filter(provider=provider).first()
    key, _ = ManagedKey.objects.update_or_create(
        provider=provider,
        defaults={
            "sealed": sealing_key.seal(value, managed_binding(provider)),
            "key_redacted": mask(value),
            "updated_at": timezone.now(),
        },
    )
    changes = differences(former.audit_state() if former else NOTHING, key.audit_state())
    record_act(None, Action.MANAGED_KEY_SET, key, changes=changes)
    return key


@transaction.atomic
def remove_managed_key(*, provider: str) -> None:
    """Delete the operator's key for a provider.

    Raises:
        ManagedKeyRefused: the operator has no key for this provider.
    """
    key = ManagedKey.objects.select_for_update().filter(provider=provider).first()
    if key is None:
        raise ManagedKeyRefused("There is no managed key for this provider.")
    record(None, Action.MANAGED_KEY_REMOVED, key, before=key.audit_state(), after=NOTHING)
    key.delete()


def sealed_keys() -> list[tuple[str, bytes]]:
    """(provider, sealed blob) for every key of the operator."""
    return [(key.provider, bytes(key.sealed)) for key in ManagedKey.objects.order_by("provider")]


@transaction.atomic
def replace_sealed(*, provider: str, was: str, sealed: bytes) -> bool:
    """Replace the blob with this digest by the same key, sealed again. The caller must publish the catalog then.

    Returns:
        Whether it was replaced; False if the operator has stored another key since, or removed it.
    """
    key = ManagedKey.objects.select_for_update(no_key=True).filter(provider=provider).first()
    if key is None or digest(bytes(key.sealed)) != was:
        return False
    key.sealed = sealed
    key.save(update_fields=["sealed"])
    record_act(None, Action.MANAGED_KEY_RESEALED, key, changes=NOTHING)
    return True
