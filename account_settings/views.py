"""`/gateway-config`."""

from typing import cast

from django.urls import URLPattern, path
from rest_framework.request import Request
from rest_framework.response import Response

from account_settings import services
from account_settings.models import GatewayConfiguration
from account_settings.serializers import GatewayConfigurationForm, GatewayConfigurationSerializer
from accounts.authentication import AccountRequest
from rest.views import RestViews


class GatewayConfigurationViews(RestViews):
    """The account's gateway configuration: always there, never created or deleted."""

    shape = GatewayConfigurationSerializer
    forms = {"partial_update": GatewayConfigurationForm}

    def retrieve(self, request: Request) -> Response:
        """Show the timeouts and caps that hold for every request of the account."""
        return self.shown(GatewayConfiguration.of(cast("AccountRequest", request).account))

    def partial_update(self, request: Request) -> Response:
        """Change timeouts and caps."""
        if_match = self.if_match()
        changes = self.read(GatewayConfigurationForm, partial=True)
        asked = cast("AccountRequest", request)
        return self.shown(
            services.update_gateway_configuration(
                account=asked.account, by=asked.principal, if_match=if_match, **changes
            )
        )


ROUTES: list[URLPattern] = [
    path(
        "gateway-config",
        GatewayConfigurationViews.as_view({"get": "retrieve", "patch": "partial_update"}),
        name="gateway-config",
    )
]
