"""The control plane's Redis client: short time-outs, no retries, and writes by Lua scripts that check the epoch."""

from functools import cache
from importlib import resources
from typing import Any, Final

from django.conf import settings
from redis import Redis
from redis.backoff import NoBackoff
from redis.commands.core import Script
from redis.exceptions import ResponseError
from redis.retry import Retry

from gateway_core.envelopes import DocumentKeys
from gateway_core.redis_errors import Trouble, trouble_of
from gateway_core.snapshot import EpochInRedis, Keys

# A write waits at most this long for Redis (architecture, decision 6); there is no second attempt.
INLINE_SECONDS: Final = 0.25
# The relay and a rebuild send larger pieces, and no request waits for them.
PATIENT_SECONDS: Final = 5.0


class SnapshotRedis:
    """A connection pool to Redis with the scripts of the snapshot."""

    def __init__(self, url: str, *, timeout: float) -> None:
        self.redis = Redis.from_url(
            url,
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
            retry=Retry(NoBackoff(), 0),
            decode_responses=False,
        )
        self.publish: Script = self.redis.register_script(_script("publish"))
        self.begin_epoch: Script = self.redis.register_script(_script("begin_epoch"))
        self.write: Script = self.redis.register_script(_script("write"))
        self.complete_epoch: Script = self.redis.register_script(_script("complete_epoch"))
        self.heal: Script = self.redis.register_script(_script("heal"))
        self.remove: Script = self.redis.register_script(_script("remove"))
        self.sign: Script = self.redis.register_script(_script("sign"))

    def epoch(self) -> EpochInRedis:
        """Read the epoch from Redis. A key of another type is not an epoch: it reads like none."""
        try:
            answer: Any = self.redis.hmget(keys().epoch, EpochInRedis.FIELDS)
        except ResponseError as fault:
            if trouble_of(fault) is not Trouble.WRONG_TYPE:
                raise
            answer = [None] * len(EpochInRedis.FIELDS)
        return EpochInRedis.of(answer)

    def process(self) -> str:
        """The run ID of the Redis process; empty if Redis does not report it."""
        facts: Any = self.redis.info("server")
        return str(facts.get("run_id", ""))


@cache
def inline_store() -> SnapshotRedis:
    """This process's client for publications that a request waits for."""
    return SnapshotRedis(settings.REDIS_URL, timeout=INLINE_SECONDS)


@cache
def patient_store() -> SnapshotRedis:
    """This process's client for the relay and rebuilds."""
    return SnapshotRedis(settings.REDIS_URL, timeout=PATIENT_SECONDS)


@cache
def keys() -> Keys:
    """The names of this deployment's Redis keys."""
    return Keys(settings.REDIS_NAMESPACE)


def document_keys() -> DocumentKeys:
    """The deployment's document keys, which sign and verify documents."""
    found = settings.DOCUMENT_KEYS
    assert found is not None  # noqa: S101 -- only commands that read no data run without them
    return found


def _script(name: str) -> str:
    return resources.files("snapshots").joinpath("scripts", f"{name}.lua").read_text(encoding="utf-8")
