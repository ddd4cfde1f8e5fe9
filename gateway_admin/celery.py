"""The Celery application, for work that need not be done within a request."""

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gateway_admin.settings")
app = Celery("gateway_admin")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
