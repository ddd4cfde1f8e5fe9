"""`/access-key-configurations`."""

from typing import Any

from django.db.models import QuerySet
from django.urls import URLPattern
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.views import OwnedViews, routes_of
from configurations import services
from configurations.models import Configuration
from configurations.serializers import ConfigurationForm, ConfigurationSerializer


class ConfigurationViews(OwnedViews):
    """`/access-key-configurations`."""

    model = Configuration
    list_key = "aiGatewayAccessKeyConfigurations"
    shape = ConfigurationSerializer
    forms = {"create": ConfigurationForm, "partial_update": ConfigurationForm}

    def items(self) -> QuerySet[Any]:
        """The account's configurations, with what their routers show."""
        return Configuration.objects.filter(account=self.account).with_named()

    def create(self, _request: Request) -> Response:
        """Make a configuration, and store the provider keys that its router brings along."""
        values = self.read(ConfigurationForm)
        return self.created(services.create_configuration(account=self.account, by=self.principal, **values))

    def partial_update(self, _request: Request, id: str) -> Response:  # noqa: A002 -- the path parameter's name
        """Change a configuration; `access` and `router` are replaced whole."""
        configuration, if_match = self.found(id), self.if_match()
        changes = self.read(ConfigurationForm, partial=True)
        return self.shown(
            services.update_configuration(configuration=configuration, by=self.principal, if_match=if_match, **changes)
        )

    def destroy(self, _request: Request, id: str) -> Response:  # noqa: A002
        """Forget a configuration for ever. Refused while an access key links to it."""
        services.delete_configuration(configuration=self.found(id), by=self.principal, if_match=self.if_match())
        return self.deleted()


ROUTES: list[URLPattern] = routes_of(ConfigurationViews)
