"""What an error of Redis means. Both planes ask this one table, so that a refusal never counts as an absence.

    trouble          codes of Redis                               what follows
    wrong type       WRONGTYPE                                    this key alone is put right
    takes no writes  OOM, READONLY, MISCONF, NOREPLICAS           wait and try again; nothing has to be rebuilt
    no rights        NOPERM, NOAUTH, WRONGPASS                    as above; an operator has to mend the ACL
    busy             LOADING, BUSY, MASTERDOWN, CLUSTERDOWN, …    as above; it passes by itself
    absent           no connection, or no answer in time          as above
    other            anything else                                about one command: whatever else is to be done goes on

A client library may take the code away and raise a class of its own instead, and a script puts its own words around
an error. So the classes' names and the text are read. Nothing is imported: this package knows no client library.

Source: https://valkey.io/topics/protocol/ (errors), docs/decisions/0013-errors-of-redis.md.
"""

import re
from enum import StrEnum
from typing import Final


class Trouble(StrEnum):
    """What an error of Redis means. The value completes the sentence "Redis …"."""

    WRONG_TYPE = "holds a key of another type"
    TAKES_NO_WRITES = "takes no writes"
    NO_RIGHTS = "does not permit this user's command"
    BUSY = "is busy"
    ABSENT = "does not answer"
    OTHER = "refused a command"

    @property
    def is_of_the_server(self) -> bool:
        """Whether any other command of the same kind would fail too, for whatever key or account."""
        return self not in {Trouble.WRONG_TYPE, Trouble.OTHER}


_CODES: Final = {
    "WRONGTYPE": Trouble.WRONG_TYPE,
    "OOM": Trouble.TAKES_NO_WRITES,
    "READONLY": Trouble.TAKES_NO_WRITES,
    "MISCONF": Trouble.TAKES_NO_WRITES,
    "NOREPLICAS": Trouble.TAKES_NO_WRITES,
    "NOPERM": Trouble.NO_RIGHTS,
    "NOAUTH": Trouble.NO_RIGHTS,
    "WRONGPASS": Trouble.NO_RIGHTS,
    "LOADING": Trouble.BUSY,
    "BUSY": Trouble.BUSY,
    "MASTERDOWN": Trouble.BUSY,
    "CLUSTERDOWN": Trouble.BUSY,
    "TRYAGAIN": Trouble.BUSY,
    # What scripts report where the user may not run one of their commands (Redis 7, Redis 6.2).
    "ACL failure in script": Trouble.NO_RIGHTS,
    "The user executing the script can't": Trouble.NO_RIGHTS,
}
# The classes of redis-py for errors whose code it takes away, and for no answer.
_CLASSES: Final = {
    "OutOfMemoryError": Trouble.TAKES_NO_WRITES,
    "ReadOnlyError": Trouble.TAKES_NO_WRITES,
    "NoPermissionError": Trouble.NO_RIGHTS,
    "AuthenticationError": Trouble.NO_RIGHTS,
    "BusyLoadingError": Trouble.BUSY,
    "MasterDownError": Trouble.BUSY,
    "ClusterDownError": Trouble.BUSY,
    "TryAgainError": Trouble.BUSY,
    "ConnectionError": Trouble.ABSENT,
    "TimeoutError": Trouble.ABSENT,
    "OSError": Trouble.ABSENT,
}
# At the beginning, or after the words of a pipeline ("… caused error: ") or a script ("…: -").
_CODE: Final = re.compile(rf"(?:^|: |: ?-)({'|'.join(map(re.escape, _CODES))})(?![\w'])")


def trouble_of(fault: BaseException) -> Trouble:
    """What an exception of a Redis client means."""
    for kind in type(fault).__mro__:
        if found := _CLASSES.get(kind.__name__):
            return found
    match = _CODE.search(str(fault))
    return _CODES[match[1]] if match else Trouble.OTHER
