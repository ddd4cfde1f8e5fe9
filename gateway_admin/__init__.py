"""The Django project: settings, URLs, entry points, and what starts everything."""
