"""Access keys: what apps show to the data plane."""

from django.apps import AppConfig


class AccessKeysConfig(AppConfig):
    """Tells the snapshot how this room's rows look to the data plane."""

    name = "access_keys"

    def ready(self) -> None:
        """Register the documents, once the models are there."""
        from access_keys import snapshot_documents
        from snapshots import document_kinds

        document_kinds.register(
            kind="token",
            order=document_kinds.TOKEN,
            documents=snapshot_documents.documents,
            all_documents=snapshot_documents.all_documents,
        )
