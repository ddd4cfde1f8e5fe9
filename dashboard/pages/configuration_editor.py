"""The editor of configurations: the form, and the addresses that its script calls.

The script sends the API's own JSON. The API's parser reads it, the API's serializers validate it, and the API's
services write it. A refusal comes back in the API's form, and the script shows each fault at the control of its JSON
path. There is no second validation (docs/decisions/0095-configuration-editor.md).
"""

from types import SimpleNamespace
from typing import IO, Any, Final, cast

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.urls import reverse

from configurations import services
from configurations.explain import explain_draft
from configurations.explain_forms import DraftExplainForm, question_of
from configurations.models import Configuration
from configurations.near_misses import near_misses
from configurations.revisions import State, changes_between
from configurations.serializers import ConfigurationForm, ConfigurationSerializer
from dashboard.kit import picker_choices, single_submit
from dashboard.kit.page import Page
from dashboard.navigation import CONFIGURATIONS
from dashboard.pages.configuration_reads import described, number_of, users_of
from dashboard.wording import explain_text
from dashboard.wording.author_names import names_of
from dashboard.wording.json_places import fault_place
from dashboard.wording.scope_summary import ProviderNames, losses
from gateway_core.catalog import BUILT_IN, Surface
from rest import uris
from rest.errors import GatewayError, NotFound, body_of, headers_of, status_of
from rest.parsers import JsonParser
from rest.preconditions import IfMatch, etag_of
from rest.serializers import StrictSerializer

# The dimensions of a scope: (name, name of one entry, placeholder of the picker).
_DIMENSIONS: Final = (
    ("providers", "provider", "Search providers"),
    ("models", "model", "Search models, or type provider:model"),
)
_MOST_WARNINGS: Final = 5
_WRITTEN: Final = ("name", "description", "metadata", "access", "router")


class ScriptPage(Page):
    """An address that the editor's script calls. It takes JSON.

    It refuses in the API's form, with the places of the faults in words beside it.
    """

    section = CONFIGURATIONS
    title = "Configuration"
    http_method_names = ["post"]

    def refused(self, error: GatewayError) -> HttpResponse:
        """The API's JSON for an error, with the places of the faults in words."""
        places = {path: fault_place(path) for path in error.details}
        body = {**body_of(error), "places": places}
        return JsonResponse(
            body, status=status_of(type(error)), headers={**headers_of(error), "Cache-Control": "no-store"}
        )

    def read(self, form: type[StrictSerializer], *, partial: bool = False) -> dict[str, Any]:
        """Read and validate the body as the API does.

        Raises:
            rest_framework.exceptions.ValidationError, rest.errors.GatewayError: as rest.views.RestViews.read.
        """
        body = JsonParser().parse(cast("IO[Any]", self.request), self.request.content_type)
        # The API's serializers need the account of the request.
        context = {"request": SimpleNamespace(account=self.visit.account)}
        asked = form(data=body, partial=partial, context=context)
        asked.is_valid(raise_exception=True)
        return dict(asked.validated_data)

    def configuration(self, text_id: str) -> Configuration:
        """The account's configuration with this ID.

        Raises:
            NotFound: the account has none.
        """
        return cast("Configuration", self.found(Configuration.objects.with_named(), text_id))

    def written(self, configuration: Configuration, said: str, values: dict[str, Any]) -> HttpResponse:
        """The JSON with the address to go on to. That page shows the message `said`, and warnings about the values."""
        messages.success(self.request, said)
        account = self.visit.account
        found = near_misses(account, access=values.get("access"), router=values.get("router"))
        for miss in found[:_MOST_WARNINGS]:
            messages.warning(self.request, f"{fault_place(miss.path)}: {miss.msg}")
        return JsonResponse({"location": reverse("dashboard:configuration", args=[configuration.text_id])})


