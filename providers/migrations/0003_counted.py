"""The database counts custom providers, their models and the bytes of both (accounts.quotas)."""

from django.db import migrations

from accounts.counting import count


class Migration(migrations.Migration):
    dependencies = [("accounts", "0005_quotas"), ("providers", "0002_managed_keys_and_prices")]

    operations = [
        count(
            "providers_provider",
            "providers",
            weight="octet_length(name) + octet_length(base_url) + octet_length(supported_api_surfaces::text)",
        ),
        count(
            "providers_providermodel",
            "provider_models",
            weight="octet_length(model_id)",
            owner="(SELECT account_id FROM providers_provider provider WHERE provider.id = provider_id)",
        ),
    ]
