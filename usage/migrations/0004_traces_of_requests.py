"""What a request's trace is read from: three columns that may be null, and an index by request ID.

An index of a partitioned table is made on each partition. Ingest waits while it is made; its events wait in Redis.
"""

from django.db import migrations, models

INDEX = models.Index("account_id", "request_id", models.F("event_time").desc(), name="events_of_a_request")


class Migration(migrations.Migration):
    dependencies = [("usage", "0003_final_events")]

    operations = [
        migrations.AddField("event", "first_byte_ms", models.IntegerField(null=True)),
        migrations.AddField("event", "requested_at", models.DateTimeField(null=True)),
        migrations.AddField("event", "trace", models.JSONField(null=True)),
        migrations.AddIndex("event", INDEX),
    ]
