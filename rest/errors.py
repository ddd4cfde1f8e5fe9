"""Every error of this API, and the one form that a client sees it in: `{errorCode, statusCode, msg, details}`.

The classes are grouped by what the caller can do: look elsewhere, change the request, change the state first, or try
again later. A rule's own error derives from one of these classes and stands in the room that holds the rule. Its
docstring is the message, its `code` is the stable `errorCode`, and docs/errors.md lists it. Only the last part of
this module knows HTTP.
"""

import inspect
from collections.abc import Mapping
from typing import Any, ClassVar, Final

import orjson
import structlog
from django.core import exceptions as django_exceptions
from django.db import InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse
from django.http.request import UnreadablePostError
from psycopg.errors import ReadOnlySqlTransaction
from rest_framework import exceptions as drf
from rest_framework.response import Response

from gateway_core.redaction import redact

_logger = structlog.get_logger(__name__)

_LONGEST_PATH: Final = 200
# The path of the body as a whole. The paths of its fields do not begin with it (`router.rules[0]`).
ROOT: Final = "$"


class GatewayError(Exception):
    """The request was refused."""

    code: ClassVar[str] = "refused"

    def __init__(self, message: str | None = None, *, details: Mapping[str, str] | None = None) -> None:
        """
        Args:
            message: replaces the class's own message; it must not contain a value that was sent.
            details: a text for each faulty JSON path of the request.
        """
        super().__init__(message or type(self).message())
        self.details = dict(details or {})

    @classmethod
    def message(cls) -> str:
        """The default message: the class's docstring on one line."""
        return " ".join(inspect.cleandoc(cls.__doc__ or "").split())


class NotFound(GatewayError):
    """This account has no such object."""

    code = "not_found"


class Unauthenticated(GatewayError):
    """The request has no API key, or a malformed one. Send `Authorization: Bearer <API key>`."""

    code = "unauthenticated"


class ApiKeyInvalid(Unauthenticated):
    """This API key is not valid: it is unknown, disabled or expired."""

    code = "api_key_invalid"


class Forbidden(GatewayError):
    """This is not allowed."""

    code = "forbidden"


class RequestMalformed(GatewayError):
    """The request cannot be read."""

    code = "request_malformed"


class JsonInvalid(RequestMalformed):
    """The body is not valid JSON in UTF-8."""

    code = "json_invalid"


class QueryInvalid(RequestMalformed):
    """A query parameter has an invalid value."""

    code = "query_invalid"


class HeaderInvalid(RequestMalformed):
    """A header has an invalid value."""

    code = "header_invalid"


class MethodNotAllowed(GatewayError):
    """This resource does not support this method; the Allow header lists the supported methods."""

    code = "method_not_allowed"


class MediaTypeUnsupported(GatewayError):
    """The body must be JSON: `Content-Type: application/json`."""

    code = "media_type_unsupported"


class RequestTimedOut(GatewayError):
    """The request did not arrive in time."""

    code = "request_timed_out"


class HeadTooLarge(GatewayError):
    """The request's line and headers are larger than 64 KiB."""

    code = "head_too_large"


class BodyTooLarge(GatewayError):
    """The body is larger than 1 MiB."""

    code = "body_too_large"


class InvalidRequest(GatewayError):
    """The request breaks a rule; `details` has a text for each faulty JSON path."""

    code = "invalid_request"


class Conflict(GatewayError):
    """The current state does not allow this."""

    code = "conflict"


class PreconditionFailed(GatewayError):
    """The object has changed since the version in If-Match; read it again."""

    code = "precondition_failed"


class TooManyRequests(GatewayError):
    """There are too many requests; try again after the time in Retry-After."""

    code = "too_many_requests"
    retry_after_seconds: ClassVar[int] = 1


class Unavailable(GatewayError):
    """The service cannot answer at the moment; try again after the time in Retry-After."""

    code = "unavailable"
    retry_after_seconds: ClassVar[int] = 1


class DatabaseReadOnly(Unavailable):
    """The database takes no writes at the moment. Nothing was changed; try again after the time in Retry-After."""

    code = "database_read_only"
    retry_after_seconds = 5


class Busy(Unavailable):
    """This process serves as many others as it can at the moment; come back after the time in Retry-After."""

    code = "busy"


class InternalError(GatewayError):
    """An unexpected error occurred. It has been logged."""

    code = "internal_error"


def json_path(parts: tuple[str | int, ...]) -> str:
    """Join the parts of a path: `router.rules[0].steps[0].keys`.

    A part may be a name that the client chose, so text that looks like a secret is masked, and the path is cut after
    200 characters.
    """
    path = ""
    for part in parts:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else part
    return redact(path)[:_LONGEST_PATH] or ROOT


# From here on: HTTP.

_STATUSES: Final[dict[type[GatewayError], int]] = {
    RequestMalformed: 400,
    Unauthenticated: 401,
    Forbidden: 403,
    NotFound: 404,
    MethodNotAllowed: 405,
    RequestTimedOut: 408,
    Conflict: 409,
    PreconditionFailed: 412,
    BodyTooLarge: 413,
    MediaTypeUnsupported: 415,
    InvalidRequest: 422,
    TooManyRequests: 429,
    HeadTooLarge: 431,
    InternalError: 500,
    Unavailable: 503,
}


