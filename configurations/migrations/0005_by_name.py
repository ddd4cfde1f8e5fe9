"""The indexes of the list's filters. They are made while the table is written to."""

from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    atomic = False

    dependencies = [("configurations", "0004_counted")]

    operations = [
        AddIndexConcurrently("configuration", models.Index("account", "name", models.F("id").desc(), name="configurations_by_name")),
    ]
