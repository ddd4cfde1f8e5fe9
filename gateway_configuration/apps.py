"""The settings of an account as a whole."""

from django.apps import AppConfig


class GatewayConfigurationConfig(AppConfig):
    """Tells the snapshot how this room's rows look to the data plane."""

    name = "gateway_configuration"

    def ready(self) -> None:
        """Register the document, once the models are there."""
        from gateway_configuration import snapshot
        from snapshots import registry

        registry.register(
            kind="settings",
            order=registry.SETTINGS,
            documents=snapshot.documents,
            all_documents=snapshot.all_documents,
        )
