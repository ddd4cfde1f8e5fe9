"""Pages for custom providers: model servers, proxies and vendors that are not in the catalog."""

from collections.abc import Mapping
from typing import Any, Final

from django.db import connection
from django.db.models import Count
from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from configurations.models import Configuration
from dashboard.kit.confirmation import ConfirmedPage, Question
from dashboard.kit.lists import listing_of
from dashboard.kit.page import Page
from dashboard.kit.provider_forms import ProviderForm
from dashboard.navigation import PROVIDERS
from dashboard.wording.author_names import authors_of
from dashboard.wording.key_health import health_of
from provider_keys.models import ProviderKey
from providers import base_url_check, services
from providers.models import Provider
from rest.preconditions import etag_of

_PARENTS: Final = (("Custom", "custom-providers"),)
_MOST_SHOWN: Final = 10


class CustomProvidersPage(Page):
    """`/dashboard/providers/custom`: the list of custom providers."""

    path = "providers/custom"
    name = "custom-providers"
    section = PROVIDERS
    title = "Custom providers"
    template = "dashboard/custom_providers.html"

    def get(self, request: HttpRequest) -> HttpResponse:
        """Show one page of the list."""
        listing = listing_of(request, self.owned(Provider), Provider.id_prefix)
        of_page = Provider.objects.filter(id__in=[provider.id for provider in listing.items])
        models, keys = (dict(of_page.values_list("id").annotate(Count(rows))) for rows in ("models", "provider_keys"))
        rows = [(provider, models.get(provider.id, 0), keys.get(provider.id, 0)) for provider in listing.items]
        return self.render(listing=listing, rows=rows)


class CreateProviderPage(Page):
    """`/dashboard/providers/custom/new`: the form for a new provider."""

    path = "providers/custom/new"
    name = "create-provider"
    section = PROVIDERS
    title = "New custom provider"
    template = "dashboard/custom_provider_create.html"
    parents = _PARENTS
    least_to_read = Page.least_to_write

    def get(self, _request: HttpRequest) -> HttpResponse:
        """Show the empty form."""
        return self.render(form=ProviderForm())

    def post(self, request: HttpRequest) -> HttpResponse:
        """Create the provider, and go on to its page."""
        form = ProviderForm(submitted=request.POST, resolve=_looked_up(request.POST))
        with form.faults_shown():
            made = services.create_provider(account=self.visit.account, by=self.visit.principal, **form.values())
            return self.redirect(ProviderPage.name, made.text_id, said="The provider is created.")
        return self.render(form=form, status=form.status)


class ProviderPage(Page):
    """`/dashboard/providers/custom/<id>`: one provider, with its form."""

    path = "providers/custom/<str:text_id>"
    name = "custom-provider"
    section = PROVIDERS
    title = "Custom provider"
    template = "dashboard/custom_provider.html"
    parents = _PARENTS

    def get(self, _request: HttpRequest, text_id: str) -> HttpResponse:
        """Show the provider; users who may write also get its form."""
        provider = self._found(text_id)
        return self._shown(provider, ProviderForm(provider=provider, etag=etag_of(provider)))

    def post(self, request: HttpRequest, text_id: str) -> HttpResponse:
        """Save the changed fields of the provider, and show it again."""
        provider = self._found(text_id)
        form = ProviderForm(provider=provider, submitted=request.POST, resolve=_looked_up(request.POST))
        with form.faults_shown():
            services.update_provider(
                provider=provider, by=self.visit.principal, if_match=form.if_match, **form.values()
            )
            return self.redirect(self.name, text_id, said="The provider is saved.")
        return self._shown(provider, form)

    def _found(self, text_id: str) -> Provider:
        provider: Provider = self.found(Provider.objects.prefetch_related("models"), text_id)
        return provider

    def _shown(self, provider: Provider, form: ProviderForm) -> HttpResponse:
        keys = ProviderKey.objects.filter(custom_provider=provider).defer("sealed", "fingerprint").order_by("-id")
        return self.render(
            provider=provider,
            form=form,
            status=form.status,
            title=provider.name,
            keys=[(key, health_of(key)) for key in keys[:_MOST_SHOWN]],
            configurations=list(_configurations_of(provider)),
            **authors_of(self.visit.account, provider),
        )


class DeleteProviderPage(ConfirmedPage):
    """`/dashboard/providers/custom/<id>/delete`: asks, then deletes the provider."""

    path = "providers/custom/<str:text_id>/delete"
    name = "delete-provider"
    section = PROVIDERS
    title = "Delete custom provider"
    parents = _PARENTS

    def question(self, text_id: str) -> Question:
        """Ask, with the provider keys and configurations that name it."""
        provider: Provider = self.found(Provider, text_id)
        keys = ProviderKey.objects.filter(custom_provider=provider).only("name").order_by("-id")[:_MOST_SHOWN]
        named = [f"The provider key {key.name} belongs to it." for key in keys]
        named += [f"The configuration {configuration.name} names it." for configuration in _configurations_of(provider)]
        if named:
            named.append("It cannot be deleted before these are deleted or no longer name it.")
        return Question(
            phrase=provider.slug,
            consequences=(*named, "Requests for its models are refused from then on.", "This cannot be undone."),
            button="Delete provider",
            back=reverse("dashboard:custom-provider", args=[text_id]),
        )

    def carry_out(self, text_id: str) -> HttpResponse:
        """Delete the provider, and go on to the list."""
        services.delete_provider(provider=self.found(Provider, text_id), by=self.visit.principal)
        return self.redirect(CustomProvidersPage.name, said="The provider is deleted.")


def _looked_up(submitted: Mapping[str, Any]) -> base_url_check.Resolve:
    """Resolve the host of the submitted base URL now, and return a resolver that repeats the result.

    So the look-up happens outside of the transaction, while no database connection is held.
    """
    if not connection.in_atomic_block:
        connection.close()
    return base_url_check.look_up(submitted.get("baseUrl"))


def _configurations_of(provider: Provider) -> Any:
    """The newest configurations that name a provider."""
    return Configuration.objects.filter(named_providers__provider=provider).order_by("-id")[:_MOST_SHOWN]


PAGES: Final = (CustomProvidersPage, CreateProviderPage, ProviderPage, DeleteProviderPage)
