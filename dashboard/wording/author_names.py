"""Names of principals. Rows hold principals as IDs, which stay when the API key or the user is deleted."""

from collections.abc import Iterable
from typing import Any

from accounts.models import Account, ApiKey, User
from accounts.owned.models import OwnedModel
from accounts.principals import Principal
from gateway_core import ids


def names_of(account: Account, principals: Iterable[str]) -> dict[str, str]:
    """The present names of these principals, by ID. Deleted principals are missing. At most two queries.

    Args:
        account: the account of the API keys.
        principals: `aigapi_…` and `usr_…` IDs.
    """
    wanted = set(principals)
    users = User.objects.filter(id__in=_uuids(ids.Prefix.USER, wanted))
    api_keys = ApiKey.objects.filter(account=account, id__in=_uuids(ids.Prefix.API_KEY, wanted))
    return {
        **{user.text_id: Principal.of(user).name for user in users},
        **{key.text_id: f"API key {Principal.of(key).name}" for key in api_keys},
    }


def authors_of(account: Account, item: OwnedModel) -> dict[str, str]:
    """The context of `kit/who_and_when.html`: the names of the creator and the last editor, else their IDs."""
    found = names_of(account, [item.created_by, item.last_updated_by])
    return {
        "created_by": found.get(item.created_by, item.created_by),
        "changed_by": found.get(item.last_updated_by, item.last_updated_by),
    }


def _uuids(prefix: ids.Prefix, principals: set[str]) -> list[Any]:
    return [ids.from_text(prefix, principal) for principal in sorted(principals) if principal.startswith(f"{prefix}_")]
