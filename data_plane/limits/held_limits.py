"""The limits that hold for an access token, made ready once for each state of its token and its account's settings."""

from typing import TYPE_CHECKING, Final

from data_plane.state.held import HeldToken
from gateway_core import ids
from gateway_core.limits.limit import Limit, Measure, Mode, Period, identity
from gateway_core.limits.windows import Window

if TYPE_CHECKING:
    from data_plane.limits.shares import Share

_DAY: Final = 86_400_000_000
_MINUTE: Final = 60_000_000
_UNITS: Final = {Measure.REQUESTS: b"", Measure.CONCURRENCY: b';qu="concurrent-requests"'}


class HeldLimit:
    """One limit of an access key or an account, and the worker's share of its present count."""

    __slots__ = (
        "born",
        "counts",
        "counts_tokens",
        "identity",
        "is_enforced",
        "is_of_key",
        "limit",
        "measure",
        "number",
        "owner",
        "share",
        "shown_name",
        "unit",
    )

    def __init__(self, limit: Limit, owner: str, *, is_of_key: bool) -> None:
        """
        Args:
            limit: as the snapshot holds it.
            owner: `aigk_…` or `ac_…`.
            is_of_key: whether the owner is the access key.
        """
        self.limit = limit
        self.measure = limit.measure
        self.counts = limit.counts
        # Whether its reservations depend on how long a request and its answer are.
        self.counts_tokens = limit.measure not in {Measure.REQUESTS, Measure.CONCURRENCY}
        # How answers name it, and its unit where that is not requests.
        self.shown_name = f"{limit.measure}-{limit.period or 'now'}".encode()
        self.unit = _UNITS.get(limit.measure, b';qu="tokens"')
        self.is_enforced = limit.mode is Mode.ENFORCE
        self.owner = owner
        self.is_of_key = is_of_key
        self.identity = identity(limit)
        self.number = int(self.identity, 16)
        prefix = ids.Prefix.ACCESS_KEY if is_of_key else ids.Prefix.ACCOUNT
        # When the owner was made: nothing was used before.
        self.born = ids.made_at(ids.from_text(prefix, owner))
        # Set by `data_plane.limits.shares.Shares.share_of`.
        self.share: Share | None = None

    def begin(self, window: Window, now: int) -> int | None:
        """Since when Redis must have counted without a gap for the count to begin at zero; None: it never may.

        Args:
            window: of the limit.
            now: microseconds since 1970.
        """
        if self.limit.is_rate:
            return max(now - _MINUTE, self.born)
        if self.limit.period is Period.TOTAL:
            # Redis forgets a total that nobody uses; so a missing total does not mean that nothing was used.
            is_new = self.limit.since == 0 and now - self.born < _DAY
            return self.born if is_new else None
        found = max(window.start, self.born)
        return found if self.limit.since <= found else None


def limits_of(token: HeldToken) -> tuple[HeldLimit, ...]:
    """The limits of a token's access key and of its account."""
    settings = token.account.snapshot.settings
    if token.limits_of is settings:
        return token.limits
    document = token.document
    if document is None:
        return ()
    own = settings.access_key_limits if document.limits is None else document.limits
    token.limits = (
        *(HeldLimit(limit, document.access_key, is_of_key=True) for limit in own),
        *(HeldLimit(limit, token.account.id, is_of_key=False) for limit in settings.limits),
    )
    token.limits_of = settings
    return token.limits
