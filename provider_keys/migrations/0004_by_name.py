"""The indexes of the list's filters. They are made while the table is written to."""

from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    atomic = False

    dependencies = [("provider_keys", "0003_counted")]

    operations = [
        AddIndexConcurrently("providerkey", models.Index("account", "name", models.F("id").desc(), name="provider_keys_by_name")),
    ]
