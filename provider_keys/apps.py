"""Sealed upstream keys."""

from django.apps import AppConfig


class ProviderKeysConfig(AppConfig):
    """Tells the snapshot how this room's rows look to the data plane."""

    name = "provider_keys"

    def ready(self) -> None:
        """Register the documents, once the models are there."""
        from provider_keys import snapshot_documents
        from snapshots import document_kinds

        document_kinds.register(
            kind="providerKey",
            order=document_kinds.PROVIDER_KEY,
            documents=snapshot_documents.documents,
            all_documents=snapshot_documents.all_documents,
        )
