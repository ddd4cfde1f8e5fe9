"""How requests to a custom provider deviate from the format. The release before ignores these columns."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('providers', '0004_by_name'),
    ]

    operations = [
        migrations.AddField(
            model_name='provider',
            name='auth',
            field=models.JSONField(null=True),
        ),
        migrations.AddField(
            model_name='provider',
            name='dialect',
            field=models.CharField(max_length=64, null=True),
        ),
        migrations.AddField(
            model_name='provider',
            name='headers',
            field=models.JSONField(null=True),
        ),
        migrations.AddField(
            model_name='provider',
            name='paths',
            field=models.JSONField(null=True),
        ),
    ]
