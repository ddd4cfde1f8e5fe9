"""The table of Django's database cache: tries and used codes that all processes of the dashboard must know of."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("accounts", "0002_idempotency_records")]

    operations = [
        migrations.RunSQL(
            sql=[
                "CREATE TABLE accounts_cache ("
                "cache_key varchar(255) NOT NULL PRIMARY KEY, value text NOT NULL, expires timestamptz NOT NULL)",
                "CREATE INDEX accounts_cache_expires ON accounts_cache (expires)",
            ],
            reverse_sql="DROP TABLE accounts_cache",
        )
    ]
