"""Sealed upstream keys."""

from django.apps import AppConfig


class ProviderKeysConfig(AppConfig):
    """Tells the snapshot how this room's rows look to the data plane."""

    name = "provider_keys"

    def ready(self) -> None:
        """Register the documents, once the models are there."""
        from provider_keys import snapshot
        from snapshots import registry

        registry.register(
            kind="providerKey",
            order=registry.PROVIDER_KEY,
            documents=snapshot.documents,
            all_documents=snapshot.all_documents,
        )
