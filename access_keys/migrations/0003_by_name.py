"""The indexes of the list's filters. They are made while the table is written to."""

from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    atomic = False

    dependencies = [("access_keys", "0002_counted")]

    operations = [
        AddIndexConcurrently("accesskey", models.Index("account", "name", models.F("id").desc(), name="access_keys_by_name")),
        AddIndexConcurrently("accesskey", models.Index("configuration", models.F("id").desc(), name="access_keys_of_configuration")),
    ]
