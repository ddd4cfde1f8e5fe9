"""Pages for provider keys. They show masks and never values, the configurations that use a key, and its health."""

from typing import Any, Final, NamedTuple

from django.db.models import Count, QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from configurations.models import Configuration, RoutedKey
from dashboard.kit.confirmation import ConfirmedPage, Question
from dashboard.kit.forms import Field, Form
from dashboard.kit.lists import Filter, Filters, id_range, listing_of
from dashboard.kit.page import Page
from dashboard.navigation import PROVIDERS
from dashboard.wording.apply_status import with_applied
from dashboard.wording.author_names import authors_of
from dashboard.wording.key_health import Health, health_of, refusal_text
from dashboard.wording.relative_time import ago
from gateway_core.catalog import BUILT_IN
from provider_keys import services
from provider_keys.models import ProviderKey
from provider_keys.serializers import ProviderKeyChangeForm, ProviderKeyCreateForm, ProviderKeyRotateForm
from providers.models import Provider
from rest.preconditions import etag_of

_PARENTS: Final = (("Provider keys", "provider-keys"),)
_MOST_SHOWN: Final = 10
# At most so many custom providers are offered as choices.
_MOST_PROVIDERS: Final = 500
# Secret columns that no page needs, so they are not read.
_UNREAD: Final = ("sealed", "fingerprint")
_VALUE: Final = Field(
    "value",
    "Value",
    "secret",
    required=True,
    hint="The key that the upstream gave you. It is sealed at once, and nobody can see it here again, not even you.",
)
_DESCRIBED: Final = (
    Field("description", "Description", "textarea"),
    Field("metadata", "Metadata", "textarea", hint="Your own text, JSON for example. The gateway does not read it."),
)
_NAME: Final = Field("name", "Name", required=True, placeholder="team key")
_CHANGED: Final = (_NAME, *_DESCRIBED)
_ROTATED: Final = (
    Field("name", "Name", required=True, hint="Replaces the name; leave it if it still fits."),
    _VALUE,
)


class Row(NamedTuple):
    """One row of the list: a provider key, its health and its number of uses."""

    provider_key: ProviderKey
    health: Health
    configuration_count: int


class Use(NamedTuple):
    """A configuration that names a provider key, and the places in it."""

    configuration: Configuration
    places: str


class ProviderKeysPage(Page):
    """`/dashboard/providers/keys`: the list of provider keys."""

    path = "providers/keys"
    name = "provider-keys"
    section = PROVIDERS
    title = "Provider keys"
    template = "dashboard/provider_keys.html"

    def get(self, request: HttpRequest) -> HttpResponse:
        """Show one page of the list, grouped by provider."""
        providers = _provider_names(self.owned(Provider))
        filters = Filters(
            request,
            (
                Filter("q", "Search", placeholder="Name, ID or start of the key", searches_keys=True),
                Filter("provider", "Provider", tuple(providers.items())),
            ),
        )
        items = _narrowed(self.owned(ProviderKey).defer(*_UNREAD), filters)
        listing = listing_of(request, items, ProviderKey.id_prefix)
        routed = RoutedKey.objects.filter(provider_key__in=[key.id for key in listing.items])
        counts = dict(routed.values_list("provider_key_id").annotate(Count("id")))
        rows = [Row(key, health_of(key), counts.get(key.id, 0)) for key in listing.items]
        order = list(providers)
        groups: dict[str, list[Row]] = {}
        for row in sorted(rows, key=lambda row: _place(order, row.provider_key.provider)):
            slug = row.provider_key.provider
            groups.setdefault(providers.get(slug, slug), []).append(row)
        return self.render(listing=listing, groups=list(groups.items()), filters=filters)


