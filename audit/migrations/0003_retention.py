"""Events and links may be deleted once they are older than 30 days; everything else is refused as before.

How long they are kept is a setting (audit.retention). These 30 days hold whatever it says, and for SQL written by hand.
"""

from django.db import migrations

OLD_ONES_MAY_GO = """
CREATE OR REPLACE FUNCTION audit_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    happened timestamptz;
BEGIN
    IF TG_OP = 'DELETE' THEN
        IF TG_TABLE_NAME = 'audit_link' THEN
            SELECT at INTO happened FROM audit_event WHERE id = OLD.event_id;
        ELSE
            happened := OLD.at;
        END IF;
        IF happened < now() - interval '30 days' THEN
            RETURN OLD;
        END IF;
    END IF;
    RAISE EXCEPTION 'the audit only grows: % is refused', TG_OP USING ERRCODE = 'restrict_violation';
END
$$
"""
NONE_MAY_GO = """
CREATE OR REPLACE FUNCTION audit_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit only grows: % is refused', TG_OP USING ERRCODE = 'restrict_violation';
END
$$
"""


class Migration(migrations.Migration):
    dependencies = [("audit", "0002_pending_event")]

    operations = [migrations.RunSQL(OLD_ONES_MAY_GO, NONE_MAY_GO)]
