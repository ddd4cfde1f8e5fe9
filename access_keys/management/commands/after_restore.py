"""`manage.py after_restore`: the first command to run after PostgreSQL was restored from a backup."""

import time
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from redis.exceptions import RedisError

from access_keys import restoring
from snapshots import rebuild
from snapshots.redis_client import patient_store


class Command(BaseCommand):
    """Disables the access keys that were revoked since the backup, then rebuilds Redis from the database."""

    help = (
        "Run this after a database was restored from a backup, before the control plane and the relay are started. It "
        "lists the access keys that were deleted or disabled after the backup was made, by comparison with Redis. With "
        "--apply they are disabled, and Redis is rebuilt. Exit status 1: there are such keys and they were not "
        "disabled, or Redis does not have the information."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Add --apply."""
        parser.add_argument("--apply", action="store_true", help="disable those access keys, and rebuild Redis")

    def handle(self, *args: Any, **options: Any) -> None:
        """List the revoked keys; with --apply disable them and rebuild Redis."""
        store = patient_store()
        try:
            revoked = []
            for access_key in restoring.revoked_since(store):
                revoked.append(access_key)
                self.stdout.write(f"{access_key.account.text_id} {access_key.text_id} {access_key.key_redacted}")
            if not options["apply"]:
                if revoked:
                    raise CommandError(f"{len(revoked)} access keys were revoked since. --apply disables them.")
                self.stdout.write("No access key was revoked since. --apply rebuilds Redis.")
                return
            began = time.monotonic()
            count = restoring.disable_revoked(revoked)
            accounts, documents = rebuild.rebuild(store)
        except (restoring.NoWitness, rebuild.RebuildRunning, rebuild.RebuildOvertaken) as fault:
            raise CommandError(str(fault)) from None
        except RedisError as fault:
            raise CommandError(f"Redis does not answer: {type(fault).__name__}.") from None
        self.stdout.write(
            self.style.SUCCESS(
                f"{count} access keys were disabled; {accounts} accounts, {documents} documents were written in "
                f"{time.monotonic() - began:.1f} s."
            )
        )
