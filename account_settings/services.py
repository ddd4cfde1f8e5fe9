"""Every write to gateway configurations."""

import uuid
from typing import TypedDict, Unpack

from django.db import transaction

from account_settings.limits import Stored, counted_since
from account_settings.models import GatewayConfiguration
from accounts.models import Account
from accounts.owned.services import set_attributes
from accounts.principals import Principal
from audit.actions import Action
from rest.preconditions import ANY, IfMatch
from snapshots import outbox
from snapshots.writing import published


class Changes(TypedDict, total=False):
    """The fields that an update may change. None restores the default (for a cap: no cap)."""

    total_timeout: str | None
    per_request_timeout: str | None
    stream_timeout: str | None
    max_input_tokens: int | None
    max_output_tokens: int | None
    limits: Stored | None
    access_key_limits: Stored | None
    metadata: str | None


@transaction.atomic
def update_gateway_configuration(
    *, account: Account, by: Principal, if_match: IfMatch = ANY, **changes: Unpack[Changes]
) -> GatewayConfiguration:
    """Change the given fields. Without fields nothing is changed.

    Raises:
        PreconditionFailed: it has changed since the version that the caller knows.
    """
    # If two first writes race, the primary key lets one insert the row, and the other one finds it.
    row, _ = GatewayConfiguration.objects.get_or_create(account=account)
    action = Action.GATEWAY_CONFIGURATION_UPDATED
    with published.changing(row, by=by, action=action, if_match=if_match) as configuration:
        if "limits" in changes:
            changes["limits"] = counted_since(changes["limits"], configuration.limits)
        if "access_key_limits" in changes:
            changes["access_key_limits"] = counted_since(changes["access_key_limits"], configuration.access_key_limits)
        set_attributes(configuration, changes)
        configuration.save(update_fields=list(changes))
    return configuration


def record_credits_changed(account_id: uuid.UUID) -> None:
    """Publish the account's settings after this transaction, because they contain whether the account has credits.

    Raises:
        NotInTransaction: called outside of a transaction. The ledger's entry and the change commit together.
    """
    outbox.record(GatewayConfiguration(account_id=account_id))
