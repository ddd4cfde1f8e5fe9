"""The settings of an account as a whole."""

from django.apps import AppConfig


class AccountSettingsConfig(AppConfig):
    """Tells the snapshot how this room's rows look to the data plane."""

    name = "account_settings"
    # The tables, the migrations and the permissions keep the name that they were made under.
    label = "gateway_configuration"

    def ready(self) -> None:
        """Register the document, once the models are there."""
        from account_settings import snapshot_documents
        from snapshots import document_kinds

        document_kinds.register(
            kind="settings",
            order=document_kinds.SETTINGS,
            documents=snapshot_documents.documents,
            all_documents=snapshot_documents.all_documents,
        )
