"""The limits of access keys; null where none were written."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('access_keys', '0004_disabled_is_set'),
    ]

    operations = [
        migrations.AddField(
            model_name='accesskey',
            name='limits',
            field=models.JSONField(null=True),
        ),
    ]
