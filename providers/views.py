"""The views of `/providers`."""

from typing import Any

from django.db import connection
from django.db.models import QuerySet
from django.urls import URLPattern
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.owned.views import OwnedViews, routes_of
from providers import base_url_check, services
from providers.models import Provider
from providers.serializers import ProviderChangeForm, ProviderCreateForm, ProviderSerializer


class ProviderViews(OwnedViews):
    """`/providers`: the custom providers. The built-in ones are in the catalog."""

    model = Provider
    list_key = "aiGatewayProviders"
    shape = ProviderSerializer
    forms = {"create": ProviderCreateForm, "partial_update": ProviderChangeForm}

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """As DRF; then ask the resolver, before an Idempotency-Key opens a transaction."""
        super().initial(request, *args, **kwargs)
        self._resolve: base_url_check.Resolve = base_url_check.look_up(None)
        if self.action in self.forms and isinstance(request.data, dict) and "baseUrl" in request.data:
            if not connection.in_atomic_block:
                # Do not hold a database connection while waiting for the resolver.
                connection.close()
            self._resolve = base_url_check.look_up(request.data["baseUrl"])

    def get_serializer_context(self) -> dict[str, Any]:
        """As RestViews, with `resolve`, which returns the addresses that were looked up."""
        return {**super().get_serializer_context(), "resolve": self._resolve}

    def items(self) -> QuerySet[Any]:
        """The account's custom providers with their models."""
        return super().items().prefetch_related("models")

    def create(self, _request: Request) -> Response:
        """Create a custom provider of the account."""
        values = self.read(ProviderCreateForm)
        return self.created(services.create_provider(account=self.account, by=self.principal, **values))

    def partial_update(self, _request: Request, id: str) -> Response:  # noqa: A002 -- the path parameter's name
        """Change a custom provider. `models` and `supportedApiSurfaces` are replaced as a whole."""
        provider, if_match = self.found(id), self.if_match()
        changes = self.read(ProviderChangeForm, item=provider)
        return self.shown(services.update_provider(provider=provider, by=self.principal, if_match=if_match, **changes))

    def destroy(self, _request: Request, id: str) -> Response:  # noqa: A002
        """Delete a custom provider. This is refused while a provider key or a configuration names it."""
        services.delete_provider(provider=self.found(id), by=self.principal, if_match=self.if_match())
        return self.deleted()


ROUTES: list[URLPattern] = routes_of(ProviderViews)
