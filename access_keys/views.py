"""The views of `/access-keys` (contract, section 2)."""

from typing import Any

from django.db.models import QuerySet
from django.urls import URLPattern, path
from rest_framework.request import Request
from rest_framework.response import Response

from access_keys import services
from access_keys.models import AccessKey
from access_keys.serializers import AccessKeyForm, AccessKeySerializer, IssuedAccessKeySerializer
from accounts.owned.views import OwnedViews, routes_of
from configurations.explain import explain_stored
from configurations.explain_forms import ExplainForm, ExplanationSerializer, question_of
from configurations.models import Configuration
from gateway_core import ids
from rest.fields import id_pattern
from rest.pagination import id_of


class AccessKeyViews(OwnedViews):
    """The tokens that apps send to the data plane."""

    model = AccessKey
    list_key = "aiGatewayAccessKeys"
    shape = AccessKeySerializer
    forms = {"create": AccessKeyForm, "partial_update": AccessKeyForm, "explain": ExplainForm}
    shapes = {"create": IssuedAccessKeySerializer, "explain": ExplanationSerializer}
    questions = frozenset({"explain"})
    filters = {
        **OwnedViews.filters,
        "accessKeyConfigurationId": {
            "description": "Show only the access keys of this configuration.",
            "schema": {"type": "string", "pattern": id_pattern(ids.Prefix.CONFIGURATION)},
        },
    }

    def items(self) -> QuerySet[Any]:
        """The account's access keys, each with its configuration."""
        return super().items().select_related("configuration")

    def filtered(self) -> QuerySet[Any]:
        """The account's access keys, only those of one configuration if the query names it.

        Raises:
            QueryInvalid: `accessKeyConfigurationId` is not an ID of a configuration.
        """
        configuration = id_of(self.request, "accessKeyConfigurationId", ids.Prefix.CONFIGURATION)
        return super().filtered() if configuration is None else super().filtered().filter(configuration=configuration)

    def is_awaited(self) -> bool:
        """True for a request that deletes or disables a key: its client wants to know when that is in force."""
        asked: Any = self.request.data
        return self.action == "destroy" or (self.action == "partial_update" and asked.get("disabled") is True)

    def create(self, _request: Request) -> Response:
        """Create an access key. Only this answer contains its token."""
        issued = services.create_access_key(account=self.account, by=self.principal, **self.read(AccessKeyForm))
        shown = IssuedAccessKeySerializer(issued, context=self.get_serializer_context()).data
        return self.created(issued.access_key, shown)

    def partial_update(self, _request: Request, id: str) -> Response:  # noqa: A002 -- the path parameter's name
        """Change an access key."""
        access_key, if_match = self.found(id), self.if_match()
        changes = self.read(AccessKeyForm, item=access_key)
        return self.shown(
            services.update_access_key(access_key=access_key, by=self.principal, if_match=if_match, **changes)
        )

    def destroy(self, _request: Request, id: str) -> Response:  # noqa: A002
        """Delete an access key. Its token is not valid any more."""
        services.delete_access_key(access_key=self.found(id), by=self.principal, if_match=self.if_match())
        return self.deleted()

    def explain(self, _request: Request, id: str) -> Response:  # noqa: A002
        """Explain what the data plane would do with a request of this access key. Nothing is sent or written."""
        access_key = self.found(id)
        question = question_of(self.read(ExplainForm))
        configuration = (
            Configuration.objects.filter(account=self.account, id=access_key.configuration_id).with_named().first()
            if access_key.configuration_id
            else None
        )
        found = explain_stored(account=self.account, configuration=configuration, question=question)
        return Response(ExplanationSerializer(found).data)


ROUTES: list[URLPattern] = [
    *routes_of(AccessKeyViews),
    path(f"{AccessKey.path}/<str:id>/explain", AccessKeyViews.as_view({"post": "explain"}), name="access-keys-explain"),
]
