"""Pages for configurations: the list, and one configuration with its access keys and its revisions.

`dashboard.pages.configuration_editor` is the editor.
"""

import json
from typing import Any, Final, NamedTuple, cast

from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from configurations import services
from configurations.models import Configuration
from configurations.revisions import State, changes_between
from configurations.serializers import ConfigurationSerializer
from dashboard.kit.confirmation import ConfirmedPage, Question
from dashboard.kit.forms import ETAG
from dashboard.kit.lists import Filter, Filters, listing_of
from dashboard.kit.page import Page
from dashboard.navigation import CONFIGURATIONS
from dashboard.pages import configuration_editor
from dashboard.pages.configuration_reads import called, described, number_of, revisions_of, users_of, with_user_count
from dashboard.wording.author_names import names_of
from dashboard.wording.explain_answers import answered
from dashboard.wording.scope_summary import Allowance, ProviderNames, allowance, losses
from rest.errors import GatewayError, NotFound, PreconditionFailed, status_of
from rest.preconditions import IfMatch, etag_of

# The number of revisions shown beside the configuration, and on their own page.
_MOST_REVISIONS_BESIDE: Final = 5
_MOST_REVISIONS: Final = 25
FILTERS: Final = (Filter("q", "Search", placeholder="Name"),)


class Row(NamedTuple):
    """One row of the list: a configuration and its texts."""

    configuration: Configuration
    allows: Allowance
    rule_count: int
    changed_by: str


class ConfigurationsPage(Page):
    """`/dashboard/configurations`: the list of configurations."""

    path = "configurations"
    name = "configurations"
    section = CONFIGURATIONS
    title = "Configurations"
    template = "dashboard/configurations.html"

    def get(self, request: HttpRequest) -> HttpResponse:
        """Show one page of the list."""
        filters = Filters(request, FILTERS)
        items = with_user_count(self.owned(Configuration))
        if filters["q"]:
            items = items.filter(name__icontains=filters["q"])
        listing = listing_of(request, items, Configuration.id_prefix)
        people = names_of(self.visit.account, [configuration.last_updated_by for configuration in listing.items])
        names = ProviderNames.of(self.visit.account) if listing.items else ProviderNames()
        rows = [
            Row(
                configuration=configuration,
                allows=allowance(configuration.access, names),
                rule_count=len((configuration.router or {}).get("rules", ())),
                changed_by=people.get(configuration.last_updated_by, ""),
            )
            for configuration in listing.items
        ]
        return self.render(listing=listing, rows=rows, filters=filters)


class ConfigurationPage(Page):
    """`/dashboard/configurations/<id>`, and with `?model=…` what the data plane would do with a request for it."""

    path = "configurations/<str:text_id>"
    name = "configuration"
    section = CONFIGURATIONS
    title = "Configuration"
    template = "dashboard/configuration.html"

    def get(self, request: HttpRequest, text_id: str) -> HttpResponse:
        """Show the configuration in words."""
        configuration: Configuration = self.found(Configuration.objects.with_named(), text_id)
        names = ProviderNames.of(self.visit.account)
        people = names_of(self.visit.account, [configuration.created_by, configuration.last_updated_by])
        shown = ConfigurationSerializer(configuration, context={"request": request}).data
        return self.render(
            title=configuration.name or "",
            configuration=configuration,
            allows=allowance(configuration.access, names),
            scope=_scope(shown.get("access"), names),
            rules=_rules(shown.get("router"), names),
            users=users_of(configuration),
            revisions=revisions_of(configuration, most=_MOST_REVISIONS_BESIDE),
            created_by=people.get(configuration.created_by, configuration.created_by),
            changed_by=people.get(configuration.last_updated_by, configuration.last_updated_by),
            wire=json.dumps(shown, indent=2, ensure_ascii=False),
            **answered(request.GET, account=self.visit.account, configuration=configuration, names=names),
        )


class DeleteConfigurationPage(ConfirmedPage):
    """`/dashboard/configurations/<id>/delete`: asks, then deletes the configuration."""

    path = "configurations/<str:text_id>/delete"
    name = "delete-configuration"
    section = CONFIGURATIONS
    title = "Delete configuration"

    def question(self, text_id: str) -> Question:
        """Ask, with the access keys that use it."""
        configuration: Configuration = self.found(Configuration, text_id)
        users = users_of(configuration)
        used = [f"Used by {described(access_key)}." for access_key in users.shown]
        if users.has_more:
            used.append("And by more access keys.")
        if used:
            used.append("It cannot be deleted as long as an access key is linked to it.")
        return Question(
            phrase=configuration.name or "",
            consequences=(*(used or ["No access key uses it."]), "Its provider keys stay.", "This cannot be undone."),
            button="Delete configuration",
            back=reverse("dashboard:configuration", args=[text_id]),
        )

    def carry_out(self, text_id: str) -> HttpResponse:
        """Delete the configuration, and go on to the list."""
        configuration: Configuration = self.found(Configuration, text_id)
        services.delete_configuration(configuration=configuration, by=self.visit.principal)
        return self.redirect("configurations", said="The configuration is deleted.")


