"""The errors of requests that a limit does not let through.

Source: contract, section 9.
"""

from typing import Final

from data_plane.errors import GatewayError, Unavailable
from gateway_core.limits.limit import Counts

# Seconds for which a client that tries again by itself may wait.
_LONGEST_WAIT: Final = 60


class LimitExceeded(GatewayError):
    """A limit of this access key or account is reached."""

    status = 429
    code = "limit_exceeded"

    def __init__(
        self, message: str | None = None, *, retry_after: float | None = None, counts: Counts | None = None
    ) -> None:
        """
        Args:
            message, retry_after: as every error has them.
            counts: the attempts that the limit counts; None for all.
        """
        super().__init__(message, retry_after=retry_after)
        self.counts = counts

    @property
    def is_lasting(self) -> bool:
        """Whether waiting for it is not worth while for a client that would try again by itself."""
        return self.retry_after is None or self.retry_after > _LONGEST_WAIT


class ModelUnpriced(GatewayError):
    """The model has no known price, and a limit on cost holds for this request."""

    status = 403
    code = "model_unpriced"


class BatchNotLimited(GatewayError):
    """What a batch uses is not known here, and a limit holds for this access key or account."""

    status = 403
    code = "batch_not_limited"


class LimitsUnknown(Unavailable):
    """This worker cannot judge a limit of this access key or account at the moment; try again."""

    code = "limits_unknown"
