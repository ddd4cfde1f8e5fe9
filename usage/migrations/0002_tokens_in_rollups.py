"""Sums hold tokens too. Those of events that are there already are made good here, one scan of the events."""

from django.db import migrations, models

MADE_GOOD = """
UPDATE usage_rollup AS one SET input_tokens = summed.input_tokens, output_tokens = summed.output_tokens
FROM (
    SELECT account_id, dimension, span, start, group_key,
           sum(input_tokens) AS input_tokens, sum(output_tokens) AS output_tokens
    FROM usage_event
    CROSS JOIN LATERAL (VALUES ('p', provider), ('k', access_key_id::text)) AS by_dimension (dimension, group_key)
    CROSS JOIN LATERAL (
        VALUES ('d', date_trunc('day', event_time, 'UTC')), ('h', date_trunc('hour', event_time, 'UTC'))
    ) AS by_span (span, start)
    GROUP BY account_id, dimension, span, start, group_key
) AS summed
WHERE (one.account_id, one.dimension, one.span, one.start, one.group_key)
    = (summed.account_id, summed.dimension, summed.span, summed.start, summed.group_key);
"""


class Migration(migrations.Migration):
    dependencies = [("usage", "0001_initial")]

    operations = [
        migrations.AddField("rollup", "input_tokens", models.BigIntegerField(default=0, db_default=0)),
        migrations.AddField("rollup", "output_tokens", models.BigIntegerField(default=0, db_default=0)),
        migrations.RunSQL(MADE_GOOD, migrations.RunSQL.noop),
    ]
