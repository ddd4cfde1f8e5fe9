"""Access scopes and routing rules."""

from django.apps import AppConfig


class ConfigurationsConfig(AppConfig):
    """Tells the snapshot how this room's rows look to the data plane."""

    name = "configurations"

    def ready(self) -> None:
        """Register the documents, once the models are there."""
        from configurations import snapshot
        from snapshots import registry

        registry.register(
            kind="configuration",
            order=registry.CONFIGURATION,
            documents=snapshot.documents,
            all_documents=snapshot.all_documents,
        )
