"""The dashboard's place in Django."""

from django.apps import AppConfig


class DashboardConfig(AppConfig):
    """The admin site with its pages."""

    name = "dashboard"
