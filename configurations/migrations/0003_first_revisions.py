"""Every configuration that is there already gets its present state as revision 1."""

import uuid
from collections import defaultdict
from typing import Any

from django.db import migrations

from gateway_core import ids

CHUNK = 500


def keep_first_revisions(apps: Any, schema_editor: Any) -> None:
    configurations = apps.get_model("configurations", "Configuration").objects
    revisions = apps.get_model("configurations", "Revision").objects
    missing = list(configurations.filter(revisions=None).order_by("id").values_list("id", flat=True))
    for start in range(0, len(missing), CHUNK):
        chunk = missing[start : start + CHUNK]
        names = names_of(apps, chunk)
        revisions.bulk_create(
            revisions.model(
                configuration=configuration,
                number=1,
                created_at=configuration.updated_at,
                created_by=configuration.last_updated_by,
                content={
                    field: getattr(configuration, field)
                    for field in ("name", "description", "metadata", "access", "router")
                },
                names=names[configuration.id],
            )
            for configuration in configurations.filter(id__in=chunk)
        )


def names_of(apps: Any, chunk: list[uuid.UUID]) -> dict[uuid.UUID, dict[str, str]]:
    """By configuration: what the provider keys and custom providers that it names are called."""
    names: dict[uuid.UUID, dict[str, str]] = defaultdict(dict)
    for model, named, column, prefix in (
        ("RoutedKey", "provider_key", "name", ids.Prefix.PROVIDER_KEY),
        ("NamedProvider", "provider", "slug", ids.Prefix.PROVIDER),
    ):
        rows = apps.get_model("configurations", model).objects.filter(configuration__in=chunk)
        for configuration, identity, name in rows.values_list("configuration", named, f"{named}__{column}"):
            names[configuration][ids.to_text(prefix, identity)] = name or ""
    return names


class Migration(migrations.Migration):

    dependencies = [
        ("configurations", "0002_revisions"),
    ]

    operations = [
        migrations.RunPython(keep_first_revisions, migrations.RunPython.noop),
    ]
