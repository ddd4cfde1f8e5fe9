"""How an account's settings look to the data plane.

An account whose settings are the defaults has no document: the data plane knows the defaults.
"""

from collections.abc import Collection, Iterator

import msgspec

from accounts.models import Account
from gateway_configuration.credits import has_credits
from gateway_configuration.models import GatewayConfiguration
from gateway_core.snapshot import SETTINGS_DOCUMENT, SettingsDocument


def documents(account: Account, names: Collection[str]) -> dict[str, msgspec.Struct | None]:
    """The document as it has to be now; None where the defaults hold."""
    return dict.fromkeys(names, build(account))


def all_documents(account: Account) -> Iterator[tuple[str, msgspec.Struct]]:
    """The document, where the defaults do not hold."""
    if document := build(account):
        yield SETTINGS_DOCUMENT, document


def build(account: Account) -> SettingsDocument | None:
    """What holds for every request of the account."""
    settings = GatewayConfiguration.of(account)
    document = SettingsDocument(
        total_timeout=settings.total_timeout,
        per_request_timeout=settings.per_request_timeout,
        max_input_tokens=settings.max_input_tokens,
        max_output_tokens=settings.max_output_tokens,
        has_credits=has_credits(account),
    )
    return None if document == SettingsDocument() else document
