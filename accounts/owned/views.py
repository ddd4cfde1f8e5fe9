"""The base classes of the views that need an API key, and of those that list and show an account's objects."""

import uuid
from collections.abc import Callable
from typing import Any, ClassVar, Final, cast

from django.db.models import QuerySet
from django.urls import URLPattern, path
from rest_framework.request import Request
from rest_framework.response import Response

from accounts import idempotency
from accounts.authentication import AccountRequest
from accounts.models import Account
from accounts.owned.models import OwnedModel
from accounts.principals import Principal
from gateway_core import ids
from rest.errors import NotFound
from rest.idempotency import Key
from rest.pagination import one_value, page_of
from rest.views import RestViews

NAME_FILTER: Final = {
    "description": "Show only the objects with exactly this name.",
    "schema": {"type": "string"},
}


class AccountViews(RestViews):
    """Views of the account whose API key makes the request."""

    @property
    def account(self) -> Account:
        """The account of the API key that makes the request."""
        return cast("AccountRequest", self.request).account

    @property
    def principal(self) -> Principal:
        """The API key as the author of writes."""
        return cast("AccountRequest", self.request).principal

    def answer_once(self, key: Key, respond: Callable[[], Response]) -> Response:
        """As `accounts.idempotency.answer_once`, for the current request."""
        return idempotency.answer_once(self.request, key, respond)


class OwnedViews(AccountViews):
    """Lists and shows one kind of object that an account owns. Each resource adds its writes."""

    model: ClassVar[type[OwnedModel]]
    # The field of the answer that contains the list's items.
    list_key: ClassVar[str]

    filters = {"name": NAME_FILTER}

    def query_names(self) -> list[str]:
        """As RestViews; the filters belong to the list alone."""
        return ["limit", "beforeId", *self.filters] if self.action == "list" else []

    def items(self) -> QuerySet[Any]:
        """The account's objects of this kind, with the joins and prefetches that the shape needs."""
        return self.model._default_manager.filter(account=self.account)

    def filtered(self) -> QuerySet[Any]:
        """The objects of the list: `items`, filtered by the query. A resource with more filters extends this."""
        name = one_value(self.request, "name")
        if name is None:
            return self.items()
        # PostgreSQL refuses this character in a text, so no object has it.
        return self.items().none() if "\0" in name else self.items().filter(name=name)

    def found(self, text_id: str) -> Any:
        """The account's object with this ID.

        Raises:
            NotFound: the text is not an ID, or the account has no object with it.
        """
        item = self.items().filter(id=self.uuid_of(text_id)).first()
        if item is None:
            raise NotFound
        return item

    def uuid_of(self, text_id: str) -> uuid.UUID:
        """The UUID behind an ID in the path.

        Raises:
            NotFound: it is not an ID of this kind.
        """
        try:
            return ids.from_text(self.model.id_prefix, text_id)
        except ids.InvalidId:
            raise NotFound from None

    def list(self, request: Request) -> Response:
        """List one page, newest first."""
        page = page_of(request, self.filtered(), self.model.id_prefix)
        shown = self.shape(page.items, many=True, context=self.get_serializer_context()).data
        return Response({self.list_key: shown, "uri": page.uri, "nextPageUri": page.next_page_uri})

    def retrieve(self, _request: Request, id: str) -> Response:  # noqa: A002 -- the path parameter's name
        """Show one object."""
        return self.shown(self.found(id))


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
