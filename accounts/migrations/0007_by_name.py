"""The indexes of the list's filters. They are made while the table is written to."""

from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    atomic = False

    dependencies = [("accounts", "0006_makers_of_api_keys")]

    operations = [
        AddIndexConcurrently("apikey", models.Index("account", "name", models.F("id").desc(), name="api_keys_by_name")),
    ]
