""" "The configurations of the account: `/access-key-configurations`."""

from typing import Any

from django.db.models import QuerySet
from django.urls import URLPattern, path
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.owned.views import OwnedViews, routes_of
from configurations import services
from configurations.explain import explain_draft, explain_stored
from configurations.explain_forms import DraftExplainForm, ExplanationSerializer, question_of
from configurations.models import Configuration
from configurations.near_misses import near_misses
from configurations.serializers import (
    ConfigurationForm,
    ConfigurationSerializer,
    WrittenConfigurationSerializer,
)
from configurations.services import ConfigurationUnknown


class ConfigurationViews(OwnedViews):
    """ "The configurations of the account: `/access-key-configurations`."""

    model = Configuration
    list_key = "aiGatewayAccessKeyConfigurations"
    shape = ConfigurationSerializer
    forms = {"create": ConfigurationForm, "partial_update": ConfigurationForm, "explain": DraftExplainForm}
    shapes = {
        "create": WrittenConfigurationSerializer,
        "partial_update": WrittenConfigurationSerializer,
        "explain": ExplanationSerializer,
    }
    questions = frozenset({"explain"})

    def items(self) -> QuerySet[Any]:
        """The account's configurations, read with the objects that they name."""
        return Configuration.objects.filter(account=self.account).with_named()

    def create(self, _request: Request) -> Response:
        """Create a configuration, and store the new provider keys that its router contains."""
        values = self.read(ConfigurationForm)
        made = services.create_configuration(account=self.account, by=self.principal, **values)
        return self.created(made, self._with_warnings(made, values))

    def partial_update(self, _request: Request, id: str) -> Response:  # noqa: A002 -- the path parameter's name
        """Change a configuration. `access` and `router` are replaced as a whole."""
        configuration, if_match = self.found(id), self.if_match()
        changes = self.read(ConfigurationForm, item=configuration)
        changed = services.update_configuration(
            configuration=configuration, by=self.principal, if_match=if_match, **changes
        )
        return self.shown(changed, self._with_warnings(changed, changes))

    def _with_warnings(self, configuration: Configuration, written: dict[str, Any]) -> dict[str, Any]:
        """The configuration in its shape, with warnings about what was written, if there are any."""
        found = near_misses(self.account, access=written.get("access"), router=written.get("router"))
        return {**self.data_of(configuration), **({"warnings": [miss._asdict() for miss in found]} if found else {})}

    def destroy(self, _request: Request, id: str) -> Response:  # noqa: A002
        """Delete a configuration. This is refused while an access key links to it."""
        services.delete_configuration(configuration=self.found(id), by=self.principal, if_match=self.if_match())
        return self.deleted()

    def explain(self, _request: Request) -> Response:
        """Explain what the data plane would do with a configuration, stored or not. Nothing is sent or written."""
        values = self.read(DraftExplainForm)
        question = question_of(values)
        if "configuration_id" in values:
            configuration = self.items().filter(id=values["configuration_id"]).first()
            if configuration is None:
                raise ConfigurationUnknown(details={"configurationId": ConfigurationUnknown.message()})
            found = explain_stored(account=self.account, configuration=configuration, question=question)
        else:
            access, router = values.get("access"), values.get("router")
            found = explain_draft(account=self.account, access=access, router=router, question=question)
        return Response(ExplanationSerializer(found).data)


# Before the route of the items, which would take `explain` as an ID.
ROUTES: list[URLPattern] = [
    path(
        f"{Configuration.path}/explain",
        ConfigurationViews.as_view({"post": "explain"}),
        name="access-key-configurations-explain",
    ),
    *routes_of(ConfigurationViews),
]
