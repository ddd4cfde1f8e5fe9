"""The page for the account's limits on every request."""

from typing import Any, Final

from django.http import HttpRequest, HttpResponse

from account_settings import services
from account_settings.models import GatewayConfiguration
from account_settings.serializers import GatewayConfigurationForm
from dashboard.kit.forms import Field, Form
from dashboard.kit.page import Page
from dashboard.navigation import SETTINGS
from rest.preconditions import etag_of

FIELDS: Final = (
    Field(
        "totalTimeout",
        "Total time-out",
        hint="All attempts of a request together, up to a stream's first content. A duration: 30s, 2m, 1m30s. "
        "Empty: 120s.",
        placeholder="120s",
    ),
    Field(
        "perRequestTimeout",
        "Time-out of one attempt",
        hint="Until the answer is there; of a stream until its first byte, then between its pieces. Empty: 60s.",
        placeholder="60s",
    ),
    Field(
        "streamTimeout",
        "Time-out of a stream",
        hint="From a stream's first content to its end. Empty: 30m.",
        placeholder="30m",
    ),
    Field(
        "maxInputTokens",
        "Most input tokens",
        "number",
        hint="A request that is estimated to have more is refused before anything is sent. Empty: no cap.",
        placeholder="no cap",
    ),
    Field(
        "maxOutputTokens",
        "Most output tokens",
        "number",
        hint="Lowers what a request itself asks for. Empty: no cap.",
        placeholder="no cap",
    ),
    Field("metadata", "Metadata", "textarea", hint="Your own text, JSON for example. The gateway does not read it."),
)


class GatewayConfigurationPage(Page):
    """`/dashboard/settings`: the account's limits."""

    path = "settings"
    name = "gateway-configuration"
    section = SETTINGS
    title = "Gateway configuration"
    template = "dashboard/settings.html"

    def get(self, _request: HttpRequest) -> HttpResponse:
        """Show the limits; users who may write also get their form."""
        return self._shown(self._form())

    def post(self, request: HttpRequest) -> HttpResponse:
        """Save the changed limits, and show them again."""
        form = self._form(request.POST)
        with form.faults_shown():
            services.update_gateway_configuration(
                account=self.visit.account, by=self.visit.principal, if_match=form.if_match, **form.values()
            )
            return self.redirect(self.name, said="The gateway configuration is saved.")
        return self._shown(form)

    def _form(self, submitted: Any = None) -> Form:
        configuration = GatewayConfiguration.of(self.visit.account)
        present = configuration.audit_state()
        return Form(GatewayConfigurationForm, FIELDS, submitted=submitted, present=present, etag=etag_of(configuration))

    def _shown(self, form: Form) -> HttpResponse:
        return self.render(form=form, status=form.status)


PAGES: Final = (GatewayConfigurationPage,)
