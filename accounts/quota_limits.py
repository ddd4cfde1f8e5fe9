"""The quotas of an account: their names, what they count, and the limits where an operator has set no others.

This module knows neither Django nor the database, because the settings read it.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final


class Quota(StrEnum):
    """The names of the quotas, as `GET /quotas` and the setting `QUOTAS` have them."""

    ACCESS_KEYS = "accessKeys"
    PROVIDER_KEYS = "providerKeys"
    PROVIDER_KEYS_OF_A_PROVIDER = "providerKeysOfAProvider"
    PROVIDERS = "providers"
    MODELS = "models"
    CONFIGURATIONS = "configurations"
    SNAPSHOT_BYTES = "snapshotBytes"
    API_KEYS = "apiKeys"
    MEMBERS = "members"
    INVITATIONS = "invitations"
    REVISIONS_OF_A_CONFIGURATION = "revisionsOfAConfiguration"

    @property
    def noun(self) -> str:
        """What is counted, in the plural, for people."""
        return _NOUNS[self]

    @property
    def column(self) -> str | None:
        """The column of `AccountQuotas` that counts it; None where it holds for each object by itself."""
        return None if self in OF_ONE_OBJECT else _COLUMNS[self]


_NOUNS: Final = {
    Quota.ACCESS_KEYS: "access keys",
    Quota.PROVIDER_KEYS: "provider keys",
    Quota.PROVIDER_KEYS_OF_A_PROVIDER: "provider keys of one provider",
    Quota.PROVIDERS: "custom providers",
    Quota.MODELS: "models of custom providers",
    Quota.CONFIGURATIONS: "configurations",
    Quota.SNAPSHOT_BYTES: "bytes of configurations and custom providers",
    Quota.API_KEYS: "API keys",
    Quota.MEMBERS: "members",
    Quota.INVITATIONS: "open invitations",
    Quota.REVISIONS_OF_A_CONFIGURATION: "revisions of one configuration",
}
_COLUMNS: Final = {
    Quota.ACCESS_KEYS: "access_keys",
    Quota.PROVIDER_KEYS: "provider_keys",
    Quota.PROVIDERS: "providers",
    Quota.MODELS: "provider_models",
    Quota.CONFIGURATIONS: "configurations",
    Quota.SNAPSHOT_BYTES: "snapshot_bytes",
    Quota.API_KEYS: "api_keys",
    Quota.MEMBERS: "members",
    Quota.INVITATIONS: "invitations",
}
# These bound what one object may have, so an account as a whole has no count of them.
OF_ONE_OBJECT: Final = frozenset({Quota.PROVIDER_KEYS_OF_A_PROVIDER, Quota.REVISIONS_OF_A_CONFIGURATION})

DEFAULTS: Final[Mapping[Quota, int]] = {
    Quota.ACCESS_KEYS: 200_000,
    Quota.PROVIDER_KEYS: 2_000,
    Quota.PROVIDER_KEYS_OF_A_PROVIDER: 1_000,
    Quota.PROVIDERS: 100,
    Quota.MODELS: 20_000,
    Quota.CONFIGURATIONS: 2_000,
    Quota.SNAPSHOT_BYTES: 64 * 1024 * 1024,
    Quota.API_KEYS: 1_000,
    Quota.MEMBERS: 1_000,
    Quota.INVITATIONS: 1_000,
    Quota.REVISIONS_OF_A_CONFIGURATION: 100,
}
# What a column of the database holds.
MOST: Final = 2**53


def parse(text: str) -> dict[Quota, int]:
    """The limits of a text such as `accessKeys=1000,providers=20`; those that it does not name have their defaults.

    Raises:
        ValueError: it names something that is not a quota, or a limit is not a number from 0 on.
    """
    limits = dict(DEFAULTS)
    for entry in filter(None, (one.strip() for one in text.split(","))):
        name, _, limit = entry.partition("=")
        limits[quota_of(name.strip())] = limit_of(limit.strip())
    return limits


def quota_of(name: str) -> Quota:
    """The quota with this name.

    Raises:
        ValueError: there is none.
    """
    try:
        return Quota(name)
    except ValueError:
        raise ValueError(f"{name} is not a quota; they are {', '.join(Quota)}") from None


def limit_of(text: str) -> int:
    """A limit as a person writes it.

    Raises:
        ValueError: it is not a number from 0 to 2^53.
    """
    if not (text.isascii() and text.isdigit()) or int(text[:17]) > MOST:
        raise ValueError(f"a quota is a number from 0 to {MOST}")
    return int(text)
