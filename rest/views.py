"""The base class of every view of the management API.

A view is thin: `self.read(Form)` → service → `self.created(item)` or `self.shown(item)`. This class does what all views
share: HEAD, bodies, ETag and If-Match, Idempotency-Key, the headers that report on the data plane after a write, and
`Cache-Control: no-store`.
"""

from collections.abc import Callable
from typing import Any, ClassVar, Final

from django.db.models import Model
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import ViewSet

from rest import idempotency, propagation, query_parameters, read_only, uris
from rest.errors import JsonInvalid
from rest.preconditions import IfMatch, etag_of
from rest.serializers import ShownSerializer, StrictSerializer

_WITH_BODY: Final = frozenset({"POST", "PATCH"})
_FIRST_REFUSAL: Final = 400
_READS: Final = frozenset({"GET", "HEAD"})
_WRITES: Final = frozenset({"POST", "PATCH", "DELETE"})


class RestViews(ViewSet):
    """The views of one resource."""

    http_method_names = ["get", "head", "post", "patch", "delete"]

    # The wire form of one object of this resource.
    shape: ClassVar[type[ShownSerializer]]
    # For the OpenAPI document: the form that an action reads, and the shape that it shows if it is not `shape`.
    forms: ClassVar[dict[str, type[StrictSerializer]]] = {}
    shapes: ClassVar[dict[str, type[ShownSerializer]]] = {}
    # The list's own query parameters: `{"provider": {"description": …, "schema": …}}`.
    filters: ClassVar[dict[str, dict[str, Any]]] = {}
    # Actions that have a body but write nothing.
    questions: ClassVar[frozenset[str]] = frozenset()

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """As DRF, with Idempotency-Key and the headers that report on the data plane."""
        self.args, self.kwargs = args, kwargs
        self.request = self.initialize_request(request, *args, **kwargs)
        self.headers = self.default_response_headers
        try:
            self.initial(self.request, *args, **kwargs)
            method = (self.request.method or "").lower()
            handler = getattr(self, method, None) if method in self.http_method_names else None
            # Probes and readers of what is public may add what they like.
            if handler is not None and self.permission_classes:
                query_parameters.check(self.request, self.query_names())
            propagation.begin()
            response = self._respond(handler or self.http_method_not_allowed)
            if self.is_write and response.status_code < _FIRST_REFUSAL:
                propagation.add_headers(self.request, response, is_awaited=self.is_awaited())
        except Exception as exception:  # noqa: BLE001 -- the one place where errors become answers; unknown ones are raised again
            response = self.handle_exception(exception)
        self.response = self.finalize_response(self.request, response, *args, **kwargs)
        return self.response

    @property
    def is_write(self) -> bool:
        """Whether this request changes something that an account owns."""
        return self.request.method in _WRITES and self.action not in self.questions and bool(self.permission_classes)

    def query_names(self) -> list[str]:
        """The query parameters that this request may have."""
        return [
            *(("limit",) if self.action == "list" else ()),
            *(self.filters if self.request.method in _READS else ()),
        ]

    def is_awaited(self) -> bool:
        """Whether this write waits for the workers for a moment if the client states no preference."""
        return False

    def _respond(self, handler: Callable[..., Response]) -> Response:
        request = self.request

        def respond() -> Response:
            return handler(request, *self.args, **self.kwargs)

        if request.method not in _WITH_BODY or handler == self.http_method_not_allowed:
            return respond()
        # A malformed header is refused whether or not the answer is on record.
        self.if_match()
        if str(request.META.get("CONTENT_LENGTH") or "0") == "0":
            # DRF would treat a missing body as an empty object.
            raise JsonInvalid("The body is empty; it must be a JSON object.")
        key = idempotency.key_of(request)
        return respond() if key is None else self.answer_once(key, respond)

    def answer_once(self, key: idempotency.Key, respond: Callable[[], Response]) -> Response:
        """Return the recorded answer to this request, or make one with `respond` and record it.

        Raises:
            IdempotencyKeyInUse: another request with this key is in progress.
            IdempotencyKeyReused: the record belongs to a request with another body.
        """
        raise NotImplementedError

    def finalize_response(self, request: Request, response: Response, *args: Any, **kwargs: Any) -> Response:
        """As DRF, and forbid caches to store the answer."""
        response = super().finalize_response(request, response, *args, **kwargs)
        response.headers["Cache-Control"] = "no-store"
        return response

    def get_serializer_context(self) -> dict[str, Any]:
        """`{"request": …}`: shapes need the request to write URIs."""
        return {"request": self.request}

    def read(self, form: type[StrictSerializer], *, item: Any = None) -> dict[str, Any]:
        """The body as validated values by their Python names.

        Args:
            form: the form that checks the body.
            item: the object that a PATCH changes. Then the result has only the fields that were given; None clears
                one. Members that are read only are accepted if the object has them so (rest.read_only).

        Raises:
            rest_framework.exceptions.ValidationError: the body breaks a rule (422); it has every fault by JSON path.
            rest.errors.RequestMalformed, BodyTooLarge, MediaTypeUnsupported: the body cannot be read.
        """
        data, partial = self.request.data, item is not None
        shown = self.data_of(item) if partial else {}
        context = {**self.get_serializer_context(), "item": item, "shown": shown}
        asked = form(data=data, partial=partial, context=context)
        if partial:
            asked.initial_data = read_only.without_own(data, shown, asked.fields)
        asked.is_valid(raise_exception=True)
        values: dict[str, Any] = dict(asked.validated_data)
        return values

    def if_match(self) -> IfMatch:
        """The parsed If-Match header. Services check it while they hold the row's lock."""
        return IfMatch.parse(self.request.META.get("HTTP_IF_MATCH"))

    def data_of(self, item: Any) -> Any:
        """An object as a JSON object, in this view's shape."""
        return self.shape(item, context=self.get_serializer_context()).data

    def shown(self, item: Model, data: Any = None) -> Response:
        """200 with the object and its ETag."""
        return Response(self.data_of(item) if data is None else data, headers={"ETag": etag_of(item)})

    def created(self, item: Any, data: Any = None) -> Response:
        """201 with the object, its Location and its ETag.

        Args:
            item: the new row.
            data: the body, if it contains more than the object (a token).
        """
        location = uris.absolute(self.request, f"{item.path}/{item.text_id}")
        shown = self.data_of(item) if data is None else data
        return Response(shown, status=201, headers={"Location": location, "ETag": etag_of(item)})

    def deleted(self) -> Response:
        """204 without a body."""
        return Response(status=204)
