"""What one worker spends at one time, in all and on one account and on one access key, so that none of them has it all.

A request takes its place before its body is read, and gives everything back when its answer has ended.

Source: docs/decisions/0057-budgets.md.
"""

from typing import Final

from data_plane.errors import BodiesInFlight, RequestsInFlight, WorkerFull
from data_plane.settings import RequestLimits

_RETRY_SECONDS: Final = 1


class _Spent:
    """What the requests in flight of a worker, an account or an access key hold."""

    __slots__ = ("body_bytes", "requests")

    def __init__(self) -> None:
        self.requests = 0
        self.body_bytes = 0


class Budget:
    """The bounds of a worker, and what is spent of them."""

    def __init__(self, limits: RequestLimits) -> None:
        self.limits = limits
        self.worker = _Spent()
        # Only of those that have requests in flight.
        self.accounts: dict[str, _Spent] = {}
        self.access_keys: dict[str, _Spent] = {}

    def enter(self, account: str, access_key: str) -> "Share":
        """Take a place for one request.

        Args:
            account, access_key: the IDs of whose request it is.

        Raises:
            RequestsInFlight, WorkerFull: there is none.
        """
        limits = self.limits
        of_account = self.accounts.get(account) or _Spent()
        of_key = self.access_keys.get(access_key) or _Spent()
        if of_key.requests >= limits.requests_per_key:
            raise RequestsInFlight(
                f"This access key has {limits.requests_per_key} requests in flight, and may have no more.",
                retry_after=_RETRY_SECONDS,
            )
        if of_account.requests >= limits.requests_per_account:
            raise RequestsInFlight(
                f"This account has {limits.requests_per_account} requests in flight, and may have no more.",
                retry_after=_RETRY_SECONDS,
            )
        if self.worker.requests >= limits.requests:
            raise WorkerFull
        self.accounts[account], self.access_keys[access_key] = of_account, of_key
        return Share(self, account, access_key)


class Share:
    """What one request holds, until it leaves."""

    __slots__ = ("_access_key", "_account", "_budget", "_bytes", "_spent")

    def __init__(self, budget: Budget, account: str, access_key: str) -> None:
        self._budget = budget
        self._account = account
        self._access_key = access_key
        self._bytes = 0
        self._spent = (budget.worker, budget.accounts[account], budget.access_keys[access_key])
        for spent in self._spent:
            spent.requests += 1

    def leave(self) -> None:
        """The request has ended. Call it once."""
        for spent in self._spent:
            spent.requests -= 1
            spent.body_bytes -= self._bytes
        self._bytes = 0
        _, account, access_key = self._spent
        if not account.requests:
            self._budget.accounts.pop(self._account, None)
        if not access_key.requests:
            self._budget.access_keys.pop(self._access_key, None)

    def hold(self, length: int) -> None:
        """More bytes of the body are in memory.

        Raises:
            BodiesInFlight, WorkerFull: there may be no more.
        """
        worker, account, access_key = self._spent
        limits = self._budget.limits
        if access_key.body_bytes + length > limits.body_bytes_per_key:
            raise BodiesInFlight(
                f"The bodies of this access key's requests in flight are over {limits.body_bytes_per_key} bytes.",
                retry_after=_RETRY_SECONDS,
            )
        if account.body_bytes + length > limits.body_bytes_per_account:
            raise BodiesInFlight(
                f"The bodies of this account's requests in flight are over {limits.body_bytes_per_account} bytes.",
                retry_after=_RETRY_SECONDS,
            )
        if worker.body_bytes + length > limits.body_bytes:
            raise WorkerFull
        self._bytes += length
        for spent in self._spent:
            spent.body_bytes += length