class CreateProviderKeyPage(Page):
    """`/dashboard/providers/keys/new`; `?provider=openai` preselects a provider."""

    path = "providers/keys/new"
    name = "create-provider-key"
    section = PROVIDERS
    title = "New provider key"
    template = "dashboard/provider_key_create.html"
    parents = _PARENTS
    least_to_read = Page.least_to_write

    def get(self, request: HttpRequest) -> HttpResponse:
        """Show the empty form."""
        form = Form(ProviderKeyCreateForm, self._fields())
        form["providerId"].value = request.GET.get("provider", "")
        return self.render(form=form)

    def post(self, request: HttpRequest) -> HttpResponse:
        """Seal and store the key, and go on to its page."""
        form = Form(ProviderKeyCreateForm, self._fields(), submitted=request.POST)
        with form.faults_shown():
            made = services.create_provider_key(account=self.visit.account, by=self.visit.principal, **form.values())
            return self.redirect(ProviderKeyPage.name, made.text_id, said="The provider key is stored, sealed.")
        return self.render(form=form, status=form.status)

    def _fields(self) -> tuple[Field, ...]:
        choices = (("", "Choose a provider"), *_provider_names(self.owned(Provider)).items())
        return (
            Field("providerId", "Provider", "choice", required=True, choices=choices),
            _NAME,
            _VALUE,
            *_DESCRIBED,
        )


class ProviderKeyPage(Page):
    """`/dashboard/providers/keys/<id>`: one provider key, with its form."""

    path = "providers/keys/<str:text_id>"
    name = "provider-key"
    section = PROVIDERS
    title = "Provider key"
    template = "dashboard/provider_key.html"
    parents = _PARENTS

    def get(self, _request: HttpRequest, text_id: str) -> HttpResponse:
        """Show the key; users who may write also get its form."""
        provider_key: ProviderKey = self.found(ProviderKey, text_id)
        return self._shown(provider_key, self._form(provider_key))

    def post(self, request: HttpRequest, text_id: str) -> HttpResponse:
        """Save the key's name, description and metadata, and show it again."""
        provider_key: ProviderKey = self.found(ProviderKey, text_id)
        form = self._form(provider_key, submitted=request.POST)
        with form.faults_shown():
            services.update_provider_key(
                provider_key=provider_key, by=self.visit.principal, if_match=form.if_match, **form.values()
            )
            return self.redirect(self.name, text_id, said="The provider key is saved.")
        return self._shown(provider_key, form)

    def _form(self, provider_key: ProviderKey, submitted: Any = None) -> Form:
        present = {
            "name": provider_key.name,
            "description": provider_key.description,
            "metadata": provider_key.metadata,
        }
        return Form(ProviderKeyChangeForm, _CHANGED, submitted=submitted, present=present, etag=etag_of(provider_key))

    def _shown(self, provider_key: ProviderKey, form: Form) -> HttpResponse:
        uses = _uses_of(provider_key)
        status = provider_key.last_refusal_status
        return self.render(
            provider_key=provider_key,
            provider_name=_called(self.owned(Provider), provider_key.provider),
            form=form,
            status=form.status,
            title=provider_key.name or "",
            health=health_of(provider_key),
            refused_with=refusal_text(status) if status is not None else "",
            uses=uses[:_MOST_SHOWN],
            has_more_uses=len(uses) > _MOST_SHOWN,
            **authors_of(self.visit.account, provider_key),
        )


class RotateProviderKeyPage(Page):
    """`/dashboard/providers/keys/<id>/rotate`: replaces the value of a key."""

    path = "providers/keys/<str:text_id>/rotate"
    name = "rotate-provider-key"
    section = PROVIDERS
    title = "Rotate provider key"
    template = "dashboard/provider_key_rotate.html"
    parents = _PARENTS
    least_to_read = Page.least_to_write

    def get(self, _request: HttpRequest, text_id: str) -> HttpResponse:
        """Show the form for the new value."""
        provider_key: ProviderKey = self.found(ProviderKey, text_id)
        form = Form(ProviderKeyRotateForm, _ROTATED, etag=etag_of(provider_key))
        form["name"].value = provider_key.name
        return self._shown(provider_key, form)

    def post(self, request: HttpRequest, text_id: str) -> HttpResponse:
        """Store the new value under the same ID."""
        provider_key: ProviderKey = self.found(ProviderKey, text_id)
        form = Form(ProviderKeyRotateForm, _ROTATED, submitted=request.POST)
        with form.faults_shown():
            before = provider_key.key_redacted
            rotated = services.rotate_provider_key(
                provider_key=provider_key, by=self.visit.principal, if_match=form.if_match, **form.values()
            )
            said = f"The provider key is rotated: {before} → {rotated.key_redacted}."
            return self.redirect(ProviderKeyPage.name, text_id, said=with_applied(self.visit.account, said))
        return self._shown(provider_key, form)

    def _shown(self, provider_key: ProviderKey, form: Form) -> HttpResponse:
        return self.render(
            provider_key=provider_key,
            form=form,
            status=form.status,
            title=f"Rotate {provider_key.name}",
        )