class EditorPage(ScriptPage):
    """A page with the form. A POST writes the configuration."""

    template = "dashboard/configuration_editor.html"
    parents = ()
    least_to_read = Page.least_to_write
    http_method_names = ["get", "head", "post"]

    def refused(self, error: GatewayError) -> HttpResponse:
        """An error page for GET, and the API's JSON for the script's POST."""
        return super().refused(error) if self.request.method == "POST" else Page.refused(self, error)

    def form(self, *, shown: dict[str, Any], configuration: Configuration | None, title: str) -> HttpResponse:
        """Render the form, filled with a configuration in the API's JSON."""
        stored = [configuration.text_id] if configuration else []
        newest = configuration.revisions.order_by("-number").values_list("number", flat=True) if configuration else ()
        seen = newest[0] if newest else ""
        data = {
            "save": self.request.path,
            "review": reverse("dashboard:review-configuration", args=stored) if stored else None,
            "now": f"{reverse('dashboard:configuration-now', args=stored)}?since={seen}" if stored else None,
            "explain": reverse("dashboard:explain-configuration"),
            "choices": reverse("dashboard:configuration-choices", args=["all"]).removesuffix("all"),
            "api": uris.absolute(self.request, Configuration.path),
            "id": configuration.text_id if configuration else None,
            "etag": etag_of(configuration) if configuration else None,
            "once": single_submit.new_stamp(),
            "configuration": {name: shown[name] for name in _WRITTEN if name in shown},
            "labels": _labels(ProviderNames.of(self.visit.account), shown),
            "managed": [provider.id for provider in BUILT_IN.values() if provider.is_managed],
        }
        return self.render(
            title=title, data=data, dimensions=_DIMENSIONS, surfaces=list(Surface), configuration=configuration
        )

    def wire(self, configuration: Configuration) -> dict[str, Any]:
        """A configuration in the API's JSON."""
        return dict(ConfigurationSerializer(configuration, context={"request": self.request}).data)


class CreateConfigurationPage(EditorPage):
    """`/dashboard/configurations/new`, empty or as a copy: `?from=aigac_…`."""

    path = "configurations/new"
    name = "create-configuration"
    title = "New configuration"

    def get(self, request: HttpRequest) -> HttpResponse:
        """Show the form of the editor."""
        original = request.GET.get("from")
        shown = self.wire(self.configuration(original)) if original else {}
        if shown:
            shown["name"] = f"Copy of {shown['name']}"
        return self.form(shown=shown, configuration=None, title=self.title)

    def post(self, request: HttpRequest) -> HttpResponse:
        """Create it, once for each form: after a lost answer the script sends the POST again."""
        if location := single_submit.used_for(request):
            return JsonResponse({"location": location})
        values = self.read(ConfigurationForm)
        made = services.create_configuration(account=self.visit.account, by=self.visit.principal, **values)
        single_submit.use(request, reverse("dashboard:configuration", args=[made.text_id]))
        return self.written(made, "The configuration is created.", values)


class EditConfigurationPage(EditorPage):
    """`/dashboard/configurations/<id>/edit`: the editor with a stored configuration."""

    path = "configurations/<str:text_id>/edit"
    name = "edit-configuration"

    def get(self, _request: HttpRequest, text_id: str) -> HttpResponse:
        """Show the form of the editor."""
        configuration = self.configuration(text_id)
        return self.form(
            shown=self.wire(configuration), configuration=configuration, title=f"Edit {configuration.name}"
        )

    def post(self, request: HttpRequest, text_id: str) -> HttpResponse:
        """Save it, unless somebody else has changed it since it was loaded."""
        configuration = self.configuration(text_id)
        if_match = IfMatch.parse(request.headers.get("If-Match"))
        changes = self.read(ConfigurationForm, partial=True)
        changed = services.update_configuration(
            configuration=configuration, by=self.visit.principal, if_match=if_match, **changes
        )
        return self.written(changed, "The configuration is saved.", changes)


