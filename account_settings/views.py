"""The view of `/gateway-config`."""

from django.urls import URLPattern, path
from rest_framework.request import Request
from rest_framework.response import Response

from account_settings import services
from account_settings.models import GatewayConfiguration
from account_settings.serializers import GatewayConfigurationForm, GatewayConfigurationSerializer
from accounts.owned.views import AccountViews


class GatewayConfigurationViews(AccountViews):
    """The account's gateway configuration. It always exists; it cannot be created or deleted."""

    shape = GatewayConfigurationSerializer
    forms = {"partial_update": GatewayConfigurationForm}

    def retrieve(self, _request: Request) -> Response:
        """Show the time-outs and caps for every request of the account."""
        return self.shown(GatewayConfiguration.of(self.account))

    def partial_update(self, _request: Request) -> Response:
        """Change time-outs and caps."""
        if_match = self.if_match()
        changes = self.read(GatewayConfigurationForm, item=GatewayConfiguration.of(self.account))
        return self.shown(
            services.update_gateway_configuration(account=self.account, by=self.principal, if_match=if_match, **changes)
        )


ROUTES: list[URLPattern] = [
    path(
        "gateway-config",
        GatewayConfigurationViews.as_view({"get": "retrieve", "patch": "partial_update"}),
        name="gateway-config",
    )
]
