"""What else the price of an attempt depends on, and whether its numbers were estimated. Null where there is nothing."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("usage", "0004_traces_of_requests")]

    operations = [
        migrations.AddField("event", "kinds", models.JSONField(null=True)),
        migrations.AddField("event", "service_tier", models.TextField(null=True)),
        migrations.AddField("event", "usage_estimated", models.BooleanField(null=True)),
    ]
