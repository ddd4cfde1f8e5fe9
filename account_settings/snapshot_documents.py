"""Build the settings documents of accounts for the data plane.

An account with default settings has no document, because the data plane knows the defaults.
"""

import uuid
from collections.abc import Collection, Iterator

import msgspec

from account_settings.credits import accounts_with_credits
from account_settings.limits import limits_of
from account_settings.models import GatewayConfiguration
from accounts.models import Account
from gateway_core.snapshot import SETTINGS_DOCUMENT, SettingsDocument


def documents(account: Account, names: Collection[str]) -> dict[str, msgspec.Struct | None]:
    """The current document by name; None if the account has the defaults."""
    return dict.fromkeys(names, build(account))


def all_documents(accounts: Collection[Account]) -> Iterator[tuple[Account, str, msgspec.Struct]]:
    """Yield (account, name, document) for the accounts that do not have the defaults."""
    built = _build(accounts)
    for account in accounts:
        if document := built.get(account.id):
            yield account, SETTINGS_DOCUMENT, document


def build(account: Account) -> SettingsDocument | None:
    """The settings document of an account; None if it has the defaults."""
    return _build([account]).get(account.id)


def _build(accounts: Collection[Account]) -> dict[uuid.UUID, SettingsDocument]:
    rich = accounts_with_credits(accounts)
    rows = {row.account_id: row for row in GatewayConfiguration.objects.filter(account__in=accounts)}
    built = {}
    for account in accounts:
        settings = rows.get(account.id) or GatewayConfiguration(account=account)
        document = SettingsDocument(
            total_timeout=settings.total_timeout,
            per_request_timeout=settings.per_request_timeout,
            stream_timeout=settings.stream_timeout,
            max_input_tokens=settings.max_input_tokens,
            max_output_tokens=settings.max_output_tokens,
            has_credits=account.id in rich,
            limits=limits_of(settings.limits),
            access_key_limits=limits_of(settings.access_key_limits),
        )
        if document != SettingsDocument():
            built[account.id] = document
    return built
