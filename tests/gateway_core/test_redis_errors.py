"""Holds: gateway_core.redis_errors

What an error of Redis means, in whatever words and class it comes.
"""

import pytest
from redis import exceptions

from gateway_core.redis_errors import Trouble, trouble_of


@pytest.mark.parametrize(
    ("fault", "trouble"),
    [
        (exceptions.ResponseError("WRONGTYPE Operation against a key holding the wrong kind"), Trouble.WRONG_TYPE),
        (
            exceptions.ResponseError("Command # 2 (HGET k f) of pipeline caused error: WRONGTYPE Operation"),
            Trouble.WRONG_TYPE,
        ),
        (
            exceptions.ResponseError("Error running script (call to f_a): @user_script:9: WRONGTYPE Op"),
            Trouble.WRONG_TYPE,
        ),
        (exceptions.OutOfMemoryError("command not allowed when used memory > 'maxmemory'."), Trouble.TAKES_NO_WRITES),
        (exceptions.ResponseError("@user_script: 40: -OOM command not allowed"), Trouble.TAKES_NO_WRITES),
        (exceptions.ReadOnlyError("You can't write against a read only replica."), Trouble.TAKES_NO_WRITES),
        (exceptions.ResponseError("MISCONF Valkey is configured to save snapshots"), Trouble.TAKES_NO_WRITES),
        (exceptions.ResponseError("NOREPLICAS Not enough good replicas to write."), Trouble.TAKES_NO_WRITES),
        (exceptions.NoPermissionError("this user has no permissions"), Trouble.NO_RIGHTS),
        (exceptions.ResponseError("ACL failure in script: User gw can't access at least one key"), Trouble.NO_RIGHTS),
        (exceptions.AuthenticationError("invalid username-password pair"), Trouble.NO_RIGHTS),
        (exceptions.BusyLoadingError("Redis is loading the dataset in memory"), Trouble.BUSY),
        (exceptions.ResponseError("BUSY Redis is busy running a script."), Trouble.BUSY),
        (exceptions.MasterDownError("Link with MASTER is down"), Trouble.BUSY),
        (exceptions.ClusterDownError("CLUSTERDOWN The cluster is down"), Trouble.BUSY),
        (exceptions.ConnectionError("Connection refused"), Trouble.ABSENT),
        (exceptions.TimeoutError("Timeout reading from socket"), Trouble.ABSENT),
        (OSError("no route"), Trouble.ABSENT),
        (exceptions.ResponseError("The ID specified in XADD is equal or smaller than"), Trouble.OTHER),
        (exceptions.ResponseError("unknown command 'XADD'"), Trouble.OTHER),
        # A value that says such a word is not an error of that kind.
        (exceptions.ResponseError("unknown command 'GETOOM', with args beginning with: 'OOM' 'BUSY'"), Trouble.OTHER),
        (exceptions.ResponseError("BUSYGROUP Consumer Group name already exists"), Trouble.OTHER),
    ],
    ids=lambda value: None,
)
def test_an_error_means_what_redis_means_by_it(fault: Exception, trouble: Trouble) -> None:
    assert trouble_of(fault) is trouble


def test_only_a_wrong_type_and_an_unknown_error_leave_other_keys_usable() -> None:
    assert {each for each in Trouble if not each.is_of_the_server} == {Trouble.WRONG_TYPE, Trouble.OTHER}
