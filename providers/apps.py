"""Custom providers, and what an account can name."""

from django.apps import AppConfig

from gateway_core.catalog import ModelsDocument


def _models_document() -> ModelsDocument:
    # Late: the price data takes 0.4 s to import, and only the publisher of the catalog needs it.
    from providers.catalog import build_models_document

    return build_models_document()


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
        registry.register_catalog(_models_document)
