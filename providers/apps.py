"""The app of custom providers, the catalog and managed keys."""

import msgspec
from django.apps import AppConfig


def _catalog_documents() -> dict[str, msgspec.Struct]:
    # Late: the price data takes 0.4 s to import, and only the publisher of the catalog needs it.
    from providers.catalog import build_documents

    return build_documents()


class ProvidersConfig(AppConfig):
    """Provides the documents of this app's rows, as the data plane sees them."""

    name = "providers"

    def ready(self) -> None:
        """Register the functions of documents and catalog once the models are loaded."""
        from providers import snapshot_documents
        from snapshots import document_kinds

        document_kinds.provide(
            "provider",
            documents=snapshot_documents.documents,
            all_documents=snapshot_documents.all_documents,
        )
        document_kinds.CATALOG.provide(_catalog_documents)
