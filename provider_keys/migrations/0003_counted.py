"""The database counts provider keys (accounts.quotas)."""

from django.db import migrations

from accounts.counting import count


class Migration(migrations.Migration):
    dependencies = [("accounts", "0005_quotas"), ("provider_keys", "0002_health")]

    operations = [
        count("provider_keys_providerkey", "provider_keys"),
    ]
