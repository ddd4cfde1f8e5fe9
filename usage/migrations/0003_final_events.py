"""Indexes of final attempts alone, so that `GET /usage` does not read those that were not final.

An index of a partitioned table is made on each partition. Ingest waits while they are made; its events wait in Redis.
"""

from django.db import migrations, models

FIELDS = (models.F("event_time").desc(), models.F("id").desc())
FINAL = models.Q(is_final=True)
INDEXES = [
    models.Index("account_id", *FIELDS, condition=FINAL, name="final_events_newest_first"),
    models.Index("access_key_id", *FIELDS, condition=FINAL, name="final_events_of_an_access_key"),
]


class Migration(migrations.Migration):
    dependencies = [("usage", "0002_tokens_in_rollups")]

    operations = [migrations.AddIndex("event", index) for index in INDEXES]
