"""Who did something, by name: rows keep principals as IDs, which outlive the API keys and users that they name."""

from collections.abc import Iterable
from typing import Any

from accounts.models import Account, ApiKey, OwnedModel, User
from accounts.principals import Principal
from gateway_core import ids


def names_of(account: Account, principals: Iterable[str]) -> dict[str, str]:
    """How these principals are called now, by ID; one that is gone is missing. At most two queries.

    Args:
        account: whose API keys are looked at.
        principals: `aigapi_…` and `usr_…`.
    """
    wanted = set(principals)
    users = User.objects.filter(id__in=_uuids(ids.Prefix.USER, wanted))
    api_keys = ApiKey.objects.filter(account=account, id__in=_uuids(ids.Prefix.API_KEY, wanted))
    return {
        **{user.text_id: Principal.of(user).name for user in users},
        **{key.text_id: f"API key {Principal.of(key).name}" for key in api_keys},
    }


def authors_of(account: Account, item: OwnedModel) -> dict[str, str]:
    """Who made something and who changed it last, as `kit/who_and_when.html` shows it; by ID whoever is gone."""
    found = names_of(account, [item.created_by, item.last_updated_by])
    return {
        "created_by": found.get(item.created_by, item.created_by),
        "changed_by": found.get(item.last_updated_by, item.last_updated_by),
    }


def _uuids(prefix: ids.Prefix, principals: set[str]) -> list[Any]:
    return [ids.from_text(prefix, one) for one in sorted(principals) if one.startswith(f"{prefix}_")]
