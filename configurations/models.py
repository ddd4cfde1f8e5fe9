"""Configurations: the access scope and the routing rules that access keys share.

`access` and `router` are kept as they were written; what they name in the account is also held by foreign key, so that
the database itself refuses to delete a provider key or a custom provider that a configuration still uses.
"""

from django.db import models

from accounts.models import Described
from gateway_core import ids
from provider_keys.models import ProviderKey
from providers.models import Provider


class Configuration(Described):
    """One scope with its routing rules."""

    id_prefix = ids.Prefix.CONFIGURATION
    path = "access-key-configurations"

    # The contract's `access` and `router`, or NULL where absent. A router's keys are `{"id": "aigpk_…"}`.
    access = models.JSONField(null=True)
    router = models.JSONField(null=True)

    class Meta:
        indexes = [models.Index("account", models.F("id").desc(), name="configurations_newest_first")]


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
