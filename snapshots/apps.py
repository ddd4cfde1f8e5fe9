"""The outbox, the publisher, the rebuild of Redis, and the workers' acknowledgements."""

from django.apps import AppConfig


class SnapshotsConfig(AppConfig):
    """Provides the room `rest` with reports on publications."""

    name = "snapshots"

    def ready(self) -> None:
        """Register the provider once the models are loaded."""
        from rest.propagation import PUBLICATIONS
        from snapshots.receipts import PublicationReceipts

        PUBLICATIONS.provide(PublicationReceipts())
