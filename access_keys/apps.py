"""Access keys: what apps show to the data plane."""

from django.apps import AppConfig


class AccessKeysConfig(AppConfig):
    """Tells the snapshot how this room's rows look to the data plane."""

    name = "access_keys"

    def ready(self) -> None:
        """Register the documents, once the models are there."""
        from access_keys import snapshot
        from snapshots import registry

        registry.register(
            kind="token",
            order=registry.TOKEN,
            documents=snapshot.documents,
            all_documents=snapshot.all_documents,
        )
