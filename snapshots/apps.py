"""The outbox, the publisher, the relay, and the workers' acknowledgements."""

from django.apps import AppConfig


class SnapshotsConfig(AppConfig):
    """Makes this room the one that tells of publications."""

    name = "snapshots"

    def ready(self) -> None:
        """Wire what rest leaves to this room."""
        from rest.propagation import tell_with
        from snapshots.receipts import PublicationReceipts

        tell_with(PublicationReceipts())
