"""What a custom provider deviates in counts towards the bytes of a snapshot. No row has any of it yet."""

from django.db import migrations

from accounts.counting import weigh

_BEFORE = "octet_length(name) + octet_length(base_url) + octet_length(supported_api_surfaces::text)"
_ADDED = " + ".join(f"coalesce(octet_length({name}::text), 0)" for name in ("auth", "headers", "paths", "dialect"))


class Migration(migrations.Migration):
    dependencies = [("providers", "0005_how_requests_deviate")]

    operations = [weigh("providers_provider", "providers", weight=f"{_BEFORE} + {_ADDED}", before=_BEFORE)]
