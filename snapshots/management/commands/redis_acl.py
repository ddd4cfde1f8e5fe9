"""`manage.py redis_acl`: print what each process may do in Redis, as commands for Redis."""

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser

from gateway_core.redis_rights import RIGHTS, acl_rules


class Command(BaseCommand):
    """Prints one line for each process."""

    help = (
        "Print an ACL SETUSER command for each process: the keys of this namespace that it reads and writes, and the "
        "commands that it sends. Pipe them into redis-cli. They hold no password and change none: give each user one "
        "with ACL SETUSER <user> '>password'."
    )
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        """Add --process and --redis-6."""
        parser.add_argument("--process", choices=sorted(RIGHTS), help="only this process")
        parser.add_argument(
            "--redis-6",
            action="store_true",
            help="for Redis 6.2, which cannot keep workers from writing documents",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Print the lines."""
        for process in [options["process"]] if options["process"] else RIGHTS:
            rules = acl_rules(settings.REDIS_NAMESPACE, process, has_read_only=not options["redis_6"])
            self.stdout.write(f"ACL SETUSER {settings.REDIS_NAMESPACE}-{process} {' '.join(rules)}")
