"""The settings of an account as a whole."""

from django.apps import AppConfig


class AccountSettingsConfig(AppConfig):
    """Provides the documents of this app's rows, as the data plane sees them."""

    name = "account_settings"
    # The tables, the migrations and the permissions keep their first name.
    label = "gateway_configuration"

    def ready(self) -> None:
        """Register the document's functions once the models are loaded."""
        from account_settings import snapshot_documents
        from snapshots import document_kinds

        document_kinds.provide(
            "settings",
            documents=snapshot_documents.documents,
            all_documents=snapshot_documents.all_documents,
        )
