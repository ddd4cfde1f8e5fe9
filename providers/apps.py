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
        from providers import snapshot
        from snapshots import registry

        registry.register(
            kind="provider",
            order=registry.PROVIDER,
            documents=snapshot.documents,
            all_documents=snapshot.all_documents,
        )
        registry.register_catalog(_catalog_documents)
