"""The principal of a change: an API key or a dashboard user."""

from dataclasses import dataclass, field

from accounts.models import ApiKey, User
from gateway_core import ids

# The URI path of each kind of principal. The management API has no resource for users; a user's URI only identifies the
# user, as in the published contract.
_PATHS = {ids.Prefix.API_KEY: "api-keys", ids.Prefix.USER: "users"}
# The name of each kind in the audit.
_KINDS = {ids.Prefix.API_KEY: "api_key", ids.Prefix.USER: "user"}


@dataclass(frozen=True)
class Principal:
    """The author of a change, by ID: `aigapi_…` or `usr_…`."""

    id: str
    # The current name: an API key's name or mask, a user's e-mail address or user name.
    name: str = field(default="", compare=False)

    @classmethod
    def of(cls, actor: ApiKey | User) -> "Principal":
        """The principal of an authenticated API key or user."""
        return cls(actor.text_id, actor.audit_name if isinstance(actor, ApiKey) else actor.email or actor.username)

    @property
    def kind(self) -> str:
        """`api_key` or `user`."""
        return _KINDS[_prefix_of(self.id)]

    @property
    def path(self) -> str:
        """The path of its URI, without a leading slash."""
        return path_of(self.id)


def path_of(principal_id: str) -> str:
    """The URI path of a stored principal ID. The principal itself may have been deleted."""
    return f"{_PATHS[_prefix_of(principal_id)]}/{principal_id}"


def _prefix_of(principal_id: str) -> ids.Prefix:
    return ids.Prefix(principal_id.rpartition("_")[0])
