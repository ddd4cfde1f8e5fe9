"""The OpenAPI document over HTTP, and the page that shows it. Both need no API key."""

from functools import cache
from typing import Any

from csp.decorators import csp_update
from django.utils.decorators import method_decorator
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.views import SpectacularSwaggerSplitView
from rest_framework.request import Request
from rest_framework.response import Response

from rest import uris
from rest.views import RestViews


@cache
def document() -> dict[str, Any]:
    """The OpenAPI document of this release. It takes half a second to build and is built once per process."""
    generator: Any = SchemaGenerator
    made: dict[str, Any] = generator().get_schema(request=None, public=True)
    return made


class DocumentViews(RestViews):
    """`/openapi.json`: the OpenAPI document of this release."""

    authentication_classes = ()
    permission_classes = ()
    schema = None

    def retrieve(self, request: Request) -> Response:
        """The document, naming the base that the client called."""
        return Response({**document(), "servers": [{"url": uris.base_of(request)}]})


@method_decorator(csp_update({"style-src": ["'self'", "'unsafe-inline'"]}), name="dispatch")
class ReaderView(SpectacularSwaggerSplitView):
    """`/docs`: the page that shows the OpenAPI document.

    Its scripts come from our static files and from this view. The page's own inline styles are allowed as well.
    """

    authentication_classes = ()
    permission_classes = ()
    schema = None
    http_method_names = ["get", "head"]
    url_name = "openapi"
