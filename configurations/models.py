"""Configurations: the access scope and the routing rules that access keys share.

`access` and `router` are stored as they were written. Foreign keys refer to the objects that they name, so that the
database refuses to delete a provider key or a custom provider that a configuration uses. A `Revision` has no such
foreign keys: an object that an earlier state names may be deleted.
"""

from typing import Any

from django.contrib.postgres.expressions import ArraySubquery
from django.db import models
from django.db.models import OuterRef
from django.db.models.functions import JSONObject
from django.utils import timezone

from accounts.owned.models import DescribedModel
from gateway_core import ids
from gateway_core.snapshot import configuration_document
from provider_keys.models import ProviderKey
from providers.models import Provider


class ConfigurationQuerySet(models.QuerySet["Configuration"]):
    """Named reads of configurations."""

    def with_named(self) -> "ConfigurationQuerySet":
        """Read each configuration with the objects that it names, in the same statement.

        A second query could meet a newer state than the first, in which a router's key is gone.
        """
        keys = RoutedKey.objects.filter(configuration=OuterRef("pk")).order_by()
        providers = NamedProvider.objects.filter(configuration=OuterRef("pk")).order_by()
        key = JSONObject(id="provider_key_id", name="provider_key__name", mask="provider_key__key_redacted")
        annotations = {
            "routed": ArraySubquery(keys.values(row=key)),
            "named": ArraySubquery(providers.values(row=JSONObject(id="provider_id", slug="provider__slug"))),
        }
        return self.annotate(**annotations)


class Configuration(DescribedModel):
    """An access scope with routing rules."""

    id_prefix = ids.Prefix.CONFIGURATION
    path = "access-key-configurations"

    # The contract's `access` and `router`, or NULL if absent. A router's keys are `{"id": "aigpk_…"}`.
    access = models.JSONField(null=True)
    router = models.JSONField(null=True)

    objects = ConfigurationQuerySet.as_manager()

    # Added by `with_named`: provider keys of the routing rules as {id, name, mask}, custom providers as {id, slug}.
    routed: list[dict[str, Any]]
    named: list[dict[str, Any]]

    class Meta:
        indexes = [
            models.Index("account", models.F("id").desc(), name="configurations_newest_first"),
            models.Index("account", "name", models.F("id").desc(), name="configurations_by_name"),
        ]

    @property
    def content(self) -> dict[str, Any]:
        """The fields that a client writes: name, description, metadata, access and router; null if absent."""
        return {
            "name": self.name,
            "description": self.description,
            "metadata": self.metadata,
            "access": self.access,
            "router": self.router,
        }

    def audit_state(self) -> dict[str, Any]:
        """The fields that the audit may show. A router's keys are IDs."""
        return self.content

    @property
    def snapshot_document(self) -> str:
        """The name of its document."""
        return configuration_document(self.text_id)


class Revision(models.Model):
    """A configuration's content after one of its writes. It never changes, and is deleted with the configuration."""

    configuration = models.ForeignKey(Configuration, on_delete=models.CASCADE, related_name="revisions", db_index=False)
    # 1, 2, 3 … within the configuration.
    number = models.IntegerField()
    created_at = models.DateTimeField(default=timezone.now)
    # The ID of the principal who made it, and the principal's name at that time (empty: unknown).
    created_by = models.CharField(max_length=64)
    created_by_name = models.CharField(max_length=255, default="")
    # `Configuration.content` of that moment.
    content = models.JSONField()
    # The names at that time of the objects that it names by ID: {`aigpk_…`: name, `aigp_…`: `providerId`}.
    names = models.JSONField(default=dict)

    class Meta:
        # Its index also finds a configuration's revisions, newest first.
        constraints = [models.UniqueConstraint(fields=["configuration", "number"], name="one_revision_per_number")]

    def __str__(self) -> str:
        return f"{self.number} of {self.configuration_id}"


class RoutedKey(models.Model):
    """A provider key that a configuration's routing rules name."""

    configuration = models.ForeignKey(Configuration, on_delete=models.CASCADE, related_name="routed_keys")
    # RESTRICT in the database as well: a rule and a deletion may race (provider_keys.services.delete_provider_key).
    provider_key = models.ForeignKey(ProviderKey, on_delete=models.RESTRICT, related_name="routed_in")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["configuration", "provider_key"], name="one_row_per_routed_key")]

    def __str__(self) -> str:
        return f"{self.provider_key_id} in {self.configuration_id}"


class NamedProvider(models.Model):
    """A custom provider that a configuration's scope or rules name."""

    configuration = models.ForeignKey(Configuration, on_delete=models.CASCADE, related_name="named_providers")
    provider = models.ForeignKey(Provider, on_delete=models.RESTRICT, related_name="named_in")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["configuration", "provider"], name="one_row_per_named_provider")]

    def __str__(self) -> str:
        return f"{self.provider_id} in {self.configuration_id}"
