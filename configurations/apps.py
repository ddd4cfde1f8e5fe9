"""Access scopes and routing rules."""

from django.apps import AppConfig


class ConfigurationsConfig(AppConfig):
    """Tells the snapshot how this room's rows look to the data plane."""

    name = "configurations"

    def ready(self) -> None:
        """Register the documents, once the models are there."""
        from configurations import snapshot_documents
        from snapshots import document_kinds

        document_kinds.register(
            kind="configuration",
            order=document_kinds.CONFIGURATION,
            documents=snapshot_documents.documents,
            all_documents=snapshot_documents.all_documents,
        )
