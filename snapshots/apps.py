"""The outbox, the publisher, the rebuild of Redis, and the workers' acknowledgements."""

from django.apps import AppConfig


class SnapshotsConfig(AppConfig):
    """Provides what `rest` needs to know of publications."""

    name = "snapshots"

    def ready(self) -> None:
        """Provide it, once the models are there."""
        from rest.propagation import PUBLICATIONS
        from snapshots.receipts import PublicationReceipts

        PUBLICATIONS.provide(PublicationReceipts())
