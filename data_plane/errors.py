"""The errors that a worker itself answers with: one tree, ordered by what the caller can do.

A class's docstring is the message, `code` is for programs. Each code stands in docs/data-plane-errors.md.

Source: contract, section 9.
"""

from collections.abc import Sequence
from typing import ClassVar, Final

from gateway_core.catalog import Surface
from gateway_core.plans import Denial, DenialCode


class GatewayError(Exception):
    """The gateway failed to answer this request."""

    status: int = 500
    code: ClassVar[str] = "internal_error"

    def __init__(
        self,
        message: str | None = None,
        *,
        param: str | None = None,
        retry_after: float | None = None,
        headers: Sequence[tuple[bytes, bytes]] = (),
    ) -> None:
        """
        Args:
            message: what the caller reads; the class's docstring by default.
            param: the member that is meant.
            retry_after: seconds after which the caller may try again.
            headers: what goes with the error beside its own.
        """
        self.message = message or type(self).__doc__ or ""
        self.param = param
        self.retry_after = retry_after
        self.headers = headers
        super().__init__(self.message)

    @property
    def is_lasting(self) -> bool:
        """Whether the same request would get the same answer again, so that clients are told not to send it."""
        return is_lasting(self.status)


class NotAuthorized(GatewayError):
    """The access key is not valid."""

    status = 401
    code = "access_key_invalid"


class AccessKeyMissing(NotAuthorized):
    """An access key is needed, as 'Authorization: Bearer gwk_…' or as 'x-api-key'."""

    code = "access_key_missing"


class AccessKeyUnknown(NotAuthorized):
    """This access key does not exist, or was deleted."""

    code = "access_key_unknown"


class AccessKeyExpired(NotAuthorized):
    """This access key has expired."""

    code = "access_key_expired"


class AccessKeyDisabled(NotAuthorized):
    """This access key is disabled."""

    code = "access_key_disabled"


class BadRequest(GatewayError):
    """The request is not well formed."""

    status = 400
    code = "request_invalid"


class BodyInvalid(BadRequest):
    """The body must be a JSON object in UTF-8."""

    code = "body_invalid"


class CodingBroken(BadRequest):
    """The body is not in the coding that 'content-encoding' names, or is not whole."""

    code = "coding_broken"


class BodyTooDeep(BadRequest):
    """The body is nested too deeply."""

    code = "body_too_deep"


class ModelInvalid(BadRequest):
    """'model' must be a text, or 'models' a list of texts, naming at least one model."""

    code = "model_invalid"


class TooManyModels(BadRequest):
    """The request asks for more models than one request may."""

    code = "too_many_models"


class TooManyMembers(BadRequest):
    """The body has more members than a body may."""

    code = "too_many_members"


class MemberInvalid(BadRequest):
    """A member of the body is not as it must be."""

    code = "member_invalid"


class MemberAmbiguous(BadRequest):
    """An upstream may read a member of the body as another one than the gateway does."""

    code = "member_ambiguous"


class MemberRoutes(BadRequest):
    """A member of the body may make the upstream use another model, which this access key may not."""

    code = "member_routes"


class NotPriced(BadRequest):
    """Managed inference takes only what has a price; the request asks for something else."""

    code = "not_priced"


class AccessKeyInQuery(BadRequest):
    """An access key belongs in a header; in a URL it would be passed on and logged."""

    code = "access_key_in_query"


class RoutingLoop(BadRequest):
    """This request comes from the gateway itself: a provider's base URL leads back to it."""

    code = "routing_loop"


class NoCredentials(BadRequest):
    """There is no provider key that this access key may use, and no managed inference."""

    code = "no_credentials"


class NoCredits(GatewayError):
    """Managed inference needs credits, and this account has none left."""

    status = 403
    code = "no_credits"


class NotFound(GatewayError):
    """There is nothing at this path."""

    status = 404
    code = "not_found"


class ModelNotReachable(NotFound):
    """This access key reaches no model of this name."""

    code = "model_not_reachable"


class MethodNotAllowed(GatewayError):
    """This path does not take this method."""

    status = 405
    code = "method_not_allowed"

    def __init__(self, message: str | None = None, *, allow: str = "GET, HEAD, POST") -> None:
        super().__init__(message)
        self.allow = allow


class CodingNotTaken(GatewayError):
    """The body is in a coding that is not taken here; 'accept-encoding' names those that are."""

    status = 415
    code = "coding_not_taken"


class WebSocketNotServed(GatewayError):
    """There are no WebSockets here; send the request by POST."""

    status = 426
    code = "websocket_not_served"


class BodyTooLarge(GatewayError):
    """The body is over 32 MiB."""

    status = 413
    code = "body_too_large"


class InputTooLong(GatewayError):
    """The request is estimated at more input tokens than this account allows."""

    status = 413
    code = "input_too_long"


class BodyTooSlow(GatewayError):
    """The body did not arrive in time."""

    status = 408
    code = "body_too_slow"


class HeadTooSlow(GatewayError):
    """The request's head did not arrive in time."""

    status = 408
    code = "head_too_slow"


