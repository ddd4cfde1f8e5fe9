"""The Django project that puts the rooms together: settings, URLs, Celery, health and metrics."""
