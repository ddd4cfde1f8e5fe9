"""The limits of accounts, and those for access keys; null where none were written."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('gateway_configuration', '0002_stream_timeout'),
    ]

    operations = [
        migrations.AddField(
            model_name='gatewayconfiguration',
            name='access_key_limits',
            field=models.JSONField(null=True),
        ),
        migrations.AddField(
            model_name='gatewayconfiguration',
            name='limits',
            field=models.JSONField(null=True),
        ),
    ]
