"""Every write to gateway configurations."""

from typing import TypedDict, Unpack

from django.db import transaction
from django.db.models import Field

from account_settings.models import GatewayConfiguration
from accounts.models import Account
from accounts.principals import Principal
from audit.actions import Action
from audit.recording import record
from rest.preconditions import ANY, IfMatch, locked
from snapshots import outbox


class Changes(TypedDict, total=False):
    """What an update may change; None puts the default back (of a cap: no cap)."""

    total_timeout: str | None
    per_request_timeout: str | None
    max_input_tokens: int | None
    max_output_tokens: int | None
    metadata: str | None


@transaction.atomic
def update_gateway_configuration(
    *, account: Account, by: Principal, if_match: IfMatch = ANY, **changes: Unpack[Changes]
) -> GatewayConfiguration:
    """Change what was given; nothing given changes nothing.

    Raises:
        PreconditionFailed: it has changed since the version that the caller knows.
    """
    # Two first writers meet at the primary key; the slower one finds the faster one's row.
    row, _ = GatewayConfiguration.objects.get_or_create(account=account)
    configuration = locked(row, if_match)
    if not changes:
        return configuration
    before = configuration.audit_state()
    for name, value in changes.items():
        column = configuration._meta.get_field(name)
        if value is None and isinstance(column, Field) and not column.null:
            setattr(configuration, name, column.get_default())
        else:
            setattr(configuration, name, value)
    configuration.save(update_fields=list(changes))
    outbox.record(configuration)
    record(by, Action.GATEWAY_CONFIGURATION_UPDATED, configuration, before=before)
    return configuration


def record_credits_changed(account: Account) -> None:
    """Have the account's settings published anew after this transaction: whether it has credits is one of them.

    Raises:
        NotInTransaction: the ledger's entry and the change could part.
    """
    outbox.record(GatewayConfiguration(account=account))