class HeadTooLarge(GatewayError):
    """The request's head is too large."""

    status = 431
    code = "head_too_large"


class TooManyHeaders(GatewayError):
    """The request has too many headers."""

    status = 431
    code = "too_many_headers"


class NotServed(GatewayError):
    """Nothing that this request names may be reached with this access key."""

    status = 404
    code = "not_served"


class ProviderUnknown(NotServed):
    """The provider is not known."""

    code = "provider_unknown"


class ModelUnknown(NotServed):
    """The model is not known."""

    code = "model_unknown"


class ProviderNotAllowed(NotServed):
    """The access key's configuration does not allow the provider."""

    code = "provider_not_allowed"


class ModelNotAllowed(NotServed):
    """The access key's configuration does not allow the model."""

    code = "model_not_allowed"


class SurfaceNotServed(NotServed):
    """The provider does not serve this API."""

    code = "surface_not_served"


class RateLimited(GatewayError):
    """Every attempt was refused by a rate limit upstream."""

    status = 429
    code = "rate_limited"


class RequestsInFlight(GatewayError):
    """There are as many requests in flight as there may be."""

    status = 429
    code = "requests_in_flight"


class BodiesInFlight(GatewayError):
    """The bodies of the requests in flight are as long as they may be together."""

    status = 429
    code = "bodies_in_flight"


class AttemptsFailed(GatewayError):
    """Every attempt failed."""

    status = 502
    code = "attempts_failed"

    def __init__(
        self,
        message: str | None = None,
        *,
        retry_after: float | None = None,
        headers: Sequence[tuple[bytes, bytes]] = (),
        by_keys: bool = False,
    ) -> None:
        """
        Args:
            message, retry_after, headers: as every error has them.
            by_keys: whether each attempt failed by its key.
        """
        super().__init__(message, retry_after=retry_after, headers=headers)
        self._by_keys = by_keys

    @property
    def is_lasting(self) -> bool:
        """Whether each attempt failed by its key: the keys are the same at the next time."""
        return self._by_keys


class AnswerCut(GatewayError):
    """The upstream ended its answer before it was complete."""

    status = 502
    code = "answer_cut"


class TotalTimeout(GatewayError):
    """The account's total timeout passed before an answer came."""

    status = 504
    code = "total_timeout"


class StreamTimeout(GatewayError):
    """The account's stream timeout passed before the stream ended."""

    status = 504
    code = "stream_timeout"


class Unavailable(GatewayError):
    """The gateway cannot decide about this request at the moment; try again."""

    status = 503
    code = "unavailable"

    def __init__(self, message: str | None = None, *, retry_after: int = 1) -> None:
        super().__init__(message, retry_after=retry_after)


class SnapshotUnavailable(Unavailable):
    """This worker cannot judge the access key at the moment; try again."""

    code = "snapshot_unavailable"


class SnapshotStale(Unavailable):
    """This worker has been without news for longer than it may decide from what it knows."""

    code = "snapshot_stale"


class SnapshotUnfit(Unavailable):
    """What this worker holds of the account is not complete; try again."""

    code = "snapshot_unfit"


class KeysUnusable(Unavailable):
    """None of the provider keys could be opened by this worker."""

    code = "keys_unusable"


class ShuttingDown(Unavailable):
    """This worker is shutting down."""

    code = "shutting_down"


class WorkerFull(Unavailable):
    """This worker has as many requests, or bytes of their bodies, in flight as it takes; try again."""

    code = "worker_full"


class TooManyConnections(Unavailable):
    """This worker has as many connections as it takes; try again."""

    code = "too_many_connections"


class TooManyConnectionsOfAddress(Unavailable):
    """There are as many connections from this address as one address may have."""

    code = "too_many_connections_of_address"


_DENIALS: Final[dict[DenialCode, type[GatewayError]]] = {
    DenialCode.PROVIDER_UNKNOWN: ProviderUnknown,
    DenialCode.MODEL_UNKNOWN: ModelUnknown,
    DenialCode.PROVIDER_NOT_ALLOWED: ProviderNotAllowed,
    DenialCode.MODEL_NOT_ALLOWED: ModelNotAllowed,
    DenialCode.SURFACE_NOT_SERVED: SurfaceNotServed,
    DenialCode.NO_CREDENTIALS: NoCredentials,
    DenialCode.NO_CREDITS: NoCredits,
}


def of_denial(denial: Denial, surface: Surface | None = None) -> GatewayError:
    """The error for a denial of the policy, with the status that the surface's clients show to their users."""
    rejected = [(b"gateway-rejected-models", denial.rejected.encode("ascii"))] if denial.rejected else []
    error = _DENIALS[denial.code](denial.message, param="model", headers=rejected)
    if surface is Surface.RESPONSES and isinstance(error, NotServed):
        error.status = BadRequest.status
    return error


# Of 4xx, these alone may be mended by the same request at another time.
_PASSING: Final = frozenset({408, 409, 425, 429})


def is_lasting(status: int) -> bool:
    """Whether a refusal with this status comes again when its request does."""
    return status in _REFUSALS and status not in _PASSING


_REFUSALS: Final = range(400, 500)
