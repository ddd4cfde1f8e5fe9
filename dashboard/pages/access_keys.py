"""Pages for access keys, the tokens that apps send to the data plane: search, create, edit, disable and delete.

Changes of several keys at once are in `dashboard.pages.access_keys_at_once`.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final

from django.contrib import messages
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils import timezone

from access_keys import services
from access_keys.models import AccessKey
from access_keys.serializers import AccessKeyForm
from configurations.models import Configuration
from dashboard.kit import configuration_choices, single_submit
from dashboard.kit.confirmation import ConfirmedPage, Question
from dashboard.kit.forms import Field, Form
from dashboard.kit.lists import Filter, Filters, id_range, listing_of
from dashboard.kit.page import Page
from dashboard.navigation import ACCESS_KEYS
from dashboard.pages import access_keys_at_once
from dashboard.wording.app_snippets import snippets_of
from dashboard.wording.apply_status import with_applied
from dashboard.wording.author_names import authors_of
from dashboard.wording.explain_answers import answered
from dashboard.wording.relative_time import ago
from dashboard.wording.scope_summary import ProviderNames, allowance
from gateway_core import ids, tokens
from gateway_core.redaction import MASK_LEAD, mask
from rest.preconditions import ANY, etag_of
from usage.models import Event

NONE: Final = "none"
_RECENT: Final = 5


class AccessKeysPage(Page):
    """`/dashboard/access-keys`: the list of access keys."""

    path = "access-keys"
    name = "access-keys"
    section = ACCESS_KEYS
    title = "Access keys"
    template = "dashboard/access_keys.html"

    def get(self, request: HttpRequest) -> HttpResponse:
        """Show one page of the list."""
        configurations = configuration_choices.choices_of(
            self.owned(Configuration), request.GET.get("configuration", "")
        )
        filters = Filters(request, _filters(configurations))
        items = _narrowed(self.owned(AccessKey), filters).select_related("configuration")
        return self.render(
            listing=listing_of(request, items, AccessKey.id_prefix),
            filters=filters,
            now=timezone.now(),
            actions=access_keys_at_once.ACTIONS,
            query=request.GET.urlencode(),
        )


class CreateAccessKeyPage(Page):
    """`/dashboard/access-keys/new`; `?configuration=aigac_…` preselects a configuration."""

    path = "access-keys/new"
    name = "create-access-key"
    section = ACCESS_KEYS
    title = "New access key"
    template = "dashboard/access_key_create.html"
    least_to_read = Page.least_to_write

    def get(self, request: HttpRequest) -> HttpResponse:
        """Show the empty form."""
        chosen = request.GET.get("configuration", "")
        form = Form(AccessKeyForm, fields_of(self.owned(Configuration), chosen))
        form["accessKeyConfigurationId"].value = chosen
        return self.render(form=form, once=single_submit.new_stamp())

    def post(self, request: HttpRequest) -> HttpResponse:
        """Issue the key. Its token is in this answer only, because a redirect could not carry it."""
        made = single_submit.used_for(request)
        if made is not None:
            messages.warning(request, "This form has made its access key already. A token is shown only once.")
            return HttpResponseRedirect(made)
        form = Form(AccessKeyForm, fields_of(self.owned(Configuration)), submitted=request.POST)
        with form.faults_shown():
            issued = services.create_access_key(account=self.visit.account, by=self.visit.principal, **form.values())
            single_submit.use(request, reverse("dashboard:access-key", args=[issued.access_key.text_id]))
            return self.render(
                "dashboard/access_key_issued.html",
                title="Access key created",
                access_key=issued.access_key,
                token=issued.token,
                snippets=snippets_of(issued.access_key, issued.token),
            )
        return self.render(form=form, status=form.status, once=request.POST.get(single_submit.FIELD, ""))


class AccessKeyPage(Page):
    """`/dashboard/access-keys/<id>`, and with `?model=…` what the data plane would do with a request of this key."""

    path = "access-keys/<str:text_id>"
    name = "access-key"
    section = ACCESS_KEYS
    title = "Access key"
    template = "dashboard/access_key.html"

    def get(self, _request: HttpRequest, text_id: str) -> HttpResponse:
        """Show the key; users who may write also get its form."""
        access_key = self._found(text_id)
        return self._shown(access_key, self._form(access_key))

    def post(self, request: HttpRequest, text_id: str) -> HttpResponse:
        """Save the changed fields of the access key, and show it again."""
        access_key = self._found(text_id)
        form = self._form(access_key, submitted=request.POST)
        with form.faults_shown():
            services.update_access_key(
                access_key=access_key, by=self.visit.principal, if_match=form.if_match, **form.values()
            )
            return self.redirect(self.name, text_id, said="The access key is saved.")
        return self._shown(access_key, form)

    def _found(self, text_id: str) -> AccessKey:
        access_key: AccessKey = self.found(AccessKey.objects.select_related("configuration"), text_id)
        return access_key

    def _form(self, access_key: AccessKey, submitted: Any = None) -> Form:
        under = access_key.configuration
        present = {
            "name": access_key.name,
            "description": access_key.description,
            "accessKeyConfigurationId": under.text_id if under else None,
            "metadata": access_key.metadata,
            "expiresAt": access_key.expires_at,
        }
        fields = fields_of(self.owned(Configuration), under.text_id if under else "")
        return Form(
            AccessKeyForm,
            fields,
            submitted=submitted,
            present=present,
            etag=etag_of(access_key),
            context={"item": access_key},
        )

    def _shown(self, access_key: AccessKey, form: Form) -> HttpResponse:
        account = self.visit.account
        names = ProviderNames.of(account)
        # Read with all objects that the configuration names, because `explain` needs them.
        under = access_key.configuration
        configuration = (
            Configuration.objects.with_named().filter(account=account, id=under.id).first() if under else None
        )
        events = Event.objects.filter(account_id=account.id, access_key_id=access_key.id, is_final=True)
        return self.render(
            access_key=access_key,
            form=form,
            status=form.status,
            title=access_key.name or access_key.key_redacted,
            now=timezone.now(),
            recent=list(events.order_by("-event_time", "-id")[:_RECENT]),
            snippets=snippets_of(access_key, "gwk_…"),
            allows=allowance(configuration.access if configuration else None, names),
            **authors_of(account, access_key),
            **answered(self.request.GET, account=account, configuration=configuration, names=names),
        )


class AccessKeyStatePage(Page):
    """`/dashboard/access-keys/<id>/state`: a POST of `disabled=on` disables it, one without enables it."""

    path = "access-keys/<str:text_id>/state"
    name = "access-key-state"
    section = ACCESS_KEYS
    title = "Access key"

    def get(self, _request: HttpRequest, text_id: str) -> HttpResponse:
        """Redirect a browser that opens this address from its history to the key."""
        return self.redirect(AccessKeyPage.name, text_id)

    def post(self, request: HttpRequest, text_id: str) -> HttpResponse:
        """Disable or enable the key, and show it again."""
        disabled = "disabled" in request.POST
        services.update_access_key(
            access_key=self.found(AccessKey, text_id), by=self.visit.principal, if_match=ANY, disabled=disabled
        )
        said = "The access key is disabled." if disabled else "The access key is enabled."
        return self.redirect(AccessKeyPage.name, text_id, said=with_applied(self.visit.account, said))


class DeleteAccessKeyPage(ConfirmedPage):
    """`/dashboard/access-keys/<id>/delete`: asks, then deletes the access key."""

    path = "access-keys/<str:text_id>/delete"
    name = "delete-access-key"
    section = ACCESS_KEYS
    title = "Delete access key"

    def question(self, text_id: str) -> Question:
        """Ask whether requests with this key may be refused from now on."""
        access_key: AccessKey = self.found(AccessKey, text_id)
        return Question(
            phrase=access_key.name or access_key.key_redacted,
            consequences=(
                last_use_of(access_key),
                "Requests with its token are refused from then on.",
                "This cannot be undone. To stop an app for a while, disable its access key instead.",
            ),
            button="Delete access key",
            back=reverse("dashboard:access-key", args=[text_id]),
        )

    def carry_out(self, text_id: str) -> HttpResponse:
        """Delete the access key, and go on to the list."""
        services.delete_access_key(access_key=self.found(AccessKey, text_id), by=self.visit.principal)
        said = with_applied(self.visit.account, "The access key is deleted.")
        return self.redirect(AccessKeysPage.name, said=said)


def last_use_of(access_key: AccessKey) -> str:
    """A sentence on the last use of a key, for the question before its deletion."""
    return f"It was last used {ago(access_key.last_used)}." if access_key.last_used else "It has never been used."


def fields_of(configurations: QuerySet[Configuration], chosen: str = "") -> tuple[Field, ...]:
    """The form fields of an access key."""
    return (
        Field("name", "Name", hint="The app or team that holds it.", placeholder="checkout-service"),
        configuration_choices.field_of(configurations, chosen),
        Field("expiresAt", "Expires", "moment", hint="Empty: it does not expire."),
        Field("description", "Description", "textarea"),
        Field(
            "metadata", "Metadata", "textarea", hint="Your own text, JSON for example. The gateway does not read it."
        ),
    )


def _filters(configurations: Sequence[tuple[str, str]]) -> tuple[Filter, ...]:
    return (
        Filter("q", "Search", placeholder="Name, ID or start of the key", searches_keys=True),
        Filter("configuration", "Configuration", ((NONE, "none"), *configurations)),
        Filter("state", "State", (("active", "Active"), ("disabled", "Disabled"), ("expired", "Expired"))),
        Filter("unused", "Unused", (("never", "Never used"), ("30", "For 30 days"), ("90", "For 90 days"))),
    )


def _narrowed(items: QuerySet[AccessKey], filters: Filters) -> QuerySet[AccessKey]:
    now = timezone.now()
    if filters["q"]:
        items = items.filter(_sought(filters["q"]))
    if filters["configuration"] == NONE:
        items = items.filter(configuration=None)
    elif filters["configuration"]:
        items = items.filter(configuration=ids.from_text(Configuration.id_prefix, filters["configuration"]))
    match filters["state"]:
        case "active":
            items = items.filter(disabled=False).filter(Q(expires_at=None) | Q(expires_at__gt=now))
        case "disabled":
            items = items.filter(disabled=True)
        case "expired":
            items = items.filter(expires_at__lte=now)
    match filters["unused"]:
        case "never":
            items = items.filter(last_used=None)
        case "30" | "90" as days:
            since = now - timedelta(days=int(days))
            items = items.filter(created_at__lt=since).filter(Q(last_used=None) | Q(last_used__lt=since))
    return items


def _sought(text: str) -> Q:
    """The condition of a search: the start of an ID, else the start of a token's mask, else a part of the name."""
    if text.startswith(f"{AccessKey.id_prefix}_"):
        reach = id_range(AccessKey.id_prefix, text)
        return Q(id__range=reach) if reach else Q(pk=None)
    if text.startswith(tokens.ACCESS_KEY_PREFIX):
        is_whole = "***" in text or len(text) > 2 * MASK_LEAD
        shown = text if "***" in text else mask(text)
        return Q(key_redacted=shown) if is_whole else Q(key_redacted__startswith=text[:MASK_LEAD])
    return Q(name__icontains=text)


PAGES: Final = (
    AccessKeysPage,
    CreateAccessKeyPage,
    *access_keys_at_once.PAGES,
    AccessKeyPage,
    AccessKeyStatePage,
    DeleteAccessKeyPage,
)
