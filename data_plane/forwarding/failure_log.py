"""Failed attempts in the log: enough to see what is wrong, and never so many that they hide something else."""

import time
from typing import Final

import structlog

log = structlog.get_logger("data_plane.forwarding.attempts")

_PERIOD_SECONDS: Final = 10.0
_MOST_IN_PERIOD: Final = 20


class FailureLog:
    """Logs up to 20 failed attempts in 10 seconds, then how many it left out."""

    def __init__(self) -> None:
        self._until = 0.0
        self._logged = 0
        self._left_out = 0

    def note(self, now: float, **fields: str) -> None:
        """Log a failed attempt.

        Args:
            now: seconds of a clock that does not go back.
            fields: what is logged of it. No text of an upstream's or a caller's, and no key.
        """
        if now >= self._until:
            if self._left_out:
                log.warning("more attempts failed than are logged", left_out=self._left_out)
            self._until, self._logged, self._left_out = now + _PERIOD_SECONDS, 0, 0
        if self._logged >= _MOST_IN_PERIOD:
            self._left_out += 1
            return
        self._logged += 1
        log.warning("an attempt failed", **fields)


_failures: Final = FailureLog()


def log_failure(**fields: str) -> None:
    """Log a failed attempt of this process, unless too many were logged lately."""
    _failures.note(time.monotonic(), **fields)
