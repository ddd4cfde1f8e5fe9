"""What the dashboard shows of each resource.

Fields are named one by one: a sealed value, a digest or a fingerprint has no page.
"""

from django.contrib import admin
from django.db.models import Model

from access_keys.models import AccessKey
from accounts.models import ApiKey
from configurations.models import Configuration
from dashboard.site import OwnedPage, site
from provider_keys.models import ProviderKey
from providers.models import Provider

_WHO_AND_WHEN = ("created_at", "created_by", "updated_at", "last_updated_by")


class AccessKeyPage(OwnedPage):
    """Access keys, by mask."""

    list_display = ("text_id", "name", "key_redacted", "configuration_name", "last_used", "created_at")
    list_select_related = ("configuration",)
    search_fields = ("name", "key_redacted")
    fields = (
        "text_id",
        "name",
        "description",
        "metadata",
        "key_redacted",
        "configuration_name",
        "last_used",
        "expires_at",
        "disabled",
        *_WHO_AND_WHEN,
    )

    @admin.display(description="Configuration", empty_value="none (everything allowed)")
    def configuration_name(self, access_key: AccessKey) -> str | None:
        """The name of the linked configuration."""
        return access_key.configuration.name if access_key.configuration else None


class ConfigurationPage(OwnedPage):
    """Configurations, with the API's own JSON."""

    list_display = ("text_id", "name", "description", "updated_at")
    search_fields = ("name",)
    fields = ("text_id", "name", "description", "metadata", "access", "router", *_WHO_AND_WHEN)


class ProviderKeyPage(OwnedPage):
    """Provider keys, by mask; the value is sealed and cannot be shown."""

    list_display = ("text_id", "name", "provider", "key_redacted", "last_used", "updated_at")
    list_filter = ("provider",)
    search_fields = ("name", "key_redacted")
    fields = ("text_id", "name", "provider", "description", "metadata", "key_redacted", "last_used", *_WHO_AND_WHEN)


class ApiKeyPage(OwnedPage):
    """API keys, by mask."""

    list_display = ("text_id", "name", "key_redacted", "last_used", "created_at")
    search_fields = ("name", "key_redacted")
    fields = (
        "text_id",
        "name",
        "description",
        "metadata",
        "key_redacted",
        "last_used",
        "expires_at",
        "disabled",
        *_WHO_AND_WHEN,
    )


class ProviderPage(OwnedPage):
    """Custom providers."""

    list_display = ("text_id", "slug", "name", "base_url", "updated_at")
    search_fields = ("slug", "name")
    fields = ("text_id", "slug", "name", "base_url", "supported_api_surfaces", "metadata", *_WHO_AND_WHEN)


_PAGES: dict[type[Model], type[OwnedPage]] = {
    AccessKey: AccessKeyPage,
    Configuration: ConfigurationPage,
    ProviderKey: ProviderKeyPage,
    Provider: ProviderPage,
    ApiKey: ApiKeyPage,
}


def register() -> None:
    """Put every page on the site."""
    for model, page in _PAGES.items():
        site.register(model, page)
