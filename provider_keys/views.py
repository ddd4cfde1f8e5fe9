""" "The provider keys of the account: `/provider-keys`."""

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
    """ "The provider keys of the account: `/provider-keys`."""

    model = ProviderKey
    list_key = "aiGatewayProviderKeys"
    shape = ProviderKeySerializer
    forms = {
        "create": ProviderKeyCreateForm,
        "partial_update": ProviderKeyChangeForm,
        "rotate": ProviderKeyRotateForm,
    }

    filters = {
        **OwnedViews.filters,
        "provider": {
            "description": "Show only the keys of this provider, by its ID. An unknown ID gives an empty list.",
            "schema": {"type": "string"},
        },
    }

    def filtered(self) -> QuerySet[Any]:
        """The account's provider keys, only those of `provider` if the query names one; empty for an unknown one."""
        items = super().filtered().defer("sealed", "fingerprint")
        name = one_value(self.request, "provider")
        if name is None:
            return items
        if "\0" in name:  # PostgreSQL refuses this character in a text
            return items.none()
        return items.filter(provider=KnownProviders.of(self.account).find(name) or name)

    def is_awaited(self) -> bool:
        """True for a rotation: its client wants to know when the old value is not used any more."""
        return self.action == "rotate"

    def create(self, _request: Request) -> Response:
        """Store an upstream's key, sealed."""
        values = self.read(ProviderKeyCreateForm)
        return self.created(services.create_provider_key(account=self.account, by=self.principal, **values))

    def partial_update(self, _request: Request, id: str) -> Response:  # noqa: A002 -- the path parameter's name
        """Change name, description or metadata of a provider key."""
        provider_key, if_match = self.found(id), self.if_match()
        changes = self.read(ProviderKeyChangeForm, item=provider_key)
        return self.shown(
            services.update_provider_key(provider_key=provider_key, by=self.principal, if_match=if_match, **changes)
        )

    def destroy(self, _request: Request, id: str) -> Response:  # noqa: A002
        """Delete a provider key. This is refused while a routing rule names it."""
        services.delete_provider_key(provider_key=self.found(id), by=self.principal, if_match=self.if_match())
        return self.deleted()

    def rotate(self, _request: Request, id: str) -> Response:  # noqa: A002
        """Store a new value under the same ID. Configurations need no change."""
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
