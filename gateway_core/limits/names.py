"""Where counts lie in Redis, below the deployment's hash tag.

    {gw}:limits                          HASH  `epoch` and `since`: since when counts are kept without a gap, in
                                               microseconds; `seen`: when a worker last called; `spared`: until when no
                                               worker loses what it holds
    {gw}:limits:wanted                   SET   the names of counts that Redis does not know
    {gw}:limit:<owner>:<identity>:<start> HASH the count of one limit in one window (gateway_core.limits.counting)

`<owner>` is the ID of an access key or an account, `<identity>` what the limit counts (gateway_core.limits.limit),
`<start>` the window's first second.

Source: docs/decisions/0120-limits.md.
"""

from functools import cache
from importlib import resources
from typing import Final, NamedTuple

from gateway_core.snapshot import Keys

_SECOND: Final = 1_000_000


class CountName(NamedTuple):
    """What a count is of."""

    # `aigk_…` or `ac_…`.
    owner: str
    identity: str
    # The window's first second.
    start: int

    @classmethod
    def parse(cls, text: str) -> "CountName":
        """Read a name.

        Raises:
            ValueError: it is not one.
        """
        owner, identity, start = text.split(":")
        return cls(owner, identity, int(start))

    def __str__(self) -> str:
        return f"{self.owner}:{self.identity}:{self.start}"


def marker(keys: Keys) -> str:
    """The hash that says since when counts are kept."""
    return f"{keys.prefix}limits"


def wanted(keys: Keys) -> str:
    """The set of counts that Redis does not know."""
    return f"{keys.prefix}limits:wanted"


def count(keys: Keys, name: CountName) -> str:
    """The hash of a count."""
    return f"{keys.prefix}limit:{name}"


@cache
def script(name: str) -> str:
    """The text of a Lua script: `ask`, `confirm` or `open`."""
    return resources.files("gateway_core.limits").joinpath("scripts", f"{name}.lua").read_text(encoding="utf-8")