def statuses() -> dict[type[GatewayError], int]:
    """Every base error class with its HTTP status."""
    return dict(_STATUSES)


def status_of(kind: type[GatewayError]) -> int:
    """The HTTP status of an error class: its own, or that of its nearest base class."""
    return next((_STATUSES[one] for one in kind.__mro__ if one in _STATUSES), 500)


def body_of(error: GatewayError) -> dict[str, Any]:
    """The body that the client sees: `{errorCode, statusCode, msg, details}`."""
    return {
        "errorCode": error.code,
        "statusCode": status_of(type(error)),
        "msg": str(error),
        "details": error.details,
    }


def headers_of(error: GatewayError) -> dict[str, str]:
    """The headers of an error: WWW-Authenticate for 401, Retry-After for 429 and 503."""
    if isinstance(error, Unauthenticated):
        return {"WWW-Authenticate": "Bearer"}
    if isinstance(error, TooManyRequests | Unavailable):
        return {"Retry-After": str(error.retry_after_seconds)}
    return {}


def http_response(error: GatewayError) -> HttpResponse:
    """The response for an error that was raised outside of a DRF view."""
    body = orjson.dumps(body_of(error))
    return HttpResponse(
        body,
        status=status_of(type(error)),
        content_type="application/json",
        headers={**headers_of(error), "Cache-Control": "no-store", "Content-Length": str(len(body))},
    )


def respond_to_exception(exception: Exception, context: Mapping[str, Any]) -> Response | None:
    """DRF's exception handler: our response for a known error; None for an unknown one, which Django logs as a 500."""
    del context
    error = translate(exception)
    if error is None:
        return None
    if isinstance(error, Unavailable):
        _logger.warning("request_refused", code=error.code, cause=type(exception).__name__)
    return Response(body_of(error), status=status_of(type(error)), headers=headers_of(error))


def translate(exception: BaseException) -> GatewayError | None:
    """Turn a framework's exception into our error; None for an unexpected one."""
    if isinstance(exception, GatewayError):
        return exception
    if isinstance(exception, drf.ValidationError):
        return InvalidRequest(details=details_of(exception.detail))
    if getattr(exception.__cause__, "sqlstate", None) == ReadOnlySqlTransaction.sqlstate:
        return DatabaseReadOnly()
    for kinds, error in _TRANSLATIONS:
        if isinstance(exception, kinds):
            return error()
    return None


_TRANSLATIONS: Final[tuple[tuple[tuple[type[BaseException], ...], type[GatewayError]], ...]] = (
    ((Http404, drf.NotFound), NotFound),
    ((drf.NotAuthenticated, drf.AuthenticationFailed), Unauthenticated),
    ((drf.PermissionDenied, django_exceptions.PermissionDenied), Forbidden),
    ((drf.MethodNotAllowed,), MethodNotAllowed),
    ((drf.UnsupportedMediaType,), MediaTypeUnsupported),
    ((drf.Throttled,), TooManyRequests),
    ((django_exceptions.RequestDataTooBig,), BodyTooLarge),
    ((drf.ParseError, django_exceptions.BadRequest, django_exceptions.SuspiciousOperation), RequestMalformed),
    ((UnreadablePostError,), RequestTimedOut),
    # The database is unreachable, or a wait for a lock timed out. Nothing was changed; a retry may succeed soon.
    ((OperationalError, InterfaceError), Unavailable),
)


def details_of(detail: Any) -> dict[str, str]:
    """Flatten DRF's nested errors into `{JSON path: text}`."""
    found: dict[str, str] = {}
    _flatten(detail, (), found)
    return found


def _flatten(detail: Any, path: tuple[str | int, ...], found: dict[str, str]) -> None:
    if isinstance(detail, Mapping):
        for name, inner in detail.items():
            _flatten(inner, path if name == "non_field_errors" else (*path, name), found)
    elif isinstance(detail, list | tuple):
        texts = [str(one) for one in detail if isinstance(one, str)]
        if texts:
            where = json_path(path)
            found[where] = " ".join((found[where], *texts) if where in found else texts)
        for index, inner in enumerate(detail):
            if not isinstance(inner, str):
                _flatten(inner, (*path, index), found)
    else:
        found[json_path(path)] = str(detail)


def route_unknown(_request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    """Django's handler for a path that no route matches."""
    del exception
    return http_response(NotFound("This path does not exist; paths have no trailing slash."))


def request_refused(_request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    """Django's handler for a request that Django refuses, for example because of an unknown Host header."""
    error = translate(exception) if exception else None
    return http_response(error or RequestMalformed())


def permission_refused(_request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    """Django's handler for PermissionDenied."""
    del exception
    return http_response(Forbidden())


def failed(_request: HttpRequest) -> HttpResponse:
    """Django's handler for an exception that nobody caught; Django has logged it."""
    return http_response(InternalError())
