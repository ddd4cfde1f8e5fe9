"""The Django application of the dashboard."""

from django.apps import AppConfig


class DashboardConfig(AppConfig):
    """Registers the admin site that serves the pages."""

    name = "dashboard"
