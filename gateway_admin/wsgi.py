"""The control plane's WSGI entry."""

import os

from django.core.wsgi import get_wsgi_application

from gateway_admin.database import BoundedConnection

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gateway_admin.settings")
# Seconds. Less than the pool's own time-out, so that a request with a silent connection can still get a good one.
BoundedConnection.silence_seconds = 4.0
application = get_wsgi_application()
