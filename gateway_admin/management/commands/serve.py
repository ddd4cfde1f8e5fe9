"""`manage.py serve`: the management API and the dashboard, on uvicorn."""

from typing import Any

import uvicorn
from django.core.management.base import BaseCommand, CommandParser

from gateway_admin import environment
from gateway_admin.connections import HEAD_BYTES, IDLE_SECONDS, BoundedProtocol

_GRACE_SECONDS = 10
_HANGING_SECONDS = 60


class Command(BaseCommand):
    """Runs until SIGTERM or SIGINT; requests in flight end first."""

    help = "Serve the management API and the dashboard until SIGTERM."
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        """Where, and by how many processes."""
        parser.add_argument("--host", default="127.0.0.1", help="the address to listen on (127.0.0.1)")
        parser.add_argument(
            "--port",
            type=int,
            default=int(environment.read("CONTROL_PLANE_PORT", "8000")),
            help="the port to listen on (CONTROL_PLANE_PORT, or 8000)",
        )
        parser.add_argument("--processes", type=int, default=1, help="how many processes serve (1)")

    def handle(self, *args: Any, host: str, port: int, processes: int, **options: Any) -> None:
        """Serve."""
        uvicorn.run(
            "gateway_admin.asgi:application",
            host=host,
            port=port,
            workers=processes,
            http=BoundedProtocol,
            ws="none",
            loop="asyncio",
            lifespan="off",
            access_log=False,
            log_config=None,
            # A line for each malformed request would let strangers fill the log.
            log_level="error",
            server_header=False,
            proxy_headers=False,
            h11_max_incomplete_event_size=HEAD_BYTES,
            timeout_keep_alive=round(IDLE_SECONDS),
            # By default a process that is slow to import Django would be taken for one that hangs.
            timeout_worker_healthcheck=_HANGING_SECONDS,
            timeout_graceful_shutdown=_GRACE_SECONDS,
        )