class RevisionsPage(Page):
    """`/dashboard/configurations/<id>/revisions`: all its versions."""

    path = "configurations/<str:text_id>/revisions"
    name = "configuration-revisions"
    section = CONFIGURATIONS
    title = "Revisions"
    template = "dashboard/configuration_revisions.html"

    def get(self, request: HttpRequest, text_id: str) -> HttpResponse:
        """Show some revisions, newest first; with `?before=12` those before number 12."""
        configuration: Configuration = self.found(Configuration, text_id)
        before = number_of(request.GET.get("before", ""))
        revisions = revisions_of(configuration, most=_MOST_REVISIONS, before=before)
        title = f"Revisions of {configuration.name}"
        return self.render(title=title, configuration=configuration, revisions=revisions, is_newest_page=before is None)


class RestorePage(Page):
    """`/dashboard/configurations/<id>/revisions/<number>/restore`: shows the changes, and restores on POST."""

    path = "configurations/<str:text_id>/revisions/<int:number>/restore"
    name = "restore-configuration"
    section = CONFIGURATIONS
    title = "Restore a revision"
    template = "dashboard/configuration_restore.html"
    least_to_read = Page.least_to_write

    def get(self, _request: HttpRequest, text_id: str, number: int) -> HttpResponse:
        """Show what the configuration would become, and which access keys would lose something."""
        return self._asked(text_id, number)

    def post(self, request: HttpRequest, text_id: str, number: int) -> HttpResponse:
        """Restore the revision, unless the configuration has changed since the question was shown."""
        configuration: Configuration = self.found(Configuration, text_id)
        try:
            services.restore_revision(
                configuration=configuration,
                number=number,
                by=self.visit.principal,
                if_match=IfMatch.parse(request.POST.get(ETAG)),
            )
        except (services.ConfigurationInvalid, PreconditionFailed) as refusal:
            return self._asked(text_id, number, refusal)
        return self.redirect(
            "configuration", text_id, said=f"The configuration is again what it was in revision {number}."
        )

    def _asked(self, text_id: str, number: int, refusal: GatewayError | None = None) -> HttpResponse:
        configuration: Configuration = self.found(Configuration.objects.with_named(), text_id)
        revision = configuration.revisions.filter(number=number).first()
        if revision is None:
            raise NotFound
        now = (configuration.access, configuration.router)
        then = (revision.content.get("access"), revision.content.get("router"))
        return self.render(
            status=200 if refusal is None else status_of(type(refusal)),
            title=f"Restore revision {number}",
            configuration=configuration,
            revision=revision,
            by=called(revision.created_by, revision.created_by_name),
            changes=changes_between(State.now(configuration), State.of(revision)),
            losses=losses(now, then, ProviderNames.of(self.visit.account)),
            users=users_of(configuration),
            etag=etag_of(configuration),
            refusal_message=refusal,
        )


class Dimension(NamedTuple):
    """One dimension of an access scope, as texts for the page."""

    title: str
    # (name, written entry) of each allowed entry; None where the dimension restricts nothing.
    entries: list[tuple[str, str]] | None


class ShownRule(NamedTuple):
    """A routing rule, as texts for the page."""

    subject: str
    is_model: bool
    steps: list[dict[str, Any]]


def _scope(access: Any, names: ProviderNames) -> list[Dimension]:
    found = []
    for title in ("Providers", "Models"):
        entries = cast("list[str] | None", ((access or {}).get(title.lower()) or {}).get("allow"))
        called = names.called if title == "Providers" else str
        shown = None if entries is None else [(called(entry), entry) for entry in entries]
        found.append(Dimension(title, shown))
    return found


def _rules(router: Any, names: ProviderNames) -> list[ShownRule]:
    return [
        ShownRule(
            subject=rule["model"] if "model" in rule else names.called(rule["provider"]),
            is_model="model" in rule,
            steps=rule["steps"],
        )
        for rule in (router or {}).get("rules", ())
    ]


PAGES: Final = (
    ConfigurationsPage,
    *configuration_editor.PAGES,
    ConfigurationPage,
    DeleteConfigurationPage,
    RevisionsPage,
    RestorePage,
)
