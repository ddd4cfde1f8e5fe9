"""The dashboard's place in Django."""

from django.apps import AppConfig


class DashboardConfig(AppConfig):
    """The admin site with its pages."""

    name = "dashboard"

    def ready(self) -> None:
        """Register every page once all models are loaded."""
        from dashboard import pages  # the models are not ready before this

        pages.register()
