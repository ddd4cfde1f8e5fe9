"""A time limit for running streams. Releases before this one write rows without it."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("gateway_configuration", "0001_initial")]

    operations = [
        migrations.AddField(
            "gatewayconfiguration",
            "stream_timeout",
            models.CharField(max_length=64, default="30m", db_default="30m"),
        ),
    ]
