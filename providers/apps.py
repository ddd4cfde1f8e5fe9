"""Custom providers, and what an account can name."""

import msgspec
from django.apps import AppConfig


def _catalog_documents() -> dict[str, msgspec.Struct]:
    # Late: the price data takes 0.4 s to import, and only the publisher of the catalog needs it.
    from providers.catalog import build_documents

    return build_documents()


class ProvidersConfig(AppConfig):
    """Tells the snapshot how this room's rows look to the data plane."""

    name = "providers"

    def ready(self) -> None:
        """Register the documents and the catalog, once the models are there."""
        from providers import snapshot_documents
        from snapshots import document_kinds

        document_kinds.register(
            kind="provider",
            order=document_kinds.PROVIDER,
            documents=snapshot_documents.documents,
            all_documents=snapshot_documents.all_documents,
        )
        document_kinds.register_catalog(_catalog_documents)
