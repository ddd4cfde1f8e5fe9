"""The app of access keys."""

from django.apps import AppConfig


class AccessKeysConfig(AppConfig):
    """Provides the documents of this app's rows, as the data plane sees them."""

    name = "access_keys"

    def ready(self) -> None:
        """Register the documents' functions once the models are loaded."""
        from access_keys import snapshot_documents
        from snapshots import document_kinds

        document_kinds.provide(
            "token",
            documents=snapshot_documents.documents,
            all_documents=snapshot_documents.all_documents,
            owners=snapshot_documents.owners,
        )
