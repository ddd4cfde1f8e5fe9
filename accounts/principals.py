"""Who acts: an API key or a dashboard user."""

from dataclasses import dataclass

from accounts.models import ApiKey, User
from gateway_core import ids

# Where a principal of each kind stands on the wire. A user has no resource of its own in the management API; its URI
# identifies, as the published contract's does.
_PATHS = {ids.Prefix.API_KEY: "api-keys", ids.Prefix.USER: "users"}


@dataclass(frozen=True)
class Principal:
    """The author of a change, by ID: `aigapi_…` or `usr_…`."""

    id: str

    @classmethod
    def of(cls, actor: ApiKey | User) -> "Principal":
        """The principal that an authenticated API key or user is."""
        return cls(actor.text_id)

    @property
    def path(self) -> str:
        """The path of its URI, without a leading slash."""
        return path_of(self.id)


def path_of(principal_id: str) -> str:
    """The URI path of a stored principal ID; the principal itself may be gone."""
    prefix = ids.Prefix(principal_id.rpartition("_")[0])
    return f"{_PATHS[prefix]}/{principal_id}"
