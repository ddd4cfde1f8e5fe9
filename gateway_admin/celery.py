"""The Celery application, for work that need not be done within a request."""

import os
from typing import Any

from celery import Celery
from celery.signals import task_success

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gateway_admin.settings")
app = Celery("gateway_admin")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@task_success.connect(weak=False)
def _note(sender: Any = None, **signal: Any) -> None:
    # Models can only be imported when Django is ready, and it is by now.
    from gateway_admin.heartbeats import beat_of_task

    beat_of_task(sender=sender, **signal)
