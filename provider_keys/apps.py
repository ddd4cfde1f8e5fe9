"""The app of provider keys."""

from django.apps import AppConfig


class ProviderKeysConfig(AppConfig):
    """Provides the documents of this app's rows, as the data plane sees them."""

    name = "provider_keys"

    def ready(self) -> None:
        """Register the documents' functions once the models are loaded."""
        from provider_keys import snapshot_documents
        from snapshots import document_kinds

        document_kinds.provide(
            "providerKey",
            documents=snapshot_documents.documents,
            all_documents=snapshot_documents.all_documents,
        )
