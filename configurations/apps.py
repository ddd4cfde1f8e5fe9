"""Access scopes and routing rules."""

from django.apps import AppConfig


class ConfigurationsConfig(AppConfig):
    """Provides the documents of this app's rows, as the data plane sees them."""

    name = "configurations"

    def ready(self) -> None:
        """Register the documents' functions once the models are loaded."""
        from configurations import snapshot_documents
        from snapshots import document_kinds

        document_kinds.provide(
            "configuration",
            documents=snapshot_documents.documents,
            all_documents=snapshot_documents.all_documents,
        )
