"""Who acts: an API key or a dashboard user."""

from dataclasses import dataclass, field

from accounts.models import ApiKey, User
from gateway_core import ids

# Where a principal of each kind stands on the wire. A user has no resource of its own in the management API; its URI
# identifies, as the published contract's does.
_PATHS = {ids.Prefix.API_KEY: "api-keys", ids.Prefix.USER: "users"}
# What the audit calls each kind.
_KINDS = {ids.Prefix.API_KEY: "api_key", ids.Prefix.USER: "user"}


@dataclass(frozen=True)
class Principal:
    """The author of a change, by ID: `aigapi_…` or `usr_…`."""

    id: str
    # What people call it at the moment: an API key's name or mask, a user's address or name.
    name: str = field(default="", compare=False)

    @classmethod
    def of(cls, actor: ApiKey | User) -> "Principal":
        """The principal that an authenticated API key or user is."""
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
    """The URI path of a stored principal ID; the principal itself may be gone."""
    return f"{_PATHS[_prefix_of(principal_id)]}/{principal_id}"


def _prefix_of(principal_id: str) -> ids.Prefix:
    return ids.Prefix(principal_id.rpartition("_")[0])
