"""The database counts configurations and their bytes (accounts.quotas)."""

from django.db import migrations

from accounts.counting import count


class Migration(migrations.Migration):
    dependencies = [("accounts", "0005_quotas"), ("configurations", "0003_first_revisions")]

    operations = [
        count(
            "configurations_configuration",
            "configurations",
            weight="coalesce(octet_length(access::text), 0) + coalesce(octet_length(router::text), 0)",
        ),
    ]
