"""The views of API keys, and of the account's quotas."""

from typing import Final

from django.urls import URLPattern, path
from rest_framework.request import Request
from rest_framework.response import Response

from accounts import quotas, services
from accounts.models import ApiKey
from accounts.owned.views import AccountViews, OwnedViews, routes_of
from accounts.serializers import ApiKeyForm, ApiKeySerializer, IssuedApiKeySerializer, QuotasSerializer


class ApiKeyViews(OwnedViews):
    """`/api-keys`: the API keys of the account."""

    model = ApiKey
    list_key = "aiGatewayApiKeys"
    shape = ApiKeySerializer
    forms = {"create": ApiKeyForm, "partial_update": ApiKeyForm}
    shapes = {"create": IssuedApiKeySerializer}

    def create(self, _request: Request) -> Response:
        """Create an API key. Only this answer contains its token."""
        issued = services.create_api_key(account=self.account, by=self.principal, **self.read(ApiKeyForm))
        return self.created(issued.api_key, IssuedApiKeySerializer(issued, context=self.get_serializer_context()).data)

    def partial_update(self, _request: Request, id: str) -> Response:  # noqa: A002
        """Change an API key."""
        api_key, if_match = self.found(id), self.if_match()
        changes = self.read(ApiKeyForm, item=api_key)
        return self.shown(services.update_api_key(api_key=api_key, by=self.principal, if_match=if_match, **changes))

    def destroy(self, _request: Request, id: str) -> Response:  # noqa: A002
        """Delete an API key. Its token is not valid any more."""
        services.delete_api_key(api_key=self.found(id), by=self.principal, if_match=self.if_match())
        return self.deleted()


class QuotasViews(AccountViews):
    """`/quotas`: how many objects the account may have, and how many it has."""

    shape = QuotasSerializer

    def retrieve(self, _request: Request) -> Response:
        """Show every quota of the account."""
        return Response(self.data_of({"quotas": quotas.uses_of(self.account.id)}))


ROUTES: Final[list[URLPattern]] = [
    *routes_of(ApiKeyViews),
    path("quotas", QuotasViews.as_view({"get": "retrieve"}), name="quotas"),
]
