"""Pages for API keys, the tokens that manage this account over the API."""

from typing import Any, Final

from django.contrib import messages
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils import timezone

from accounts import services
from accounts.heirs import is_in_force
from accounts.models import ApiKey
from accounts.serializers import ApiKeyForm
from dashboard.kit import single_submit
from dashboard.kit.confirmation import ConfirmedPage, Question
from dashboard.kit.forms import Field, Form
from dashboard.kit.lists import Filter, Filters, listing_of
from dashboard.kit.page import Page
from dashboard.navigation import SETTINGS
from dashboard.wording.author_names import authors_of
from dashboard.wording.relative_time import ago
from gateway_core.redaction import MASK_LEAD
from rest import uris
from rest.preconditions import etag_of

_PARENTS: Final = (("API keys", "api-keys"),)
_EXAMPLE: Final = 'curl {base}/access-keys -H "Authorization: Bearer {token}"'
FIELDS: Final = (
    Field("name", "Name", hint="What it is for: a pipeline, a script, a person.", placeholder="ci-deploy"),
    Field("description", "Description", "textarea"),
    Field("expiresAt", "Expires", "moment", hint="Empty: it does not expire."),
    Field("metadata", "Metadata", "textarea", hint="Your own text, JSON for example. The gateway does not read it."),
)
EDITED: Final = (*FIELDS, Field("disabled", "Disabled", "checkbox", hint="It is refused until it is enabled again."))
FILTERS: Final = (
    Filter("q", "Search", placeholder="Name or start of the key", searches_keys=True),
    Filter("state", "State", (("active", "Active"), ("disabled", "Disabled"), ("expired", "Expired"))),
)


class ApiKeysPage(Page):
    """`/dashboard/settings/api-keys`: the list of API keys."""

    path = "settings/api-keys"
    name = "api-keys"
    section = SETTINGS
    title = "API keys"
    template = "dashboard/api_keys.html"

    def get(self, request: HttpRequest) -> HttpResponse:
        """Show one page of the list."""
        filters = Filters(request, FILTERS)
        items = _narrowed(self.owned(ApiKey), filters)
        return self.render(listing=listing_of(request, items, ApiKey.id_prefix), filters=filters, now=timezone.now())


class CreateApiKeyPage(Page):
    """`/dashboard/settings/api-keys/new`: the form for a new API key."""

    path = "settings/api-keys/new"
    name = "create-api-key"
    section = SETTINGS
    title = "New API key"
    template = "dashboard/api_key_create.html"
    parents = _PARENTS
    least_to_read = Page.least_to_write

    def get(self, _request: HttpRequest) -> HttpResponse:
        """Show the empty form."""
        return self.render(form=Form(ApiKeyForm, FIELDS), once=single_submit.new_stamp())

    def post(self, request: HttpRequest) -> HttpResponse:
        """Issue the key. Its token is in this answer only, because a redirect could not carry it."""
        made = single_submit.used_for(request)
        if made is not None:
            messages.warning(request, "This form has made its API key already. A token is shown only once.")
            return HttpResponseRedirect(made)
        form = Form(ApiKeyForm, FIELDS, submitted=request.POST)
        with form.faults_shown():
            issued = services.create_api_key(account=self.visit.account, by=self.visit.principal, **form.values())
            single_submit.use(request, reverse("dashboard:api-key", args=[issued.api_key.text_id]))
            return self.render(
                "dashboard/api_key_issued.html",
                title="API key created",
                issued=issued,
                example=_EXAMPLE.format(base=uris.base_of(request), token=issued.token),
            )
        return self.render(form=form, status=form.status, once=request.POST.get(single_submit.FIELD, ""))


class ApiKeyPage(Page):
    """`/dashboard/settings/api-keys/<id>`: one API key, with its form."""

    path = "settings/api-keys/<str:text_id>"
    name = "api-key"
    section = SETTINGS
    title = "API key"
    template = "dashboard/api_key.html"
    parents = _PARENTS

    def get(self, _request: HttpRequest, text_id: str) -> HttpResponse:
        """Show the key; users who may write also get its form."""
        api_key = self.found(ApiKey, text_id)
        return self._shown(api_key, self._form(api_key))

    def post(self, request: HttpRequest, text_id: str) -> HttpResponse:
        """Save the changed fields of the API key, and show it again."""
        api_key = self.found(ApiKey, text_id)
        form = self._form(api_key, submitted=request.POST)
        with form.faults_shown():
            services.update_api_key(api_key=api_key, by=self.visit.principal, if_match=form.if_match, **form.values())
            return self.redirect(self.name, text_id, said="The API key is saved.")
        return self._shown(api_key, form)

    def _form(self, api_key: ApiKey, submitted: Any = None) -> Form:
        present = {
            "name": api_key.name,
            "description": api_key.description,
            "metadata": api_key.metadata,
            "expiresAt": api_key.expires_at,
            "disabled": api_key.disabled,
        }
        return Form(
            ApiKeyForm, EDITED, submitted=submitted, present=present, etag=etag_of(api_key), context={"item": api_key}
        )

    def _shown(self, api_key: ApiKey, form: Form) -> HttpResponse:
        title = api_key.name or api_key.key_redacted
        people = authors_of(self.visit.account, api_key)
        return self.render(
            api_key=api_key,
            is_in_force=is_in_force(api_key),
            form=form,
            status=form.status,
            title=title,
            now=timezone.now(),
            **people,
        )


class DeleteApiKeyPage(ConfirmedPage):
    """`/dashboard/settings/api-keys/<id>/delete`: asks, then deletes the API key."""

    path = "settings/api-keys/<str:text_id>/delete"
    name = "delete-api-key"
    section = SETTINGS
    title = "Delete API key"
    parents = _PARENTS

    def question(self, text_id: str) -> Question:
        """Ask whether requests with this key may be refused from now on."""
        api_key: ApiKey = self.found(ApiKey, text_id)
        used = f"It was last used {ago(api_key.last_used)}." if api_key.last_used else "It has never been used."
        return Question(
            phrase=api_key.name or api_key.key_redacted,
            consequences=(
                used,
                "Requests with its token are refused from then on.",
                "So are those with the API keys that it made.",
                "This cannot be undone.",
            ),
            button="Delete API key",
            back=reverse("dashboard:api-key", args=[text_id]),
        )

    def carry_out(self, text_id: str) -> HttpResponse:
        """Delete the API key, and go on to the list."""
        services.delete_api_key(api_key=self.found(ApiKey, text_id), by=self.visit.principal)
        return self.redirect("api-keys", said="The API key is deleted.")


def _narrowed(items: QuerySet[ApiKey], filters: Filters) -> QuerySet[ApiKey]:
    if filters["q"]:
        items = items.filter(Q(name__icontains=filters["q"]) | Q(key_redacted__startswith=filters["q"][:MASK_LEAD]))
    expired = Q(expires_at__lte=timezone.now())
    match filters["state"]:
        case "active":
            return items.filter(disabled=False).exclude(expired)
        case "disabled":
            return items.filter(disabled=True)
        case "expired":
            return items.filter(expired)
    return items


PAGES: Final = (ApiKeysPage, CreateApiKeyPage, ApiKeyPage, DeleteApiKeyPage)
