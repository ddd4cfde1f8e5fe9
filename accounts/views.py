"""The views of what an account owns, and of its API keys."""

import uuid
from typing import Any, ClassVar, cast

from django.db.models import QuerySet
from django.urls import URLPattern, path
from rest_framework.request import Request
from rest_framework.response import Response

from accounts import services
from accounts.authentication import AccountRequest
from accounts.models import Account, ApiKey, OwnedModel
from accounts.principals import Principal
from accounts.serializers import ApiKeyForm, ApiKeySerializer, IssuedApiKeySerializer
from gateway_core import ids
from rest.errors import NotFound
from rest.pagination import page_of
from rest.views import RestViews


class OwnedViews(RestViews):
    """Lists and shows one kind of thing that an account owns; its writes are the resource's own."""

    model: ClassVar[type[OwnedModel]]
    # The key of the list's items in its answer.
    list_key: ClassVar[str]

    @property
    def account(self) -> Account:
        """Whose request this is."""
        return cast("AccountRequest", self.request).account

    @property
    def principal(self) -> Principal:
        """Who makes it."""
        return cast("AccountRequest", self.request).principal

    def items(self) -> QuerySet[Any]:
        """All that the account has of this kind, with what its shape needs joined or prefetched."""
        return self.model._default_manager.filter(account=self.account)

    def filtered(self) -> QuerySet[Any]:
        """What the list shows: `items`, narrowed by the resource's own query parameters."""
        return self.items()

    def found(self, text_id: str) -> Any:
        """The account's object with this ID.

        Raises:
            NotFound: no ID, another account's, or nobody's.
        """
        item = self.items().filter(id=self.uuid_of(text_id)).first()
        if item is None:
            raise NotFound
        return item

    def uuid_of(self, text_id: str) -> uuid.UUID:
        """The UUID behind an ID in the path.

        Raises:
            NotFound: it is no ID of this kind.
        """
        try:
            return ids.from_text(self.model.id_prefix, text_id)
        except ids.InvalidId:
            raise NotFound from None

    def list(self, request: Request) -> Response:
        """One page, newest first."""
        page = page_of(request, self.filtered(), self.model.id_prefix)
        shown = self.shape(page.items, many=True, context=self.get_serializer_context()).data
        return Response({self.list_key: shown, "uri": page.uri, "nextPageUri": page.next_page_uri})

    def retrieve(self, _request: Request, id: str) -> Response:  # noqa: A002 -- the path parameter's name
        """One object."""
        return self.shown(self.found(id))


class ApiKeyViews(OwnedViews):
    """`/api-keys`."""

    model = ApiKey
    list_key = "aiGatewayApiKeys"
    shape = ApiKeySerializer
    forms = {"create": ApiKeyForm, "partial_update": ApiKeyForm}
    shapes = {"create": IssuedApiKeySerializer}

    def create(self, _request: Request) -> Response:
        """Issue an API key. Its token is in this answer and nowhere else."""
        issued = services.create_api_key(account=self.account, by=self.principal, **self.read(ApiKeyForm))
        return self.created(issued.api_key, IssuedApiKeySerializer(issued, context=self.get_serializer_context()).data)

    def partial_update(self, _request: Request, id: str) -> Response:  # noqa: A002
        """Change an API key."""
        api_key, if_match = self.found(id), self.if_match()
        changes = self.read(ApiKeyForm, partial=True)
        return self.shown(services.update_api_key(api_key=api_key, by=self.principal, if_match=if_match, **changes))

    def destroy(self, _request: Request, id: str) -> Response:  # noqa: A002
        """Revoke an API key for ever."""
        services.delete_api_key(api_key=self.found(id), by=self.principal, if_match=self.if_match())
        return self.deleted()


def routes_of(views: type[OwnedViews]) -> list[URLPattern]:
    """The two routes of a resource: its list and its items."""
    place = views.model.path
    return [
        path(place, views.as_view({"get": "list", "post": "create"}), name=place),
        path(
            f"{place}/<str:id>",
            views.as_view({"get": "retrieve", "patch": "partial_update", "delete": "destroy"}),
            name=f"{place}-item",
        ),
    ]
