"""The database counts access keys (accounts.quotas)."""

from django.db import migrations

from accounts.counting import count


class Migration(migrations.Migration):
    dependencies = [("accounts", "0005_quotas"), ("access_keys", "0001_initial")]

    operations = [
        count("access_keys_accesskey", "access_keys"),
    ]
