"""What ingest adds to counts of limits, until Redis has taken it."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('usage', '0005_kinds_of_tokens'),
    ]

    operations = [
        migrations.CreateModel(
            name='LimitRound',
            fields=[
                ('id', models.BigAutoField(primary_key=True, serialize=False)),
                ('added', models.JSONField()),
            ],
        ),
    ]