class ReviewPage(ScriptPage):
    """`/dashboard/configurations/<id>/review`: what access keys would lose by a change. Writes nothing."""

    path = "configurations/<str:text_id>/review"
    name = "review-configuration"

    def post(self, _request: HttpRequest, text_id: str) -> HttpResponse:
        """The losses by the change in the body. Faults are refused as when it is saved."""
        configuration = self.configuration(text_id)
        changes = self.read(ConfigurationForm, partial=True)
        services.valid_content(self.visit.account, changes)
        before = (configuration.access, configuration.router)
        after = (changes.get("access", before[0]), changes.get("router", before[1]))
        found = losses(before, after, ProviderNames.of(self.visit.account))
        users = users_of(configuration) if found else None
        return JsonResponse(
            {
                "losses": found,
                "users": [described(access_key) for access_key in users.shown] if users else [],
                "hasMoreUsers": users.has_more if users else False,
            }
        )


class NowPage(ScriptPage):
    """`/dashboard/configurations/<id>/now`: the present state, for a save that was refused because it changed."""

    path = "configurations/<str:text_id>/now"
    name = "configuration-now"
    http_method_names = ["get", "head"]

    def get(self, request: HttpRequest, text_id: str) -> HttpResponse:
        """The present state, and the changes since the revision `?since=`."""
        configuration = self.configuration(text_id)
        by = configuration.last_updated_by
        since = number_of(request.GET.get("since", ""))
        seen = None if since is None else configuration.revisions.filter(number=since).first()
        return JsonResponse(
            {
                "etag": etag_of(configuration),
                "by": names_of(self.visit.account, [by]).get(by, by),
                "at": configuration.updated_at.isoformat(),
                "changes": changes_between(State.of(seen), State.now(configuration)) if seen else [],
            }
        )


class ExplainPage(ScriptPage):
    """`/dashboard/configurations/explain`: what the data plane would do with an unsaved form. Writes nothing."""

    path = "configurations/explain"
    name = "explain-configuration"

    def post(self, request: HttpRequest) -> HttpResponse:
        """The plan, as an HTML fragment."""
        values = self.read(DraftExplainForm)
        if "configuration_id" in values:
            raise NotFound("Stored configurations are explained on their own page.")
        account = self.visit.account
        found = explain_draft(
            account=account, access=values.get("access"), router=values.get("router"), question=question_of(values)
        )
        plan = explain_text.shown_plan(found, ProviderNames.of(account))
        return render(request, "dashboard/kit/plan.html", {"plan": plan})


class ChoicesPage(ScriptPage):
    """`/dashboard/configurations/choices/<kind>`: the choices of a picker for a typed text."""

    path = "configurations/choices/<str:kind>"
    name = "configuration-choices"
    http_method_names = ["get", "head"]

    def get(self, request: HttpRequest, kind: str) -> HttpResponse:
        """At most 20 choices, best first."""
        find = picker_choices.KINDS.get(kind)
        if find is None:
            raise NotFound
        text, provider = (
            request.GET.get(name, "").replace("\x00", "")[: picker_choices.LONGEST] for name in ("q", "provider")
        )
        found = find(picker_choices.PickerQuery(self.visit.account, text, provider))
        return JsonResponse({"items": [choice._asdict() for choice in found]})


def _labels(names: ProviderNames, shown: dict[str, Any]) -> dict[str, str]:
    """The names of the providers in the filled form, by ID. The form needs them before anything is picked."""
    rules = (shown.get("router") or {}).get("rules", [])
    named = [rule["provider"] for rule in rules if "provider" in rule]
    allowed = (shown.get("access") or {}).get("providers", {}).get("allow") or []
    return {name: names.called(name) for name in {*BUILT_IN, *named, *allowed}}


PAGES: Final = (CreateConfigurationPage, ExplainPage, ChoicesPage, EditConfigurationPage, ReviewPage, NowPage)
