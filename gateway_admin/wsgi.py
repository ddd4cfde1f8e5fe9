"""The control plane's WSGI entry."""

import os

from django.core.wsgi import get_wsgi_application

from gateway_admin.database import BoundedConnection

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gateway_admin.settings")
# Less than the pool's own patience, so that one silent connection ends the wait for a good one.
BoundedConnection.silence_seconds = 4.0
application = get_wsgi_application()