class DeleteProviderKeyPage(ConfirmedPage):
    """`/dashboard/providers/keys/<id>/delete`: asks, then deletes the provider key."""

    path = "providers/keys/<str:text_id>/delete"
    name = "delete-provider-key"
    section = PROVIDERS
    title = "Delete provider key"
    parents = _PARENTS

    def question(self, text_id: str) -> Question:
        """Ask, with the configurations that name it."""
        provider_key: ProviderKey = self.found(ProviderKey, text_id)
        last = provider_key.last_used
        uses = _uses_of(provider_key)
        named = [f"The configuration {use.configuration.name} names it ({use.places})." for use in uses[:_MOST_SHOWN]]
        if uses:
            named.append("It cannot be deleted before it is removed from them.")
        return Question(
            phrase=provider_key.name or provider_key.key_redacted,
            consequences=(
                *named,
                f"It was last used {ago(last)}." if last else "It has never been used.",
                "The sealed value is gone with it. This cannot be undone.",
            ),
            button="Delete provider key",
            back=reverse("dashboard:provider-key", args=[text_id]),
        )

    def carry_out(self, text_id: str) -> HttpResponse:
        """Delete the provider key, and go on to the list."""
        services.delete_provider_key(provider_key=self.found(ProviderKey, text_id), by=self.visit.principal)
        return self.redirect(ProviderKeysPage.name, said="The provider key is deleted.")


def _provider_names(custom: QuerySet[Provider]) -> dict[str, str]:
    """The names of providers, by `providerId`: the catalog's in its order, then the account's own by name."""
    own = custom.order_by("name", "slug").values_list("slug", "name")[:_MOST_PROVIDERS]
    return {**{provider.id: provider.display_name for provider in BUILT_IN.values()}, **dict(own)}


def _called(custom: QuerySet[Provider], slug: str) -> str:
    if slug in BUILT_IN:
        return BUILT_IN[slug].display_name
    return custom.filter(slug=slug).values_list("name", flat=True).first() or slug


def _place(order: list[str], slug: str) -> tuple[int, str]:
    return (order.index(slug) if slug in order else len(order), slug)


def _narrowed(items: QuerySet[ProviderKey], filters: Filters) -> QuerySet[ProviderKey]:
    if filters["provider"]:
        items = items.filter(provider=filters["provider"])
    if text := filters["q"]:
        reach = id_range(ProviderKey.id_prefix, text) if text.startswith(f"{ProviderKey.id_prefix}_") else None
        by_text = items.filter(name__icontains=text) | items.filter(key_redacted__startswith=text)
        items = items.filter(id__range=reach) if reach else by_text
    return items


def _uses_of(provider_key: ProviderKey) -> list[Use]:
    """The newest configurations that name a key: one more than the page shows."""
    routed = RoutedKey.objects.filter(provider_key=provider_key).select_related("configuration")
    rows = routed.order_by("-configuration_id")[: _MOST_SHOWN + 1]
    return [Use(row.configuration, _places(row.configuration, provider_key.text_id)) for row in rows]


def _places(configuration: Configuration, text_id: str) -> str:
    """The places where a configuration names a key: `rule 1, step 2; rule 3, step 1`."""
    rules = (configuration.router or {}).get("rules", [])
    found = [
        f"rule {rule_number}, step {step_number}"
        for rule_number, rule in enumerate(rules, start=1)
        for step_number, step in enumerate(rule.get("steps", []), start=1)
        if any(key.get("id") == text_id for key in step.get("keys", []))
    ]
    return "; ".join(found)


PAGES: Final = (
    ProviderKeysPage,
    CreateProviderKeyPage,
    ProviderKeyPage,
    RotateProviderKeyPage,
    DeleteProviderKeyPage,
)
