"""Custom providers, the operator's keys for built-in providers, and the newest prices.

A custom provider is an upstream that an account adds to the catalog's. It cannot be deleted while provider keys or
configurations refer to it by foreign key.
"""

import uuid
from typing import Any

from django.db import models
from django.utils import timezone

from accounts.owned.models import OwnedModel
from gateway_core import ids
from gateway_core.snapshot import provider_document


class Provider(OwnedModel):
    """One upstream of an account, with its base URL."""

    id_prefix = ids.Prefix.PROVIDER
    path = "providers"

    # The `providerId` of the wire: the part of `my-ollama:llama3.2` before the colon. Never a built-in provider's.
    slug = models.CharField(max_length=255)
    name = models.CharField(max_length=255)
    base_url = models.CharField(max_length=2048)
    metadata = models.CharField(max_length=4096, null=True)
    # [{format, surface?, supportedParams?: [{name}]}], as written.
    supported_api_surfaces = models.JSONField(default=list)
    # How requests deviate from the format (gateway_core.upstream_requests), as written; None where nothing was written.
    # `{header, prefix?}`, values by header, and paths by surface.
    auth = models.JSONField(null=True)
    headers = models.JSONField(null=True)
    paths = models.JSONField(null=True)
    dialect = models.CharField(max_length=64, null=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["account", "slug"], name="one_provider_per_slug")]
        indexes = [
            models.Index("account", models.F("id").desc(), name="providers_newest_first"),
            models.Index("account", "name", models.F("id").desc(), name="providers_by_name"),
        ]

    @property
    def audit_name(self) -> str:
        """The name that the audit shows."""
        return self.name

    def audit_state(self) -> dict[str, Any]:
        """The fields that the audit may show. This reads its models from the database."""
        return {
            "providerId": self.slug,
            "name": self.name,
            "baseUrl": self.base_url,
            "metadata": self.metadata,
            "supportedApiSurfaces": self.supported_api_surfaces,
            "auth": self.auth,
            "headers": self.headers,
            "paths": self.paths,
            "dialect": self.dialect,
            "models": sorted(ProviderModel.objects.filter(provider=self).values_list("model_id", flat=True)),
        }

    @property
    def snapshot_document(self) -> str:
        """The name of its document."""
        return provider_document(self.slug)

    @property
    def models_by_age(self) -> "list[ProviderModel]":
        """Its models, oldest first."""
        return sorted(self.models.all(), key=lambda model: model.id)


class ProviderModel(models.Model):
    """A model that a custom provider serves."""

    id = models.UUIDField(primary_key=True, default=ids.new_id, editable=False)
    provider = models.ForeignKey(Provider, on_delete=models.CASCADE, related_name="models")
    model_id = models.CharField(max_length=255)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["provider", "model_id"], name="one_row_per_provider_model")]

    def __str__(self) -> str:
        return self.model_id

    @property
    def text_id(self) -> str:
        """The ID as text: `aigpm_…`."""
        return ids.to_text(ids.Prefix.PROVIDER_MODEL, self.id)


class ManagedKey(models.Model):
    """The operator's own key for a built-in provider, for managed inference: sealed, as provider keys are.

    It belongs to no account; `manage.py set_managed_key` alone writes it.
    """

    provider = models.CharField(max_length=255, primary_key=True)
    sealed = models.BinaryField()
    key_redacted = models.CharField(max_length=32)
    updated_at = models.DateTimeField(default=timezone.now)

    def __str__(self) -> str:
        return self.provider

    def __repr__(self) -> str:
        return f"<ManagedKey {self.provider}>"

    # For the audit: an object of the operator's.
    account_id: uuid.UUID | None = None

    @property
    def text_id(self) -> str:
        """The provider's ID; each provider has at most one key."""
        return self.provider

    @property
    def audit_name(self) -> str:
        """The name that the audit shows."""
        return self.provider

    def audit_state(self) -> dict[str, Any]:
        """The fields that the audit may show."""
        return {"providerId": self.provider, "keyRedacted": self.key_redacted}


class PriceRelease(models.Model):
    """The newest price data that was fetched: a single row.

    Every process of the control plane reads the same prices from it (providers.price_refresh). It is used only with the
    release of `genai-prices` that fetched it; a newer package contains newer prices.
    """

    singleton = models.BooleanField(default=True, primary_key=True)
    # The version of `genai-prices` that fetched and read it.
    package = models.CharField(max_length=64)
    # SHA-256 of the data: a process compares it with the data that it holds.
    digest = models.CharField(max_length=64)
    # The JSON as it was fetched, compressed by zlib.
    data = models.BinaryField()
    fetched_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [models.CheckConstraint(condition=models.Q(singleton=True), name="there_is_one_price_release")]

    def __str__(self) -> str:
        return f"{self.package} {self.digest[:8]}"
