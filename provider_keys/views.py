"""`/provider-keys`."""

from typing import Any

from django.db.models import QuerySet
from django.urls import URLPattern, path
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.owned.views import OwnedViews, routes_of
from provider_keys import services
from provider_keys.models import ProviderKey
from provider_keys.serializers import (
    ProviderKeyChangeForm,
    ProviderKeyCreateForm,
    ProviderKeyRotateForm,
    ProviderKeySerializer,
)
from providers.provider_names import KnownProviders
from rest.pagination import one_value


class ProviderKeyViews(OwnedViews):
    """`/provider-keys`."""

    model = ProviderKey
    list_key = "aiGatewayProviderKeys"
    shape = ProviderKeySerializer
    forms = {
        "create": ProviderKeyCreateForm,
        "partial_update": ProviderKeyChangeForm,
        "rotate": ProviderKeyRotateForm,
    }

    filters = {
        "provider": {
            "description": "Only the keys of this provider, by its ID; of an unknown one there are none.",
            "schema": {"type": "string"},
        }
    }

    def filtered(self) -> QuerySet[Any]:
        """The account's provider keys, of one `provider` where the query names one; an unknown one has none."""
        items = self.items().defer("sealed", "fingerprint")
        name = one_value(self.request, "provider")
        if name is None:
            return items
        if "\0" in name:  # no text to PostgreSQL
            return items.none()
        return items.filter(provider=KnownProviders.of(self.account).find(name) or name)

    def is_awaited(self) -> bool:
        """Whoever rotates wants to know that the old value is not used any more."""
        return self.action == "rotate"

    def create(self, _request: Request) -> Response:
        """Store an upstream's key, sealed."""
        values = self.read(ProviderKeyCreateForm)
        return self.created(services.create_provider_key(account=self.account, by=self.principal, **values))

    def partial_update(self, _request: Request, id: str) -> Response:  # noqa: A002 -- the path parameter's name
        """Change name, description or metadata of a provider key."""
        provider_key, if_match = self.found(id), self.if_match()
        changes = self.read(ProviderKeyChangeForm, partial=True)
        return self.shown(
            services.update_provider_key(provider_key=provider_key, by=self.principal, if_match=if_match, **changes)
        )

    def destroy(self, _request: Request, id: str) -> Response:  # noqa: A002
        """Forget a provider key for ever. Refused while a routing rule names it."""
        services.delete_provider_key(provider_key=self.found(id), by=self.principal, if_match=self.if_match())
        return self.deleted()

    def rotate(self, _request: Request, id: str) -> Response:  # noqa: A002
        """Put a new value under the same ID; every configuration goes on working with no change."""
        provider_key, if_match = self.found(id), self.if_match()
        values = self.read(ProviderKeyRotateForm)
        return self.shown(
            services.rotate_provider_key(provider_key=provider_key, by=self.principal, if_match=if_match, **values)
        )


ROUTES: list[URLPattern] = [
    *routes_of(ProviderKeyViews),
    path(
        f"{ProviderKey.path}/<str:id>/rotate", ProviderKeyViews.as_view({"post": "rotate"}), name="provider-keys-rotate"
    ),
]
