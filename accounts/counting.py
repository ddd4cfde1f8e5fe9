"""The SQL by which the database counts what an account has (accounts.quotas). Each room's migrations use it."""

from typing import Final, NamedTuple

from django.db import migrations

FUNCTION: Final = """
CREATE FUNCTION accounts_count() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    -- The count's column; an expression for the bytes of a row; one for the account that owns it.
    counted CONSTANT text := TG_ARGV[0];
    weight CONSTANT text := TG_ARGV[1];
    owner CONSTANT text := TG_ARGV[2];
    sums CONSTANT text := format(
        'SELECT %s AS owner, count(*) AS rows, coalesce(sum(%s), 0) AS bytes FROM ', owner, weight);
BEGIN
    IF TG_OP = 'INSERT' THEN
        EXECUTE format(
            'INSERT INTO accounts_accountquotas AS kept (account_id, %1$I, snapshot_bytes) '
            'SELECT owner, rows, bytes FROM (%2$s added GROUP BY 1) sums ORDER BY owner '
            'ON CONFLICT (account_id) DO UPDATE SET %1$I = kept.%1$I + excluded.%1$I, '
            'snapshot_bytes = kept.snapshot_bytes + excluded.snapshot_bytes', counted, sums);
    ELSIF TG_OP = 'DELETE' THEN
        EXECUTE format(
            'UPDATE accounts_accountquotas kept SET %1$I = kept.%1$I - rows, '
            'snapshot_bytes = kept.snapshot_bytes - bytes FROM (%2$s removed GROUP BY 1) sums WHERE account_id = owner',
            counted, sums);
    ELSE
        EXECUTE format(
            'UPDATE accounts_accountquotas kept SET snapshot_bytes = kept.snapshot_bytes + sums.bytes - before.bytes '
            'FROM (%1$s added GROUP BY 1) sums JOIN (%1$s removed GROUP BY 1) before USING (owner) '
            'WHERE account_id = owner AND sums.bytes <> before.bytes', sums);
    END IF;
    RETURN NULL;
END
$$
"""
NO_FUNCTION: Final = "DROP FUNCTION accounts_count()"
_INSERTED: Final = "AFTER INSERT ON {table} REFERENCING NEW TABLE AS added"
_DELETED: Final = "AFTER DELETE ON {table} REFERENCING OLD TABLE AS removed"
_UPDATED: Final = "AFTER UPDATE ON {table} REFERENCING OLD TABLE AS removed NEW TABLE AS added"


def count(table: str, column: str, *, weight: str = "0", owner: str = "account_id") -> migrations.RunSQL:
    """Count the rows of a table from now on, and those that are there.

    Args:
        table: the table.
        column: the count in `AccountQuotas`.
        weight: an SQL expression for the bytes of a row that count towards `snapshot_bytes`.
        owner: an SQL expression for the account that owns a row.
    """
    created, dropped = _triggers(table, column, weight, owner)
    present = (
        f"INSERT INTO accounts_accountquotas AS kept (account_id, {column}, snapshot_bytes) "  # noqa: S608 -- our own names
        f"SELECT {owner}, count(*), coalesce(sum({weight}), 0) FROM {table} GROUP BY 1 "
        f"ON CONFLICT (account_id) DO UPDATE SET {column} = excluded.{column}, "
        "snapshot_bytes = kept.snapshot_bytes + excluded.snapshot_bytes"
    )
    return migrations.RunSQL([*created, present], [*dropped])


def weigh(table: str, column: str, *, weight: str, before: str) -> migrations.RunSQL:
    """Count other bytes of a table's rows from now on. Rows that are there must weigh the same by both expressions.

    Args:
        table, column, weight: as for `count`.
        before: the weight until now.
    """
    created, dropped = _triggers(table, column, weight)
    return migrations.RunSQL([*dropped, *created], [*dropped, *_triggers(table, column, before).created])


class _Triggers(NamedTuple):
    """The statements that make a table's triggers, and those that drop them."""

    created: list[str]
    dropped: list[str]


def _triggers(table: str, column: str, weight: str, owner: str = "account_id") -> _Triggers:
    events = {"insert": _INSERTED, "delete": _DELETED} | ({"update": _UPDATED} if weight != "0" else {})
    literals = ", ".join(f"'{text}'" for text in (column, weight, owner))
    created = [
        f"CREATE TRIGGER {table}_is_counted_on_{name} {event.format(table=table)} "
        f"FOR EACH STATEMENT EXECUTE FUNCTION accounts_count({literals})"
        for name, event in events.items()
    ]
    return _Triggers(created, [f"DROP TRIGGER {table}_is_counted_on_{name} ON {table}" for name in events])
